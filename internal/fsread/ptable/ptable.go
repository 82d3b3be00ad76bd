// Package ptable reads partition tables: GPT, and MBR with logical partitions.
//
// # Which table counts
//
// As for Linux: a protective entry (type ee, from sector 1) in the first sector
// makes it a GPT disk, whatever else the sector has (a hybrid); else what the
// first sector has counts. A GPT says how large its sectors are by where it is:
// its header is sector 1, of 512 to 4096 bytes. Of an MBR nothing says it; they
// are taken as 512 bytes.
//
// # GPT
//
// The header has a checksum, its own place, and the place, number, size and
// checksum of the entries. If the first one is not whole, the one in the last
// sector of the image counts, with a notice: Linux does that when told to.
//
// # MBR
//
// Four entries of 16 bytes from byte 446: a flag, 3 bytes, type, 3 bytes, first
// sector, number of sectors. An extended partition (types 05, 0f, 85) holds a
// chain of such sectors: in each, entries for logical partitions, from its own
// place, and one for the next sector, from the start of the chain. Extended partitions
// themselves are not listed. Logical ones have numbers from 5.
//
// # What is believed
//
// A partition that begins behind the end of the image is left out, one that ends
// behind it is cut, both with a notice, as Linux does it. A chain that leads back to
// itself ends there, with a notice. There are at most [MaxPartitions], and a GPT's
// entries have at most [maxEntries] bytes.
package ptable

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// MaxPartitions is how many partitions a disk has, as for Linux.
const MaxPartitions = 255

// The kinds of tables, as blkid names them.
const (
	GPT = "gpt"
	MBR = "dos"
)

// Table is the partitions of a disk.
type Table struct {
	Kind       string // GPT or MBR
	UUID       string // of the disk, as blkid prints it
	Sector     int64  // bytes
	Partitions []Partition
	Notices    []string
}

// Partition is a part of a disk.
type Partition struct {
	Number      int   // that the kernel gives it: 1 is /dev/sda1
	Start, Size int64 // bytes
	Type        string
	Name        string // of GPT, else ""
	UUID        string // as blkid prints it
}

// Image is what lies in the partition.
func (p Partition) Image(disk image.Image) (image.Image, error) {
	return image.NewSection(disk, p.Start, p.Size)
}

// Read reads the partition table of a disk. It is [fsread.ErrOther] if there is
// none.
func Read(disk image.Image) (*Table, error) {
	if disk.Size() < sectorSize {
		return nil, fsread.ErrOther
	}
	var sector [sectorSize]byte
	if err := fsread.ReadFull(disk, "mbr", sector[:], 0); err != nil {
		return nil, err
	}
	if !hasMagic(sector[:]) {
		return nil, fsread.ErrOther
	}
	if protective(sector[:]) {
		return readGPT(disk)
	}
	return readMBR(disk, sector[:])
}

// add takes a partition of n sectors in, if it is on the disk and there is room.
func (t *Table) add(disk image.Image, p Partition, first, n uint64) {
	sectors := uint64(disk.Size() / t.Sector)
	switch {
	case len(t.Partitions) == MaxPartitions:
		return
	case first >= sectors:
		t.note("partition %d begins behind the end of the disk and is left out", p.Number)
		return
	case n > sectors-first:
		t.note("partition %d ends %d sectors behind the end of the disk", p.Number, n-(sectors-first))
		n = sectors - first
	}
	p.Start, p.Size = int64(first)*t.Sector, int64(n)*t.Sector
	t.Partitions = append(t.Partitions, p)
}

func (t *Table) note(format string, args ...any) {
	t.Notices = append(t.Notices, fmt.Sprintf(format, args...))
}
