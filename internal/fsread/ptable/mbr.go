package ptable

import (
	"encoding/binary"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

var le = binary.LittleEndian

const (
	sectorSize  = 512
	mbrEntries  = 446
	mbrSlots    = 4
	typeGPT     = 0xee
	diskID      = 0x1b8
	firstInside = 5 // number of the first logical partition
)

// slot is an entry of an MBR.
type slot struct {
	active       byte
	kind         byte
	first, count uint32 // sectors
}

func slots(sector []byte) (all [mbrSlots]slot) {
	for i := range all {
		b := sector[mbrEntries+16*i:]
		all[i] = slot{active: b[0], kind: b[4], first: le.Uint32(b[8:]), count: le.Uint32(b[12:])}
	}
	return all
}

func (s slot) extended() bool { return s.kind == 0x05 || s.kind == 0x0f || s.kind == 0x85 }

func hasMagic(sector []byte) bool { return sector[510] == 0x55 && sector[511] == 0xaa }

// protective reports an MBR that says that a GPT counts. Linux wants it to begin
// where the GPT does; other entries of the type hide the disk from it.
func protective(sector []byte) bool {
	for _, s := range slots(sector) {
		if s.kind == typeGPT && s.count > 0 {
			return true
		}
	}
	return false
}

// readMBR reads the partitions of the first sector and those inside of them.
func readMBR(disk image.Image, sector []byte) (*Table, error) {
	all := slots(sector)
	for _, s := range all {
		if s.active != 0 && s.active != 0x80 {
			return nil, fsread.ErrOther // the boot code of a file system
		}
	}
	id := le.Uint32(sector[diskID:])
	t := &Table{Kind: MBR, Sector: sectorSize, UUID: fmt.Sprintf("%08x", id)}
	used := false
	for i, s := range all {
		if s.count == 0 {
			continue
		}
		used = true
		if !s.extended() {
			t.addSlot(disk, s, i+1, uint64(s.first), id)
		}
	}
	if !used {
		return nil, fsread.ErrOther
	}
	next := firstInside
	for _, s := range all {
		if s.count == 0 || !s.extended() {
			continue
		}
		c := chain{table: t, disk: disk, id: id, first: uint64(s.first), count: uint64(s.count), number: next}
		if err := c.read(); err != nil {
			return nil, err
		}
		next = c.number
	}
	return t, nil
}

func (t *Table) addSlot(disk image.Image, s slot, number int, first uint64, id uint32) {
	t.add(disk, Partition{
		Number: number, Type: fmt.Sprintf("0x%02x", s.kind), UUID: fmt.Sprintf("%08x-%02x", id, number),
	}, first, uint64(s.count))
}

// chain is the sectors that describe logical partitions.
type chain struct {
	table        *Table
	disk         image.Image
	id           uint32
	first, count uint64 // sectors of the extended partition
	number       int    // of the next logical partition
}

func (c *chain) read() error {
	at, size := c.first, c.count
	seen := map[uint64]bool{}
	for {
		switch {
		case seen[at]:
			c.table.note("the chain of logical partitions leads back to sector %d and ends there", at)
			return nil
		case len(seen) == MaxPartitions:
			c.table.note("the chain of logical partitions has more than %d links and ends there", MaxPartitions)
			return nil
		case at >= uint64(c.disk.Size()/sectorSize):
			c.table.note("the chain of logical partitions goes on behind the end of the disk, at sector %d", at)
			return nil
		}
		seen[at] = true
		var sector [sectorSize]byte
		if err := fsread.ReadFull(c.disk, "mbr", sector[:], int64(at)*sectorSize); err != nil {
			return err
		}
		if !hasMagic(sector[:]) {
			c.table.note("the chain of logical partitions ends at sector %d, which is none of it", at)
			return nil
		}
		next, ok := c.link(slots(sector[:]), at, size)
		if !ok {
			return nil
		}
		at, size = c.first+uint64(next.first), uint64(next.count)
	}
}

// link lists the partitions of a sector and gives the entry for the next one. The
// third and the fourth entry are often leftovers: they count if they make sense.
func (c *chain) link(all [mbrSlots]slot, at, size uint64) (next slot, ok bool) {
	for i, s := range all {
		first, count := at+uint64(s.first), uint64(s.count)
		switch {
		case count == 0:
		case s.extended():
			if !ok {
				next, ok = s, true
			}
		case i >= 2 && (uint64(s.first)+count > size || first < c.first || first+count > c.first+c.count):
		default:
			c.table.addSlot(c.disk, s, c.number, first, c.id)
			c.number++
		}
	}
	return next, ok
}
