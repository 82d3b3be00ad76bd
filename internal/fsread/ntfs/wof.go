package ntfs

import (
	"sync"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// wofStream is where what is compressed lies.
const wofStream = "WofCompressedData"

// wofKind is how a file is compressed, by the number in its reparse point.
type wofKind struct {
	chunk  int64
	unpack func(dst, src []byte) bool
}

var wofKinds = []wofKind{{4 << 10, xpress}, {32 << 10, unlzx}, {8 << 10, xpress}, {16 << 10, xpress}}

// wof opens a file that Windows compressed as a part of the system (WOF). The reparse
// point has four numbers: version 1, the provider, of which 2 is a file's own
// stream, its version 1, and the kind. The stream begins with the places of all
// chunks but the first, counted from their own end: 4 bytes each, 8 for files of
// 4 GiB and more.
func (f *FS) wof(r *record, p point, size int64) (image.Image, error) {
	if len(p.data) < 16 || le.Uint32(p.data) != 1 || le.Uint32(p.data[4:]) != 2 || le.Uint32(p.data[8:]) != 1 || le.Uint32(p.data[12:]) >= uint32(len(wofKinds)) {
		return nil, fsread.Unsupported(layer, "a file whose content is in an image of Windows, or compressed in another way (WOF %x)", p.data[:min(16, len(p.data))])
	}
	if size == 0 {
		return resident(nil), nil
	}
	packed, err := f.stream(r.find(typeData, wofStream), "the compressed content of a file")
	if err != nil {
		return nil, err
	}
	w := &wof{kind: wofKinds[le.Uint32(p.data[12:])], size: size, packed: packed, held: -1, entry: 4}
	if size > 1<<32-1 {
		w.entry = 8
	}
	w.chunks = (size + w.kind.chunk - 1) / w.kind.chunk
	w.table = (w.chunks - 1) * w.entry
	if w.table > packed.Size() {
		return nil, fsread.Corrupt(layer, "record %d has %d bytes of compressed content, their table alone needs %d", r.number, packed.Size(), w.table)
	}
	return w, nil
}

// wof is such a file.
type wof struct {
	kind   wofKind
	size   int64
	packed image.Image
	chunks int64
	entry  int64 // bytes of a place in the table
	table  int64 // bytes of the table

	mu       sync.Mutex
	held     int64 // the chunk in buf, -1: none
	buf, raw []byte
}

func (w *wof) Size() int64 { return w.size }

func (w *wof) ReadAt(p []byte, off int64) (n int, err error) {
	return image.ReadWithin(p, off, w.size, func(p []byte, off int64) (int, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for n < len(p) {
			at := off + int64(n)
			if err := w.load(at / w.kind.chunk); err != nil {
				return n, err
			}
			n += copy(p[n:], w.buf[at%w.kind.chunk:])
		}
		return n, nil
	})
}

// load unpacks a chunk into buf. One that did not become shorter is as it was.
func (w *wof) load(chunk int64) error {
	if w.held == chunk {
		return nil
	}
	w.held = -1
	start, end, err := w.place(chunk)
	if err != nil {
		return err
	}
	want := min(w.kind.chunk, w.size-chunk*w.kind.chunk)
	if start > end || end-start > want {
		return fsread.Corrupt(layer, "chunk %d of a compressed file lies from %d to %d", chunk, start, end)
	}
	if w.buf == nil {
		w.buf, w.raw = make([]byte, w.kind.chunk), make([]byte, w.kind.chunk)
	}
	w.buf = w.buf[:want]
	if end-start == want {
		err = fsread.ReadFull(w.packed, layer, w.buf, w.table+start)
	} else {
		raw := w.raw[:end-start]
		if err = fsread.ReadFull(w.packed, layer, raw, w.table+start); err == nil && !w.kind.unpack(w.buf, raw) {
			err = fsread.Corrupt(layer, "chunk %d of a compressed file cannot be decompressed", chunk)
		}
	}
	if err == nil {
		w.held = chunk
	}
	return err
}

// place is where a chunk lies behind the table.
func (w *wof) place(chunk int64) (start, end int64, err error) {
	end = w.packed.Size() - w.table
	if chunk > 0 {
		if start, err = w.tableEntry(chunk - 1); err != nil {
			return 0, 0, err
		}
	}
	if chunk < w.chunks-1 {
		end, err = w.tableEntry(chunk)
	}
	return start, end, err
}

func (w *wof) tableEntry(i int64) (int64, error) {
	var b [8]byte
	err := fsread.ReadFull(w.packed, layer, b[:w.entry], i*w.entry)
	at := le.Uint64(b[:])
	if err == nil && at > uint64(w.packed.Size()-w.table) {
		err = fsread.Corrupt(layer, "a compressed file has a chunk at %d of %d bytes", at, w.packed.Size()-w.table)
	}
	return int64(at), err
}
