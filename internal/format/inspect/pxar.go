package inspect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// pxarKind tells what stream of an archive starts so, "" if none does.
func pxarKind(head []byte) string {
	if len(head) < pxar.HeaderSize {
		return ""
	}
	switch pxar.Type(binary.LittleEndian.Uint64(head)) {
	case pxar.TypeEntry, pxar.TypeEntryV1:
		return "pxar archive"
	case pxar.TypeVersion:
		return "pxar archive, metadata"
	case pxar.TypePayloadStart:
		return "pxar archive, contents"
	}
	return ""
}

// pxarEntries is how many entries of an archive are shown if nothing was asked.
const pxarEntries = 100

// maxItem is the most of an item's content that is read to be shown; items
// that are longer say so.
const maxItem = 128 << 10

// pxar shows item after item.
func (d *dump) pxar(head []byte) error {
	contents := pxarKind(head) == "pxar archive, contents"
	show := d.o.Entries
	if show == 0 {
		show = pxarEntries
	}
	for pos, entries := int64(0), 0; pos < d.size && d.err == nil; {
		b, err := d.read(pos, min(pxar.HeaderSize, d.size-pos))
		if err != nil {
			return err
		}
		if len(b) < pxar.HeaderSize {
			d.put(Field{Offset: pos, Length: int64(len(b)), Raw: b, Name: "item", Problem: "the file ends in the header of an item"})
			return nil
		}
		t, size := pxar.Type(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint64(b[8:])
		f := Field{Offset: pos, Length: pxar.HeaderSize, Raw: b, Name: t.String(), Value: byteCount(size)}
		switch {
		case contents && t != pxar.TypePayload && t != pxar.TypePayloadStart && t != pxar.TypePayloadTail:
			d.put(Field{Offset: pos, Name: "not shown", Value: byteCount(uint64(d.size-pos)) + " from here on: padding, or contents between padding"})
			return nil
		case size < pxar.HeaderSize:
			f.Problem = "an item has at least 16 bytes"
		case size > uint64(d.size-pos):
			f.Problem = fmt.Sprintf("the file has only %d bytes more", d.size-pos)
		}
		if t == pxar.TypeFilename || t == pxar.TypePayload && contents {
			if entries++; show >= 0 && entries > show {
				d.put(Field{Offset: pos, Name: "... the rest is not shown"})
				return nil
			}
		}
		d.put(f)
		if f.Problem != "" {
			return nil
		}
		if err := d.pxarContent(t, pos+pxar.HeaderSize, int64(size)-pxar.HeaderSize); err != nil {
			return err
		}
		pos += int64(size)
	}
	return nil
}

// part is a number in the content of an item.
type part struct {
	size int
	name string
	say  func(v uint64) string
}

func octal(v uint64) string   { return strconv.FormatUint(v, 8) }
func decimal(v uint64) string { return strconv.FormatUint(v, 10) }
func back(v uint64) string    { return fmt.Sprintf("%#x bytes back", v) }

var pxarParts = map[pxar.Type][]part{
	pxar.TypeVersion: {{8, "version", decimal}},
	pxar.TypeEntry: {
		{8, "mode", octal},
		{8, "flags", func(v uint64) string { return fmt.Sprintf("%#x", v) }},
		{4, "uid", decimal},
		{4, "gid", decimal},
		{8, "mtime", unixTime},
		{4, "nanoseconds", decimal},
		{4, "padding", decimal},
	},
	pxar.TypeDevice:          {{8, "major", decimal}, {8, "minor", decimal}},
	pxar.TypeACLUser:         {{8, "uid", decimal}, {8, "permissions", octal}},
	pxar.TypeACLGroup:        {{8, "gid", decimal}, {8, "permissions", octal}},
	pxar.TypeACLDefaultUser:  {{8, "uid", decimal}, {8, "permissions", octal}},
	pxar.TypeACLDefaultGroup: {{8, "gid", decimal}, {8, "permissions", octal}},
	pxar.TypeACLGroupObj:     {{8, "permissions", octal}},
	pxar.TypeACLDefault:      {{8, "owner", octal}, {8, "group", octal}, {8, "others", octal}, {8, "mask", octal}},
	pxar.TypeQuotaProjectID:  {{8, "id", decimal}},
	pxar.TypePayloadRef:      {{8, "offset", func(v uint64) string { return fmt.Sprintf("%#x", v) }}, {8, "size", byteCount}},
}

// pxarContent shows the n bytes of content at off; they are in the file.
func (d *dump) pxarContent(t pxar.Type, off, n int64) error {
	if t == pxar.TypeGoodbye {
		return d.goodbye(off, n)
	}
	b, err := d.read(off, min(n, maxItem))
	if err != nil {
		return err
	}
	parts := pxarParts[t]
	want := 0
	for _, p := range parts {
		want += p.size
	}
	switch {
	case parts != nil && int64(want) == n:
		for _, p := range parts {
			v := binary.LittleEndian.Uint64(append(bytes.Clone(b[:p.size]), 0, 0, 0, 0)[:8])
			d.put(Field{Offset: off, Length: int64(p.size), Raw: bytes.Clone(b[:p.size]), Name: "  " + p.name, Value: p.say(v)})
			off, b = off+int64(p.size), b[p.size:]
		}
		return nil
	case n == 0:
		return nil
	}
	f := Field{Offset: off, Length: n, Raw: bytes.Clone(b[:min(len(b), maxRaw)]), Name: "  content", Value: byteCount(uint64(n))}
	switch {
	case parts != nil:
		f.Problem = fmt.Sprintf("this item has %d bytes of content", want)
	case n > maxItem: // only contents and preludes may be so long
	case t == pxar.TypeFilename:
		f.Name, f.Value = "  name", strconv.Quote(string(bytes.TrimSuffix(b, []byte{0})))
	case t == pxar.TypeSymlink:
		f.Name, f.Value = "  target", strconv.Quote(string(bytes.TrimSuffix(b, []byte{0})))
	case t == pxar.TypeHardlink && n > 8:
		d.put(Field{Offset: off, Length: 8, Raw: bytes.Clone(b[:8]), Name: "  target", Value: back(binary.LittleEndian.Uint64(b))})
		b = b[8:]
		f = Field{
			Offset: off + 8, Length: n - 8, Raw: bytes.Clone(b[:min(len(b), maxRaw)]),
			Name: "  path", Value: strconv.Quote(string(bytes.TrimSuffix(b, []byte{0}))),
		}
	case t == pxar.TypeXattr:
		name, value, _ := bytes.Cut(b, []byte{0})
		f.Name, f.Value = "  attribute", fmt.Sprintf("%q, %s", name, byteCount(uint64(len(value))))
	case t == pxar.TypePrelude && printable(b):
		f.Value = strconv.Quote(string(b))
	}
	d.put(f)
	return nil
}

// goodbye shows the lines of a table.
func (d *dump) goodbye(off, n int64) error {
	const line, piece = 24, 4096
	if n == 0 || n%line != 0 {
		d.put(Field{Offset: off, Name: "  table", Problem: "the content is no whole number of lines of 24 bytes"})
		return nil
	}
	count, skipped := n/line, int64(0)
	for i := int64(0); i < count && d.err == nil; i += piece {
		b, err := d.read(off+i*line, min(piece, count-i)*line)
		if err != nil {
			return err
		}
		for k := i; len(b) > 0; k, b = k+1, b[line:] {
			if d.o.Entries >= 0 && k >= int64(max(d.o.Entries, 8)) && k < count-1 {
				skipped++
				continue
			}
			d.skipped(&skipped, off+(k-skipped)*line)
			hash, from, size := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
			name, value := fmt.Sprintf("  slot %d", k), fmt.Sprintf("hash %016x, %s, %#x bytes", hash, back(from), size)
			if k == count-1 {
				name, value = "  directory", fmt.Sprintf("%s, table of %#x bytes", back(from), size)
			}
			d.put(Field{Offset: off + k*line, Length: line, Raw: bytes.Clone(b[:line]), Name: name, Value: value})
		}
	}
	return nil
}
