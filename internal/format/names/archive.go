package names

import "strings"

// Archive is the name of one file of a snapshot on the server, with the
// extension that says what it is. Only ParseArchive and ServerName make one
// from outside text.
type Archive string

// Archives with a meaning of their own. Manifest and ClientLog are not listed
// in the manifest.
const (
	Manifest        Archive = "index.json.blob"
	ClientLog       Archive = "client.log.blob"
	RSAEncryptedKey Archive = "rsa-encrypted.key.blob"
	Catalog         Archive = "catalog.pcat1.didx" // the names in all file archives of version 1
)

// Kind is what an archive is made of.
type Kind uint8

// Kinds of archives; the zero Kind belongs to no valid name.
const (
	Fidx Kind = iota + 1 // index with chunks of one size: disk images
	Didx                 // index with chunks of any size: file archives
	Blob                 // one small file
)

// String returns the extension without its dot.
func (k Kind) String() string {
	switch k {
	case Fidx:
		return "fidx"
	case Didx:
		return "didx"
	case Blob:
		return "blob"
	}
	return "none"
}

// ParseArchive reads a server name such as "drive-scsi0.img.fidx".
func ParseArchive(s string) (Archive, error) {
	a := Archive(s)
	if a.Kind() == 0 || !IsSafeID(s) || len(s) > maxComponent {
		return "", refuse("archive name", s, "want at most 255 of A-Z a-z 0-9 _ . - that end in .fidx, .didx or .blob")
	}
	return a, nil
}

// ServerName returns the archive for a name as clients use it: the extension
// decides, img becomes .fidx; pxar, mpxar, ppxar and pcat1 become .didx; conf,
// json, key and log become .blob. A name that already ends in a server's
// extension is taken as it is.
func ServerName(s string) (Archive, error) {
	if Archive(s).Kind() != 0 {
		return ParseArchive(s)
	}
	switch s[max(strings.LastIndexByte(s, '.'), 0):] {
	case ".img":
		return ParseArchive(s + ".fidx")
	case ".pxar", ".mpxar", ".ppxar", ".pcat1":
		return ParseArchive(s + ".didx")
	case ".conf", ".json", ".key", ".log":
		return ParseArchive(s + ".blob")
	}
	return "", refuse("archive name", s, "want a name that ends in .img, .pxar, .mpxar, .ppxar, .pcat1, .conf, .json, .key or .log")
}

// Kind returns what the extension says, 0 when it says nothing.
func (a Archive) Kind() Kind {
	s := string(a)
	switch {
	case strings.HasSuffix(s, ".fidx"):
		return Fidx
	case strings.HasSuffix(s, ".didx"):
		return Didx
	case strings.HasSuffix(s, ".blob"):
		return Blob
	}
	return 0
}

// String returns the full server name.
func (a Archive) String() string { return string(a) }

// Base returns the name without the server's extension.
func (a Archive) Base() string {
	if a.Kind() == 0 {
		return string(a)
	}
	return string(a[:len(a)-len(".fidx")]) // all three are of one length
}

// ClientName returns the shortest name that ServerName finds again:
// "drive-scsi0.img", and "disk.fidx" for an image that some program has given no
// ".img".
func (a Archive) ClientName() string {
	short := a.Base()
	if back, err := ServerName(short); err != nil || back != a {
		return string(a)
	}
	return short
}
