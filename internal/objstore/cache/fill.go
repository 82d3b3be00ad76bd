package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// filler keeps what is read of an object, once all of it was.
type filler struct {
	objstore.Object
	s     *Store
	head  head
	file  *os.File // nil when nothing is to be kept
	done  int64
	block []byte // what is not in sums yet
	sums  []byte
}

// fill returns an object whose range is kept when n bytes of it were read.
func (s *Store) fill(o objstore.Object, off, n int64) *filler {
	tmp := filepath.Join(s.dir, "tmp")
	f := &filler{Object: o, s: s, head: head{o.Key, o.Size, o.Tag, o.Modified, off, n}}
	err := os.MkdirAll(tmp, 0o700)
	if err == nil {
		f.file, err = os.CreateTemp(tmp, "")
	}
	if err != nil {
		s.failed(err)
		f.file = nil
	} else if n == 0 {
		f.end()
	}
	return f
}

// Read implements io.Reader.
func (f *filler) Read(p []byte) (int, error) {
	n, err := f.Object.Read(p)
	if f.file == nil || n == 0 {
		return n, err
	}
	f.done += int64(n)
	if kerr := f.keep(p[:n]); kerr != nil {
		f.drop(kerr)
	} else if f.done == f.head.N {
		f.end()
	}
	return n, err
}

// keep writes bytes and sums them up.
func (f *filler) keep(p []byte) error {
	if f.done > f.head.N {
		return fmt.Errorf("object %s gave more than was asked for", f.head.Key)
	}
	if _, err := f.file.Write(p); err != nil {
		return err
	}
	if f.block == nil {
		f.block = make([]byte, 0, min(blockSize, f.head.N))
	}
	for len(p) > 0 {
		k := min(blockSize-len(f.block), len(p))
		f.block = append(f.block, p[:k]...)
		p = p[k:]
		if len(f.block) == blockSize {
			f.sums, f.block = sumOf(f.sums, f.block), f.block[:0]
		}
	}
	return nil
}

// end gives the file its name.
func (f *filler) end() {
	if len(f.block) > 0 {
		f.sums = sumOf(f.sums, f.block)
	}
	b, err := appendEnd(nil, f.sums, f.head)
	if err == nil {
		_, err = f.file.Write(b)
	}
	if cerr := f.file.Close(); err == nil {
		err = cerr
	}
	tmp := f.file.Name()
	f.file = nil
	if err == nil {
		err = place(tmp, f.s.at(f.head.Key), fileName(f.head.Off, f.head.N))
	}
	if err != nil {
		_ = os.Remove(tmp) // or whoever makes room does
		f.s.failed(err)
		return
	}
	f.s.failed(f.s.space.added(f.s.dir, f.head.N+int64(len(b))))
}

// place moves a file into a directory that others remove when it is empty.
func place(tmp, dir, name string) (err error) {
	for range 10 {
		if err = os.MkdirAll(dir, 0o700); err == nil {
			err = os.Rename(tmp, filepath.Join(dir, name))
		}
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

// drop gives up keeping.
func (f *filler) drop(err error) {
	f.s.failed(err)
	if f.file != nil {
		_ = f.file.Close()
		_ = os.Remove(f.file.Name())
		f.file = nil
	}
}

// Close implements io.Closer.
func (f *filler) Close() error {
	f.drop(nil)
	return f.Object.Close()
}
