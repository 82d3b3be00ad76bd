package ptable

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

const (
	gptMagic   = "EFI PART"
	gptHeader  = 92
	gptEntry   = 128
	gptNameEnd = 128       // of an entry, after 36 units of UTF-16
	maxEntries = 512 << 10 // bytes
)

// header is that of a GPT.
type header struct {
	sector      int64
	firstUsable uint64
	lastUsable  uint64
	entries     uint64 // sector
	count, size uint32
	crc         uint32
	uuid        string
}

// readGPT finds the table, in sectors of any size, first where it should be.
func readGPT(disk image.Image) (*Table, error) {
	var problem error
	for _, backup := range []bool{false, true} {
		for sector := int64(sectorSize); sector <= 4096; sector *= 2 {
			at := int64(1)
			if backup {
				at = disk.Size()/sector - 1
			}
			t, err := readGPTAt(disk, sector, at)
			switch {
			case err == nil:
				if backup {
					t.note("the partition table at the start of the disk is damaged; the one at its end counts: %v", problem)
				}
				return t, nil
			case errors.Is(err, fsread.ErrOther):
			case !fsread.IsCorrupt(err):
				return nil, err
			case problem == nil:
				problem = err
			}
		}
		if problem == nil {
			problem = fsread.Corrupt(GPT, "the first sector says that there is one, and there is none")
		}
	}
	return nil, problem
}

// readGPTAt reads the table whose header is sector at.
func readGPTAt(disk image.Image, sector, at int64) (*Table, error) {
	if at < 1 || (at+1)*sector > disk.Size() {
		return nil, fsread.ErrOther
	}
	b := make([]byte, sector)
	if err := fsread.ReadFull(disk, GPT, b, at*sector); err != nil {
		return nil, err
	}
	h, err := parseHeader(b, uint64(at), uint64(disk.Size()/sector)-1)
	if err != nil {
		return nil, err
	}
	h.sector = sector
	total := int64(h.count) * int64(h.size)
	entries := make([]byte, total)
	if h.entries > uint64(disk.Size()/sector) {
		return nil, fsread.Corrupt(GPT, "entries at sector %d, behind the end of the disk", h.entries)
	}
	if err := fsread.ReadFull(disk, GPT, entries, int64(h.entries)*sector); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(entries) != h.crc {
		return nil, fsread.Corrupt(GPT, "the checksum of the entries is wrong")
	}
	return h.table(disk, entries), nil
}

// parseHeader checks the header in sector at of a disk whose last sector is last.
func parseHeader(b []byte, at, last uint64) (header, error) {
	if string(b[:8]) != gptMagic {
		return header{}, fsread.ErrOther
	}
	size := le.Uint32(b[12:])
	if size < gptHeader || uint64(size) > uint64(len(b)) {
		return header{}, fsread.Corrupt(GPT, "a header of %d bytes", size)
	}
	sum := le.Uint32(b[16:])
	checked := bytes.Clone(b[:size])
	clear(checked[16:20])
	if crc32.ChecksumIEEE(checked) != sum {
		return header{}, fsread.Corrupt(GPT, "the checksum of the header in sector %d is wrong", at)
	}
	h := header{
		firstUsable: le.Uint64(b[40:]), lastUsable: le.Uint64(b[48:]), uuid: guid(b[56:]), entries: le.Uint64(b[72:]),
		count: le.Uint32(b[80:]), size: le.Uint32(b[84:]), crc: le.Uint32(b[88:]),
	}
	switch {
	case le.Uint64(b[24:]) != at:
		return h, fsread.Corrupt(GPT, "the header in sector %d belongs into sector %d", at, le.Uint64(b[24:]))
	case h.firstUsable > last, h.lastUsable > last, h.lastUsable < h.firstUsable:
		return h, fsread.Corrupt(GPT, "partitions are in sectors %d to %d, the last one of the disk is %d", h.firstUsable, h.lastUsable, last)
	case h.size < gptEntry || h.size > 4096 || h.size&(h.size-1) != 0:
		return h, fsread.Corrupt(GPT, "entries of %d bytes", h.size)
	case uint64(h.count)*uint64(h.size) > maxEntries:
		return h, fsread.Unsupported(GPT, "a table of %d partitions", h.count)
	}
	return h, nil
}

func (h header) table(disk image.Image, entries []byte) *Table {
	t := &Table{Kind: GPT, UUID: h.uuid, Sector: h.sector}
	for i := 0; len(entries) > 0; i, entries = i+1, entries[h.size:] {
		first, last := le.Uint64(entries[32:]), le.Uint64(entries[40:])
		if [16]byte(entries) == [16]byte{} {
			continue
		}
		p := Partition{Number: i + 1, Type: guid(entries), UUID: guid(entries[16:]), Name: name(entries[56:gptNameEnd])}
		if last < first {
			t.note("partition %d ends before it begins and is left out", p.Number)
			continue
		}
		n := last - first + 1
		if n == 0 {
			n = last // all 2^64
		}
		t.add(disk, p, first, n)
	}
	return t
}

// guid writes a GUID, whose first three parts are little-endian.
func guid(b []byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

// name is UTF-16 up to a zero.
func name(b []byte) string {
	var units []uint16
	for ; len(b) >= 2 && le.Uint16(b) != 0; b = b[2:] {
		units = append(units, le.Uint16(b))
	}
	return fsread.UTF16(units)
}
