package dirstore

import (
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/zero"
)

const writebackStep = 32 << 20 // bytes

// sparse is a file that is written from start to end, with holes for zeros. What
// is written can be changed once more.
type sparse struct {
	f      vfs.File
	buf    []byte // whole grains are written
	at     int64  // length so far
	stored int64  // without holes
}

var _ extract.Rewriter = (*sparse)(nil)

func newSparse(f vfs.File) *sparse { return &sparse{f: f, buf: make([]byte, 0, 1<<20)} }

// Write takes bytes that are written later, at finish at the latest.
func (s *sparse) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n := copy(s.buf[len(s.buf):cap(s.buf)], p[done:])
		s.buf = s.buf[:len(s.buf)+n]
		done += n
		if len(s.buf) == cap(s.buf) {
			if err := s.flush(); err != nil {
				return done, err
			}
		}
	}
	return len(p), nil
}

// Offset is the number of bytes taken.
func (s *sparse) Offset() int64 { return s.at + int64(len(s.buf)) }

// Rewrite changes bytes that were taken.
func (s *sparse) Rewrite(p []byte, off int64) error {
	if n := min(s.at-off, int64(len(p))); n > 0 {
		if _, err := s.f.WriteAt(p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	copy(s.buf[min(off-s.at, int64(len(s.buf))):], p)
	return nil
}

func (s *sparse) flush() error {
	for p := s.buf; len(p) > 0; {
		n, isZero := zero.Run(p, grain)
		if !isZero {
			if _, err := s.f.WriteAt(p[:n], s.at); err != nil {
				return err
			}
			if s.stored/writebackStep != (s.stored+int64(n))/writebackStep {
				s.f.StartWriteback()
			}
			s.stored += int64(n)
		}
		s.at += int64(n)
		p = p[n:]
	}
	s.buf = s.buf[:0]
	return nil
}

// finish makes the file durable.
func (s *sparse) finish() error {
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.f.Truncate(s.at); err != nil { // it may end in a hole
		return err
	}
	return s.f.Sync()
}
