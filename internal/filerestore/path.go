package filerestore

import (
	"errors"
	"fmt"
	"strings"
)

// ErrPath is wrapped by errors about what a user wrote as a path.
var ErrPath = errors.New("not a path of file restore")

// Buckets are the first components below an image.
const (
	BucketRaw   = "raw"
	BucketPart  = "part"
	BucketLVM   = "lvm"
	BucketMD    = "md"
	BucketZpool = "zpool"
)

// Path is a place in a snapshot: an archive and the names below it.
type Path struct {
	Archive string   // as in the manifest: "drive-scsi0.img.fidx"; "": the snapshot itself
	Names   []string // never "", "." or ".."
}

// ParsePath takes apart what a user wrote. Empty names are left out, ".." is
// refused: it would mean something else behind a symbolic link.
func ParsePath(s string) (Path, error) {
	var p Path
	for name := range strings.SplitSeq(s, "/") {
		switch {
		case name == "" || name == ".":
			continue
		case name == "..":
			return Path{}, fmt.Errorf("%w: %q has \"..\" in it", ErrPath, s)
		case strings.ContainsRune(name, 0):
			return Path{}, fmt.Errorf("%w: %q has a NUL in it", ErrPath, s)
		}
		p.Names = append(p.Names, name)
	}
	if len(p.Names) > 0 {
		p.Archive, p.Names = p.Names[0], p.Names[1:]
	}
	return p, nil
}

// String writes the path with its leading slash.
func (p Path) String() string {
	if p.Archive == "" {
		return "/"
	}
	return "/" + strings.Join(append([]string{p.Archive}, p.Names...), "/")
}

// Join is the path of a name below p.
func (p Path) Join(name string) Path {
	if p.Archive == "" {
		return Path{Archive: name}
	}
	return Path{Archive: p.Archive, Names: append(p.Names[:len(p.Names):len(p.Names)], name)}
}

// Base is the last name of the path.
func (p Path) Base() string {
	if len(p.Names) == 0 {
		return p.Archive
	}
	return p.Names[len(p.Names)-1]
}
