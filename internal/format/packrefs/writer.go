package packrefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/zstd"
)

// Writer writes a shard. It holds one block.
type Writer struct {
	w      io.Writer
	enc    *zstd.Encoder
	plain  []byte
	packed []byte
	last   pack.ID // of the block
	any    bool    // a pack was added
	before pack.ID // of all
	packs  uint64
	chunks uint64
}

// NewWriter begins a shard; it is closed, or dropped.
func NewWriter(w io.Writer) (*Writer, error) {
	enc, err := zstd.NewEncoder()
	if err != nil {
		return nil, err
	}
	return &Writer{w: w, enc: enc}, nil
}

// Add appends a pack. Their names ascend, and so do the places of their chunks;
// others are a mistake of the caller.
func (w *Writer) Add(p *Pack) error {
	if w.any && w.before.Compare(p.ID) >= 0 {
		return fmt.Errorf("counts of references: internal error: pack %s behind %s", p.ID, w.before)
	}
	w.any, w.before = true, p.ID
	if len(w.plain) == 0 {
		w.last = pack.ID{}
	}
	first := len(w.plain) == 0
	var err error
	if w.plain, err = appendPack(w.plain, p, w.last, first); err != nil {
		return err
	}
	w.last = p.ID
	w.packs++
	w.chunks += uint64(len(p.Chunks))
	if len(w.plain) >= blockSize {
		return w.flush()
	}
	return nil
}

func appendPack(b []byte, p *Pack, last pack.ID, first bool) ([]byte, error) {
	u := binary.AppendUvarint
	b = u(b, p.ID.Session-last.Session)
	if first || p.ID.Session != last.Session {
		b = u(b, uint64(p.ID.Number))
	} else {
		b = u(b, uint64(p.ID.Number-last.Number-1))
	}
	b = u(u(b, uint64(p.Size)), uint64(p.Until))
	named := 2 * uint64(p.Named)
	if p.Removed {
		named++
	}
	b = u(u(b, named), uint64(len(p.Chunks)))
	at := uint64(0)
	for _, c := range p.Chunks {
		if uint64(c.Off) < at || c.Len == 0 || uint64(c.Off)+uint64(c.Len) > pack.MaxSize {
			return nil, fmt.Errorf("counts of references: internal error: pack %s has %d bytes at %d, behind %d", p.ID, c.Len, c.Off, at)
		}
		b = u(u(u(b, uint64(c.Off)-at), uint64(c.Len)), uint64(c.Count))
		at = uint64(c.Off) + uint64(c.Len)
	}
	return b, nil
}

func (w *Writer) flush() error {
	if len(w.plain) > maxBlock {
		return fmt.Errorf("counts of references: internal error: a block of %d bytes", len(w.plain))
	}
	if need := blockHead + zstd.Bound(len(w.plain)); cap(w.packed) < need {
		w.packed = make([]byte, need)
	}
	b := w.packed[:cap(w.packed)]
	n, ok := w.enc.Compress(b[blockHead:], w.plain)
	if !ok {
		return errors.New("counts of references: internal error: a frame is larger than its bound")
	}
	le := binary.LittleEndian
	le.PutUint32(b, uint32(n))
	le.PutUint32(b[4:], uint32(len(w.plain)))
	le.PutUint32(b[8:], crc32.Checksum(w.plain, table()))
	w.plain = w.plain[:0]
	_, err := w.w.Write(b[:blockHead+n])
	return err
}

// Close completes the shard.
func (w *Writer) Close() error {
	defer w.Drop()
	if len(w.plain) > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	le := binary.LittleEndian
	b := le.AppendUint64(make([]byte, blockHead), w.packs)
	b = le.AppendUint64(b, w.chunks)
	b = le.AppendUint32(b, crc32.Checksum(b[blockHead:], table()))
	_, err := w.w.Write(append(b, shardMagic...))
	return err
}

// Drop frees what the Writer holds, and writes nothing.
func (w *Writer) Drop() {
	if w.enc != nil {
		w.enc.Close()
		w.enc = nil
	}
}
