package tapefile

import "fmt"

// Content is what a tape file holds.
type Content int

// The contents. The magic of each is the start of SHA-256 of its name.
const (
	MediumLabel        Content = iota + 1
	MediaSetLabel              // media-set label
	Chunks                     // chunk archive
	RootSnapshot               // snapshot archive, of the root namespace
	NamespacedSnapshot         // snapshot archive, of another namespace
	RootCatalog                // catalog archive, without namespaces
	NamespacedCatalog          // catalog archive, with namespaces
)

type contentKind struct {
	name, says string // the name hashed for the magic, and what messages say
	magic      [8]byte
}

// contents is what the constants mean, in their order.
var contents = []contentKind{
	{"Proxmox Backup Tape Label v1.0", "label", [8]byte{0x2a, 0x05, 0xbf, 0x3c, 0xb0, 0x30, 0xaa, 0x39}},
	{"Proxmox Backup MediaSet Label v1.0", "media-set label", [8]byte{0x08, 0x60, 0x63, 0xf9, 0x2f, 0x97, 0x53, 0xd8}},
	{"Proxmox Backup Chunk Archive v1.1", "chunk archive", [8]byte{0x6d, 0x31, 0x63, 0x6d, 0xd7, 0x02, 0x83, 0xbf}},
	{"Proxmox Backup Snapshot Archive v1.1", "snapshot archive", [8]byte{0xda, 0x16, 0x15, 0xd0, 0x11, 0xe2, 0x9a, 0x62}},
	{"Proxmox Backup Snapshot Archive v1.2", "snapshot archive", [8]byte{0x62, 0x10, 0x36, 0x9b, 0xba, 0x10, 0x33, 0x1d}},
	{"Proxmox Backup Catalog Archive v1.0", "catalog archive", [8]byte{0xb7, 0xcf, 0xc7, 0x25, 0x9e, 0x99, 0x1e, 0x73}},
	{"Proxmox Backup Catalog Archive v1.1", "catalog archive", [8]byte{0xb3, 0xec, 0x71, 0xf0, 0xad, 0xec, 0x02, 0x60}},
}

// outdated are contents that only unreleased versions wrote. Nobody reads them.
var outdated = []contentKind{
	{"Proxmox Backup Chunk Archive v1.0", "chunk archive", [8]byte{0x3e, 0xad, 0xa7, 0x5f, 0x31, 0x4c, 0x06, 0x6e}},
	{"Proxmox Backup Snapshot Archive v1.0", "snapshot archive", [8]byte{0x09, 0xb6, 0x02, 0x1f, 0x7d, 0xe8, 0x72, 0x85}},
}

// String says what it is in a few words.
func (c Content) String() string {
	if c < 1 || int(c) > len(contents) {
		return "unknown content"
	}
	return contents[c-1].says
}

// IsSnapshot reports a snapshot archive of either kind.
func (c Content) IsSnapshot() bool { return c == RootSnapshot || c == NamespacedSnapshot }

// IsCatalog reports a catalog archive of either kind.
func (c Content) IsCatalog() bool { return c == RootCatalog || c == NamespacedCatalog }

func (c Content) magic() (m [8]byte, ok bool) {
	if c < 1 || int(c) > len(contents) {
		return m, false
	}
	return contents[c-1].magic, true
}

func contentOf(magic [8]byte) (Content, error) {
	for i, k := range contents {
		if k.magic == magic {
			return Content(i + 1), nil
		}
	}
	for _, k := range outdated {
		if k.magic == magic {
			return 0, fmt.Errorf("%w: %q was never released and is not read", ErrFormat, k.name)
		}
	}
	return 0, fmt.Errorf("%w: a content with magic %x", ErrFormat, magic)
}
