package bucket

import (
	"errors"
	"io"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/indexfile"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// staged is a file of a snapshot until its object is stored.
type staged struct {
	*spool.File
	session *Session
	name    names.Archive
	size    int64 // once it is complete
}

var _ indexfile.File = (*staged)(nil)

// stage begins a file.
func (b *Session) stage(name names.Archive) (*staged, error) {
	f, err := spool.Create()
	if err != nil {
		return nil, err
	}
	s := &staged{File: f, session: b, name: name}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.ended:
		err = errEnded
	case b.taken(name):
		err = repo.ErrExists
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b.open[s] = struct{}{}
	return s, nil
}

// taken reports whether a file of this name is there. The caller has mu.
func (b *Session) taken(name names.Archive) bool {
	for f := range b.open {
		if f.name == name {
			return true
		}
	}
	return slices.ContainsFunc(b.files, func(f *staged) bool { return f.name == name })
}

// Settle keeps a complete file, or removes what err has spoilt.
func (s *staged) Settle(err error) error {
	if err == nil {
		s.size, err = s.Size()
	}
	b := s.session
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, open := b.open[s]; !open { // the session has ended, and closed it
		return errors.Join(err, errEnded)
	}
	delete(b.open, s)
	if err != nil {
		b.spoilt = true
		return errors.Join(err, s.Close())
	}
	b.files = append(b.files, s)
	return nil
}

// stageBlob keeps a small file. It replaces one of its name.
func (b *Session) stageBlob(name names.Archive, raw []byte) error {
	f, err := spool.Create()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(raw, 0); err != nil {
		return errors.Join(err, f.Close())
	}
	s := &staged{File: f, session: b, name: name, size: int64(len(raw))}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return errors.Join(errEnded, f.Close())
	}
	if i := slices.IndexFunc(b.files, func(f *staged) bool { return f.name == name }); i >= 0 {
		old := b.files[i]
		b.files[i] = s
		return old.Close()
	}
	b.files = append(b.files, s)
	return nil
}

// parts is a body made of several, one after the other.
type parts struct {
	list []part
	size int64
}

type part struct {
	r      io.ReaderAt
	off, n int64
}

// add appends n bytes of r, and returns where they lie.
func (p *parts) add(r io.ReaderAt, n int64) (off int64) {
	off = p.size
	p.list = append(p.list, part{r, off, n})
	p.size += n
	return off
}

// Size is the length of the body.
func (p *parts) Size() int64 { return p.size }

// ReadAt reads across the bounds of parts.
func (p *parts) ReadAt(b []byte, off int64) (n int, err error) {
	i, _ := slices.BinarySearchFunc(p.list, off, func(q part, off int64) int {
		if q.off+q.n <= off {
			return -1
		}
		return 1
	})
	for ; n < len(b) && i < len(p.list); i++ {
		q := p.list[i]
		want := b[n:min(int64(len(b)), int64(n)+q.off+q.n-off)]
		k, err := q.r.ReadAt(want, off-q.off)
		n, off = n+k, off+int64(k)
		if k < len(want) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
