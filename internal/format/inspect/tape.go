package inspect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/canonjson"
	"github.com/holdfast-backup/holdfast/internal/format/mediacatalog"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

var (
	tapeMagic         = []byte{0xdc, 0xbd, 0xaf, 0xca, 0xeb, 0xa0, 0xa5, 0x28}
	mediaCatalogMagic = []byte{0x4c, 0x8e, 0xe8, 0xc1, 0x20, 0xa8, 0x89, 0x71}
)

// most is how many entries are shown, of n.
func (d *dump) most(n int64) int64 {
	switch {
	case d.o.Entries < 0:
		return n
	case d.o.Entries == 0:
		return 8
	}
	return int64(d.o.Entries)
}

// tapeFile explains the blocks of one tape file, as drives in directories keep
// them, and what the first one says.
func (d *dump) tapeFile([]byte) error {
	n := (d.size + tapefile.BlockSize - 1) / tapefile.BlockSize
	skipped, ended := int64(0), false
	for i := range n {
		off := i * tapefile.BlockSize
		if d.size-off < tapefile.BlockSize {
			d.put(Field{Offset: d.size, Name: "end of file", Problem: fmt.Sprintf("it ends within block %d", i)})
			return nil
		}
		b, err := d.read(off, tapefile.BlockSize)
		if err != nil {
			return err
		}
		h, err := tapefile.ParseBlock(b)
		problem := ""
		switch {
		case err != nil:
			problem = err.Error()
		case ended:
			problem = "a block behind the last one"
		case int64(h.Seq) != i:
			problem = fmt.Sprintf("block %d where block %d should be", h.Seq, i)
		}
		ended = ended || h.Last
		if problem == "" && i >= d.most(n) && i < n-1 {
			skipped++
			continue
		}
		d.skipped(&skipped, off-skipped*tapefile.BlockSize)
		d.put(Field{
			Offset: off, Length: tapefile.BlockHeaderSize, Raw: b[:tapefile.BlockHeaderSize],
			Name: fmt.Sprintf("block %d", i), Value: blockSays(h), Problem: problem,
		})
		if i == 0 && err == nil {
			d.tapeContent(b, b[tapefile.BlockHeaderSize:][:h.Size])
		}
	}
	if !ended {
		d.put(Field{Offset: d.size, Name: "end of file", Problem: "it has no last block: its writer did not come to an end"})
	}
	return nil
}

func blockSays(h tapefile.BlockHeader) string {
	switch {
	case h.Incomplete:
		return fmt.Sprintf("%d bytes, the last one of a file that was given up", h.Size)
	case h.Last:
		return fmt.Sprintf("%d bytes, the last one", h.Size)
	}
	return fmt.Sprintf("%d bytes", h.Size)
}

// tapeContent explains how the content of a file begins, which is in block b.
func (d *dump) tapeContent(b, payload []byte) {
	const at = tapefile.BlockHeaderSize
	r := bytes.NewReader(payload)
	h, err := tapefile.ReadHeader(r)
	if err != nil {
		d.put(Field{Offset: at, Name: "header of the file", Problem: err.Error()})
		return
	}
	d.field(b, at, 8, "magic of the header", "", "")
	d.field(b, at+8, 8, "content", h.Content.String(), "")
	d.field(b, at+16, 16, "uuid", h.UUID.String(), "")
	d.field(b, at+32, 8, "ctime", unixTime(uint64(h.Ctime)), "")
	d.field(b, at+40, 4, "length of the JSON", byteCount(uint64(len(h.JSON))), "")
	d.field(b, at+44, 1, "part", fmt.Sprint(h.Part), "")
	d.zeros(b, at+45, 3)
	d.json(at+tapefile.HeaderSize, withoutKey(h.JSON))
	if h.Content == tapefile.Chunks {
		d.tapeChunks(b, at+tapefile.HeaderSize+len(h.JSON), at+len(payload))
		return
	}
	if r.Len() > 0 {
		off := at + len(payload) - r.Len()
		d.field(b, off, r.Len(), "data", "", "")
	}
}

// tapeChunks shows the chunks whose headers are in the first block.
func (d *dump) tapeChunks(b []byte, at, end int) {
	for i := int64(0); at+tapefile.ChunkHeaderSize <= end && i < d.most(1<<62); i++ {
		size := binary.LittleEndian.Uint64(b[at+8+digest.Size:])
		d.field(b, at, tapefile.ChunkHeaderSize, fmt.Sprintf("chunk %d", i), fmt.Sprintf("%x, %s", b[at+8:at+8+digest.Size], byteCount(size)), "")
		at += tapefile.ChunkHeaderSize
		if size > uint64(end-at) {
			d.field(b, at, end-at, "the beginning of its blob", "", "")
			return
		}
		d.field(b, at, int(size), "its blob", "", "")
		at += int(size)
	}
}

// withoutKey takes the key out of a media-set label; it may have no password.
func withoutKey(js []byte) []byte {
	v, err := canonjson.Parse(js)
	if err != nil {
		return js
	}
	label, _ := v.(map[string]any)
	key, ok := label["key-config"].(map[string]any)
	if !ok {
		return js
	}
	key["data"] = "(not shown)"
	out, err := canonjson.AppendIndent(nil, v)
	if err != nil {
		return nil
	}
	return out
}

// mediaCatalog explains the records of a tape's catalog.
func (d *dump) mediaCatalog(head []byte) error {
	d.field(head, 0, 8, "magic", "", "")
	r := mediacatalog.NewReader(io.NewSectionReader(d.r, 0, d.size))
	var held Field // the last record, if it was not shown
	skipped := int64(0)
	for i := int64(0); ; i++ {
		rec, err := r.Next()
		if err != nil {
			if skipped > 0 {
				skipped--
				d.skipped(&skipped, held.Offset)
				d.put(held)
			}
			return d.mediaCatalogEnd(r, err)
		}
		n := r.Offset() - rec.Offset
		raw, err := d.read(rec.Offset, min(n, maxRaw))
		if err != nil {
			return err
		}
		name, value := recordSays(rec)
		held = Field{Offset: rec.Offset, Length: n, Raw: raw, Name: name, Value: value}
		if i < d.most(d.size) {
			d.put(held)
		} else {
			skipped++
		}
	}
}

func (d *dump) mediaCatalogEnd(r *mediacatalog.Reader, err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, mediacatalog.ErrTorn), errors.Is(err, mediacatalog.ErrCorrupt):
		d.put(Field{Offset: r.Offset(), Name: "record", Problem: fmt.Sprintf("%v; it is good up to byte %d", err, r.Good())})
		return nil
	}
	return err
}

func recordSays(r *mediacatalog.Record) (name, value string) {
	switch r.Kind {
	case mediacatalog.Label:
		if r.File == 0 {
			return "label", "of medium " + r.UUID.String()
		}
		return "label", fmt.Sprintf("of media set %s, medium %d", r.UUID, r.Seq+1)
	case mediacatalog.ArchiveStart:
		return "chunk archive", fmt.Sprintf("file %d of store %q, content %s", r.File, r.Store, r.UUID)
	case mediacatalog.Chunk:
		return "chunk", r.Digest.String()
	case mediacatalog.ArchiveEnd:
		return "end of the archive", fmt.Sprintf("file %d", r.File)
	case mediacatalog.Snapshot:
		return "snapshot", fmt.Sprintf("file %d, %q of store %q, content %s", r.File, r.Path, r.Store, r.UUID)
	}
	return "record", ""
}
