package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// hit reads a range from a file, and the rest from the store when the file turns out
// to be damaged.
type hit struct {
	ctx       context.Context
	s         *Store
	file      *os.File
	head      head
	sums      []byte
	off, end  int64 // of the object: the next byte, and the one behind the last
	block     []byte
	blockFrom int64 // of the object
	rest      io.ReadCloser
}

// find opens what is kept of a range, nil when it is not there as a whole.
func (s *Store) find(key string, off, n int64) *hit {
	dir := s.at(key)
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil // nothing is kept, or nothing can be read
	}
	for _, e := range names {
		from, length, ok := parseName(e.Name())
		if !ok || from > off || off > from+length {
			continue
		}
		h, err := s.openFile(filepath.Join(dir, e.Name()), key, off, n)
		if err == nil && h != nil {
			return h
		}
		if errors.Is(err, errBad) {
			_ = os.Remove(filepath.Join(dir, e.Name())) // if it stays it is found damaged again
		}
	}
	return nil
}

func fileName(off, n int64) string {
	return strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(n, 10)
}

func parseName(name string) (off, n int64, ok bool) {
	a, b, _ := strings.Cut(name, "-")
	off, aerr := strconv.ParseInt(a, 10, 64)
	n, berr := strconv.ParseInt(b, 10, 64)
	return off, n, aerr == nil && berr == nil && off >= 0 && n >= 0 && fileName(off, n) == name
}

// openFile opens a file that may have a range, nil if it has not all of it. Its first
// block has been checked.
func (s *Store) openFile(path, key string, off, n int64) (_ *hit, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	h := &hit{s: s, file: f, off: off}
	defer func() {
		if err != nil {
			_ = f.Close() // it was only read
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if h.head, h.sums, err = readEnd(f, info.Size()); err != nil {
		return nil, err
	}
	if h.head.Key != key || filepath.Base(path) != fileName(h.head.Off, h.head.N) {
		return nil, fmt.Errorf("%w: it is another's", errBad)
	}
	h.end = h.head.Size
	if n > 0 && n < h.end-off {
		h.end = off + n
	}
	if h.end > h.head.Off+h.head.N || off < h.head.Off || off >= h.head.Size && h.head.Size > 0 {
		return nil, errPart
	}
	if h.off < h.end {
		if err := h.load(); err != nil {
			return nil, err
		}
	}
	if now := time.Now(); now.Sub(info.ModTime()) > usedAgain {
		_ = os.Chtimes(path, now, now) // or it goes before its time
	}
	return h, nil
}

// errPart is a file that has not all of a range.
var errPart = errors.New("a part only")

// usedAgain is how old a file's time may be before it is set anew.
const usedAgain = time.Minute

// load reads and checks the block of the next byte.
func (h *hit) load() error {
	if h.block == nil {
		h.block = make([]byte, blockSize)
	}
	i := (h.off - h.head.Off) / blockSize
	at := i * blockSize
	b := h.block[:min(blockSize, h.head.N-at)]
	if _, err := h.file.ReadAt(b, at); err != nil {
		return fmt.Errorf("%w: %w", errBad, err)
	}
	if string(sumOf(nil, b)) != string(h.sums[i*sumSize:(i+1)*sumSize]) {
		return fmt.Errorf("%w: block %d is not what was written", errBad, i)
	}
	h.block, h.blockFrom = b, h.head.Off+at
	return nil
}

// Read implements io.Reader.
func (h *hit) Read(p []byte) (int, error) {
	if h.off >= h.end {
		return 0, io.EOF
	}
	if err := context.Cause(h.ctx); err != nil {
		return 0, err
	}
	if h.rest == nil && (h.off < h.blockFrom || h.off >= h.blockFrom+int64(len(h.block))) {
		h.block = h.block[:cap(h.block)]
		if err := h.load(); err != nil {
			if err := h.fetch(); err != nil {
				return 0, err
			}
		}
	}
	p = p[:min(int64(len(p)), h.end-h.off)]
	if h.rest != nil {
		n, err := h.rest.Read(p)
		h.off += int64(n)
		if errors.Is(err, io.EOF) && h.off < h.end {
			err = io.ErrUnexpectedEOF
		}
		return n, err
	}
	n := copy(p, h.block[h.off-h.blockFrom:])
	h.off += int64(n)
	h.s.hitBytes.Add(int64(n))
	return n, nil
}

// fetch opens what is left in the store, and removes the file.
func (h *hit) fetch() error {
	_ = os.Remove(h.file.Name()) // if it stays it is found damaged again
	o, err := h.s.Store.Get(h.ctx, h.head.Key, h.off, h.end-h.off)
	if err != nil {
		return err
	}
	h.rest = o.ReadCloser
	if o.Size != h.head.Size || o.Tag != h.head.Tag {
		return fmt.Errorf("object %s is not the one of which a part was kept: %w", h.head.Key, objstore.ErrPrecondition)
	}
	return nil
}

// Close implements io.Closer.
func (h *hit) Close() error {
	err := h.file.Close()
	if h.rest != nil {
		err = errors.Join(err, h.rest.Close())
	}
	return err
}
