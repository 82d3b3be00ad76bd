package inspect

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

var qcow2Magic = []byte{'Q', 'F', 'I', 0xfb}

// qField is one big-endian integer of the header.
type qField struct {
	off, n int
	name   string
	say    func(uint64) (value, problem string)
}

func plainNumber(v uint64) (string, string) { return strconv.FormatUint(v, 10), "" }
func plainOffset(v uint64) (string, string) { return fmt.Sprintf("offset %#x", v), "" }

var qcow2Fields = []qField{
	{4, 4, "version", func(v uint64) (string, string) {
		if v != 2 && v != 3 {
			return strconv.FormatUint(v, 10), "only 2 and 3 are known"
		}
		return strconv.FormatUint(v, 10), ""
	}},
	{8, 8, "backing file name", plainOffset},
	{16, 4, "length of that name", plainNumber},
	{20, 4, "cluster bits", func(v uint64) (string, string) {
		if v < 9 || v > 21 {
			return strconv.FormatUint(v, 10), "must lie in 9..21"
		}
		return fmt.Sprintf("%d, clusters of %s", v, byteCount(1<<v)), ""
	}},
	{24, 8, "virtual size", func(v uint64) (string, string) {
		if v > 1<<63-1 {
			return strconv.FormatUint(v, 10), "too large"
		}
		return byteCount(v), ""
	}},
	{32, 4, "encryption", func(v uint64) (string, string) {
		return [...]string{"none", "AES", "LUKS", "unknown"}[min(v, 3)], ""
	}},
	{36, 4, "L1 entries", plainNumber},
	{40, 8, "L1 table", plainOffset},
	{48, 8, "refcount table", plainOffset},
	{56, 4, "refcount table clusters", plainNumber},
	{60, 4, "internal snapshots", plainNumber},
	{64, 8, "snapshot table", plainOffset},
}

var qcow2V3Fields = []qField{
	{72, 8, "incompatible features", features("dirty", "corrupt", "external data file", "compression type", "extended L2")},
	{80, 8, "compatible features", features("lazy refcounts")},
	{88, 8, "autoclear features", features("bitmaps", "raw external data")},
	{96, 4, "refcount order", plainNumber},
	{100, 4, "header length", func(v uint64) (string, string) {
		if v < 104 || v%8 != 0 {
			return strconv.FormatUint(v, 10), "must be at least 104 and a multiple of 8"
		}
		return strconv.FormatUint(v, 10), ""
	}},
}

// features names the bits of a feature field.
func features(known ...string) func(uint64) (string, string) {
	return func(v uint64) (string, string) {
		var set []string
		for i := range 64 {
			switch {
			case v>>i&1 == 0:
			case i < len(known):
				set = append(set, known[i])
			default:
				set = append(set, fmt.Sprintf("unknown bit %d", i))
			}
		}
		if set == nil {
			return "none", ""
		}
		return strings.Join(set, ", "), ""
	}
}

func (d *dump) qcow2(head []byte) error {
	d.field(head, 0, 4, "magic", `QFI\xfb`, "")
	if d.short(head, 72, "a qcow2 header") {
		return nil
	}
	be := binary.BigEndian
	version := be.Uint32(head[4:])
	fields, end := qcow2Fields, int64(72)
	if version >= 3 {
		if d.short(head, 104, "a header of version 3") {
			return nil
		}
		fields = append(fields[:len(fields):len(fields)], qcow2V3Fields...)
		end = int64(be.Uint32(head[100:]))
	}
	for _, f := range fields {
		v := uint64(be.Uint32(head[f.off:]))
		if f.n == 8 {
			v = be.Uint64(head[f.off:])
		}
		value, problem := f.say(v)
		d.field(head, f.off, f.n, f.name, value, problem)
	}
	d.qcow2Extensions(head, end)
	d.qcow2Backing(head)
	return nil
}

// qcow2Extensions shows the header extensions that lie in the first page.
func (d *dump) qcow2Extensions(head []byte, off int64) {
	for off >= 72 && off+8 <= int64(len(head)) {
		typ, n := binary.BigEndian.Uint32(head[off:]), int64(binary.BigEndian.Uint32(head[off+4:]))
		if typ == 0 {
			d.field(head, int(off), 8, "end of extensions", "", "")
			return
		}
		name, ok := map[uint32]string{
			0xe2792aca: "backing file format", 0x6803f857: "feature names", 0x23852875: "bitmaps",
			0x0537be77: "encryption header", 0x44415441: "external data file",
		}[typ]
		if !ok {
			name = "unknown extension"
		}
		if n > int64(len(head))-off-8 {
			d.field(head, int(off), 8, name, "", fmt.Sprintf("%d bytes do not fit into the header", n))
			return
		}
		value := byteCount(uint64(n))
		if typ == 0xe2792aca || typ == 0x44415441 {
			value = strconv.Quote(string(head[off+8 : off+8+n]))
		}
		d.field(head, int(off), int(8+n), name, value, "")
		off += 8 + (n+7)/8*8
	}
}

func (d *dump) qcow2Backing(head []byte) {
	off, n := binary.BigEndian.Uint64(head[8:]), uint64(binary.BigEndian.Uint32(head[16:]))
	if off == 0 {
		return
	}
	f := Field{Offset: int64(off & (1<<63 - 1)), Length: int64(n), Name: "backing file"}
	switch {
	case n > 1023:
		f.Problem = "the name is longer than 1023 bytes"
	case off > uint64(len(head)) || n > uint64(len(head))-off:
		f.Problem = "the name lies outside the header"
	default:
		f.Raw = head[off : off+min(n, maxRaw)]
		f.Value = strconv.Quote(string(head[off : off+n]))
	}
	d.put(f)
}
