package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxSize is the size of the largest catalog in bytes, far from any real one.
const maxSize = 1 << 60

// Writer writes a catalog as its tree is walked. It begins with the root open:
//
//	w := catalog.NewWriter(out)
//	w.StartDir("root.pxar.didx")
//	w.File("f", 3, mtime)
//	w.EndDir()
//	err := w.Close()
//
// An error of out stays, and every later call returns it. It is not safe for
// concurrent use. out gets many small writes.
type Writer struct {
	out  io.Writer
	at   int64 // bytes written
	open []*openDir
	free []*openDir // closed ones, whose memory is used again
	head []byte
	err  error
}

// openDir collects the entries of a directory. The distance to a child is known
// only when the directory is closed, so it is put in between then.
type openDir struct {
	name     string
	count    uint64
	entries  []byte
	children []child
}

type child struct {
	behind int   // where in entries its distance belongs
	start  int64 // of its block in the file
}

// NewWriter writes the head of a catalog and returns its writer.
func NewWriter(out io.Writer) *Writer {
	w := &Writer{out: out, open: []*openDir{{}}}
	w.write(magic[:])
	return w
}

// StartDir opens a directory within the current one, and makes it the current.
func (w *Writer) StartDir(name string) error {
	if err := w.ready(name); err != nil {
		return err
	}
	d := &openDir{}
	if n := len(w.free); n > 0 {
		d, w.free = w.free[n-1], w.free[:n-1]
	}
	d.name = name
	w.open = append(w.open, d)
	return nil
}

// EndDir closes the current directory and adds it to the one above it.
func (w *Writer) EndDir() error {
	n := len(w.open) - 1
	if w.err == nil && n < 1 {
		w.err = errors.New("catalog: no directory is open that could end")
	}
	if w.err != nil {
		return w.err
	}
	d, start := w.open[n], w.at
	w.open = w.open[:n]
	w.flush(d)
	up := w.open[n-1]
	up.add(Dir, d.name)
	up.children = append(up.children, child{len(up.entries), start})
	const kept = 64 // of bounded size: a huge directory is not held for ever
	if len(w.free) < kept && cap(d.entries) <= 64<<10 {
		*d = openDir{entries: d.entries[:0], children: d.children[:0]}
		w.free = append(w.free, d)
	}
	return w.err
}

// File adds a regular file with its size in bytes and its mtime in seconds since
// 1970.
func (w *Writer) File(name string, size uint64, mtime int64) error {
	if err := w.ready(name); err != nil {
		return err
	}
	d := w.open[len(w.open)-1]
	d.add(File, name)
	d.entries = binary.AppendUvarint(d.entries, size)
	d.entries = AppendSigned(d.entries, mtime)
	return nil
}

// Add adds an entry that is neither a directory nor a regular file.
func (w *Writer) Add(k Kind, name string) error {
	if err := w.ready(name); err != nil {
		return err
	}
	if !k.plain() {
		return fmt.Errorf("catalog: %.80q: a %s is more than its name", name, k)
	}
	w.open[len(w.open)-1].add(k, name)
	return nil
}

// Close writes the root and the end. Every other directory must have ended. It
// does not close out.
func (w *Writer) Close() error {
	if w.err == nil && len(w.open) != 1 {
		w.err = fmt.Errorf("catalog: closed while %d directories are open", len(w.open)-1)
	}
	if w.err != nil {
		return w.err
	}
	start := w.at
	w.flush(w.open[0])
	w.open = nil
	w.write(binary.LittleEndian.AppendUint64(nil, uint64(start)))
	err := w.err
	if err == nil {
		w.err = errors.New("catalog: written to after the end")
	}
	return err
}

func (w *Writer) ready(name string) error {
	if w.err != nil {
		return w.err
	}
	if err := checkName([]byte(name)); err != nil {
		return fmt.Errorf("%w: %w", ErrName, err)
	}
	return nil
}

func (d *openDir) add(k Kind, name string) {
	d.count++
	d.entries = append(d.entries, byte(k))
	d.entries = binary.AppendUvarint(d.entries, uint64(len(name)))
	d.entries = append(d.entries, name...)
}

// flush writes the block of a directory.
func (w *Writer) flush(d *openDir) {
	start := w.at
	size := uint64(varintSize(d.count) + len(d.entries))
	for _, c := range d.children {
		size += uint64(varintSize(uint64(start - c.start)))
	}
	w.head = binary.AppendUvarint(w.head[:0], size)
	w.head = binary.AppendUvarint(w.head, d.count)
	w.write(w.head)
	done := 0
	for _, c := range d.children {
		w.write(d.entries[done:c.behind])
		w.head = binary.AppendUvarint(w.head[:0], uint64(start-c.start))
		w.write(w.head)
		done = c.behind
	}
	w.write(d.entries[done:])
}

func (w *Writer) write(b []byte) {
	if w.err != nil {
		return
	}
	if w.at += int64(len(b)); w.at > maxSize {
		w.err = fmt.Errorf("catalog: more than %d bytes", int64(maxSize))
		return
	}
	if _, err := w.out.Write(b); err != nil {
		w.err = fmt.Errorf("write catalog: %w", err)
	}
}
