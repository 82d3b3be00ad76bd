package inspect

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math/bits"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

var (
	fidxMagic = []byte{0x2f, 0x7f, 0x41, 0xed, 0x91, 0xfd, 0x0f, 0xcd}
	didxMagic = []byte{0x1c, 0x91, 0x4e, 0xa5, 0x19, 0xba, 0xb3, 0xcd}
)

// The parts that both indexes share.
const (
	indexHeader = 4096
	offUUID     = 8
	offCtime    = 24
	offSum      = 32
	offSize     = 64 // fixed only
	offChunk    = 72 // fixed only
)

func (d *dump) indexHead(head []byte) {
	d.field(head, 0, 8, "magic", "", "")
	if len(head) < offSum+digest.Size {
		return
	}
	u := head[offUUID : offUUID+16]
	d.field(head, offUUID, 16, "uuid", fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]), "")
	d.field(head, offCtime, 8, "ctime", unixTime(binary.LittleEndian.Uint64(head[offCtime:])), "")
}

func (d *dump) fixed(head []byte) error {
	if d.short(head, indexHeader, "a fixed index's header") {
		d.indexHead(head)
		return nil
	}
	d.indexHead(head)
	le := binary.LittleEndian
	size, chunk := le.Uint64(head[offSize:]), le.Uint64(head[offChunk:])
	t := table{entry: digest.Size}
	sizeProblem, chunkProblem := "", ""
	switch {
	case size == 0 || size > 1<<63-1:
		sizeProblem = "no image has this size"
	case bits.OnesCount64(chunk) != 1:
		chunkProblem = "not a power of two"
	default:
		t.want = int64((size-1)/chunk + 1)
		t.bounded = true
		t.bounds = func(i int64, _ []byte) (uint64, string) {
			if left := size - uint64(i)*chunk; left <= chunk {
				return size, ""
			}
			return uint64(i+1) * chunk, ""
		}
	}
	t.tail = func() {
		d.field(head, offSize, 8, "image size", byteCount(size), sizeProblem)
		d.field(head, offChunk, 8, "chunk size", byteCount(chunk), chunkProblem)
		d.zeros(head, 80, indexHeader-80)
	}
	return d.table(head, t)
}

func (d *dump) dynamic(head []byte) error {
	if d.short(head, indexHeader, "a dynamic index's header") {
		d.indexHead(head)
		return nil
	}
	d.indexHead(head)
	var last uint64
	return d.table(head, table{
		entry: 8 + digest.Size,
		bounds: func(i int64, e []byte) (uint64, string) {
			end, problem := binary.LittleEndian.Uint64(e), ""
			if end <= last && (i > 0 || end == 0) {
				problem = fmt.Sprintf("ends at %d, not behind the chunk before it (%d)", end, last)
			}
			last = end
			return end, problem
		},
		tail: func() { d.zeros(head, 64, indexHeader-64) },
	})
}

// table is what the two indexes differ in.
type table struct {
	entry   int64 // bytes of one
	want    int64 // entries, if bounded
	bounded bool
	bounds  func(i int64, entry []byte) (end uint64, problem string)
	tail    func() // puts the fields between checksum and table
}

// table walks the entries twice: first for the checksum, which stands before
// them in the file, then to show them.
func (d *dump) table(head []byte, t table) error {
	body := d.size - indexHeader
	count := body / t.entry
	h := sha256.New()
	if err := d.entries(t, count, h, nil); err != nil {
		return err
	}
	problem := ""
	sum := h.Sum(nil)
	if !bytes.Equal(sum, head[offSum:offSum+digest.Size]) {
		problem = fmt.Sprintf("the table has %x (readers compare that with the manifest)", sum)
	}
	d.field(head, offSum, digest.Size, "checksum", fmt.Sprintf("%x", head[offSum:offSum+digest.Size]), problem)
	t.tail()
	show := func(i int64) bool {
		if d.o.Entries < 0 {
			return true
		}
		n := int64(d.o.Entries)
		if n == 0 {
			n = 8
		}
		return i < n || i == count-1
	}
	start, skipped := uint64(0), int64(0)
	err := d.entries(t, count, nil, func(i int64, e []byte) error {
		end, problem := uint64(0), ""
		where := "outside the image"
		if t.bounds != nil && (!t.bounded || i < t.want) {
			end, problem = t.bounds(i, e)
			where = fmt.Sprintf("[%d, %d)", start, end)
			start = end
		}
		if problem == "" && !show(i) {
			skipped++
			return nil
		}
		d.skipped(&skipped, indexHeader+(i-skipped)*t.entry)
		d.put(Field{
			Offset: indexHeader + i*t.entry, Length: t.entry, Raw: bytes.Clone(e[:min(len(e), maxRaw)]),
			Name: fmt.Sprintf("chunk %d", i), Value: fmt.Sprintf("%s %x", where, e[len(e)-digest.Size:]), Problem: problem,
		})
		return d.err
	})
	if err != nil {
		return err
	}
	d.skipped(&skipped, indexHeader+(count-skipped)*t.entry)
	d.tableEnd(t, body, count)
	return nil
}

func (d *dump) skipped(n *int64, off int64) {
	if *n > 0 {
		d.put(Field{Offset: off, Name: fmt.Sprintf("... %d entries not shown", *n)})
		*n = 0
	}
}

// tableEnd says whether the file has the length that its header asks for.
func (d *dump) tableEnd(t table, body, count int64) {
	problem := ""
	switch {
	case t.bounded && body != t.want*t.entry:
		problem = fmt.Sprintf("the header asks for %d entries, that is a file of %d bytes", t.want, indexHeader+t.want*t.entry)
	case body%t.entry != 0:
		problem = fmt.Sprintf("%d bytes behind the last whole entry", body%t.entry)
	case count == 0:
		problem = "an index without entries"
	}
	d.put(Field{Offset: d.size, Name: "end of file", Value: fmt.Sprintf("%d entries", count), Problem: problem})
}

// entries reads the table in pieces of bounded size.
func (d *dump) entries(t table, count int64, h hash.Hash, each func(int64, []byte) error) error {
	const piece = 4096 // entries
	for i := int64(0); i < count; i += piece {
		n := min(piece, count-i)
		b, err := d.read(indexHeader+i*t.entry, n*t.entry)
		if err != nil {
			return err
		}
		if h != nil {
			_, _ = h.Write(b)
		}
		if each == nil {
			continue
		}
		for k := range n {
			if err := each(i+k, b[k*t.entry:(k+1)*t.entry]); err != nil {
				return err
			}
		}
	}
	return nil
}

func unixTime(v uint64) string {
	s := int64(v)
	if s < 0 || s > 253402300799 { // year 9999
		return fmt.Sprintf("%d s since 1970", s)
	}
	return fmt.Sprintf("%d, %s", s, time.Unix(s, 0).UTC().Format(time.RFC3339))
}

func byteCount(n uint64) string {
	if n >= 1024 && n%1024 == 0 {
		for i, unit := range []string{"EiB", "PiB", "TiB", "GiB", "MiB", "KiB"} {
			if f := uint64(1) << (60 - 10*i); n%f == 0 {
				return fmt.Sprintf("%d bytes, %d %s", n, n/f, unit)
			}
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
