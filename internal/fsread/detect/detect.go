// Package detect says what is in an image, by the signatures that formats have at
// fixed places, and opens file systems.
//
// # Order
//
// What turns images into images comes first: members of volume groups, arrays
// and pools, encrypted volumes; the first bytes of one can look like what it holds.
// Then GPT, whose checksums tell it from what it replaced; then file systems; then
// an MBR, which has nothing but two bytes, and lies where file systems keep their
// boot code. A member of an array that says so at its end is none if that end
// belongs to a partition.
//
// # What is believed
//
// A signature is a claim. Who opens what was found checks it, and says
// [fsread.ErrOther] or that it is damaged.
//
// # Adding a format
//
// A file system is a line in the table of signatures and one in the table of
// openers. Formats that are known and not read are in the first one too: they are
// refused by their name.
package detect

import (
	"errors"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/ptable"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Class is what can be done with what was found.
type Class int

// The classes.
const (
	Nothing    Class = iota
	Table            // of partitions: package ptable reads it
	Member           // of a volume group, an array or a pool; or an encrypted volume
	FileSystem       // Open opens it
	Swap
)

// Finding is what is in an image. Type is as blkid names it, "LVM2_member", "gpt",
// "xfs", but "ext4" for ext2 and ext3 too; "" for nothing.
type Finding struct {
	Class Class
	Type  string
}

// Look reads some places of an image and says what it finds there.
func Look(img image.Image) (Finding, error) {
	p := &probe{img: img}
	f, err := look(p)
	if p.err != nil {
		return Finding{}, p.err
	}
	return f, err
}

func look(p *probe) (Finding, error) {
	for _, s := range members {
		if s.found(p) {
			return Finding{Member, s.kind}, nil
		}
	}
	table, err := ptable.Read(p.img)
	switch {
	case errors.Is(err, fsread.ErrOther):
		table = nil
	case fsread.IsCorrupt(err): // protective, and what it protects is damaged
		return Finding{Table, ptable.GPT}, nil
	case err != nil:
		return Finding{}, err
	}
	if at, ok := arrayAtEnd(p); ok && !covers(table, at) {
		return Finding{Member, raidMember}, nil
	}
	if table != nil && table.Kind == ptable.GPT {
		return Finding{Table, table.Kind}, nil
	}
	for _, s := range fileSystems {
		if s.found(p) {
			if s.class == Nothing {
				s.class = FileSystem
			}
			return Finding{s.class, s.kind}, nil
		}
	}
	if table != nil {
		return Finding{Table, table.Kind}, nil
	}
	return Finding{}, nil
}

// covers reports that a byte of the disk belongs to a partition.
func covers(t *ptable.Table, at int64) bool {
	if t == nil {
		return false
	}
	for _, p := range t.Partitions {
		if at >= p.Start && at < p.Start+p.Size {
			return true
		}
	}
	return false
}
