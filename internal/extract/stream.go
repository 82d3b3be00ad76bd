package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// StreamOptions says what is written to a stream. The zero value writes all.
type StreamOptions struct {
	Skip     filemeta.Set  // metadata that is left out
	Problem  func(Problem) // nil: problems are only counted
	Counters *Counters     // progress; nil: not counted
}

// ErrForm is wrapped in problems that are the format's: it has no place for an
// entry, or for some metadata.
var ErrForm = errors.New("has no place for it")

// stream is an archive on its way into a stream. Nothing can be taken back there,
// so every error of content ends it.
type stream struct {
	ctx context.Context
	src Source
	o   StreamOptions
	res Result
	buf []byte // for content, made once
}

// copySize is large enough for writes to a pipe or a disk to cost little.
const copySize = 256 << 10

// each calls write for all entries, the ends of directories included.
func (s *stream) each(write func(*pxar.Entry) error) error {
	for {
		if err := s.ctx.Err(); err != nil {
			return context.Cause(s.ctx)
		}
		e, err := s.src.Next()
		if errors.Is(err, io.EOF) {
			return s.res.check()
		}
		if err != nil {
			return err
		}
		if e.Kind != pxar.End {
			s.res.Asked.add(e.Kind, e.Size)
			if s.o.Counters != nil {
				s.o.Counters.Entries.Add(1)
			}
		}
		switch err := write(e); {
		case errors.Is(err, ErrForm):
			s.res.Failed.add(e.Kind, e.Size)
			if s.o.Problem != nil {
				s.o.Problem(Problem{s.path(), e.Kind, err})
			}
		case err != nil:
			return fmt.Errorf("%s: %w", s.path(), err)
		case e.Kind != pxar.End:
			s.res.Made.add(e.Kind, e.Size)
		}
	}
}

// path is that of the current entry.
func (s *stream) path() string { return pxar.Join(s.src.Path()) }

// missed counts metadata that the format has no place for.
func (s *stream) missed(w filemeta.What, has bool, format string) {
	if !has || s.o.Skip.Has(w) {
		return
	}
	m := &s.res.NotSet[w]
	if m.Count++; m.Err == nil {
		m.Path, m.Err = s.path(), fmt.Errorf("%s %w", format, ErrForm)
	}
}

// metadata is that of an entry without what is left out.
func (s *stream) metadata(e *pxar.Entry) pxar.Metadata {
	m := e.Metadata
	for w, drop := range map[filemeta.What]func(){
		filemeta.Owner:   func() { m.UID, m.GID = 0, 0 },
		filemeta.Xattrs:  func() { m.Xattrs = nil },
		filemeta.FCaps:   func() { m.FCaps = nil },
		filemeta.ACLs:    func() { m.ACL = nil },
		filemeta.Project: func() { m.ProjectID = 0 },
		filemeta.Mode:    func() { m.Mode = m.Mode&pxar.ModeType | plainMode(m.Mode) },
		filemeta.Flags:   func() { m.Flags = 0 },
	} {
		if s.o.Skip.Has(w) {
			drop()
		}
	}
	return m
}

func plainMode(mode uint32) uint32 {
	if mode&pxar.ModeType == pxar.ModeDirectory {
		return 0o755
	}
	return 0o644
}

// content copies what is to be read of the current file, size bytes.
func (s *stream) content(w io.Writer, size int64) error {
	if s.buf == nil {
		s.buf = make([]byte, copySize)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, counted{s}, s.buf) // the writer alone: it would take its own
	if err == nil && n != size {
		err = fmt.Errorf("%w: the content has %d bytes, not %d", pxar.ErrFormat, n, size)
	}
	return err
}

// counted reads content and counts it.
type counted struct{ s *stream }

func (c counted) Read(p []byte) (int, error) {
	if err := c.s.ctx.Err(); err != nil {
		return 0, context.Cause(c.s.ctx)
	}
	n, err := c.s.src.Read(p)
	if c.s.o.Counters != nil {
		c.s.o.Counters.Bytes.Add(int64(n))
	}
	return n, err
}

// Pxar writes what a source yields as an archive of version 1. The source is
// opened twice, since a hard link says how far back its file is: at first for
// the names alone, to see which files have links. For each of those 16 bytes of
// memory are taken.
func Pxar(ctx context.Context, open func() (Source, error), w io.Writer, o StreamOptions) (Result, error) {
	targets, err := linked(ctx, open)
	if err != nil {
		return Result{}, err
	}
	src, err := open()
	if err != nil {
		return Result{}, err
	}
	s := &stream{ctx: ctx, src: src, o: o}
	out := pxar.NewWriter(w, pxar.WriterOptions{})
	offsets := make([]int64, len(targets)) // in the new archive
	err = s.each(func(e *pxar.Entry) error {
		n := pxar.Entry{Name: e.Name, Kind: e.Kind, Metadata: s.metadata(e), Size: e.Size, Target: e.Target, Device: e.Device}
		switch e.Kind {
		case pxar.End:
			return out.EndDir()
		case pxar.Directory:
			return out.BeginDir(&n)
		case pxar.Hardlink:
			i, ok := slices.BinarySearch(targets, e.Link)
			if !ok || offsets[i] == 0 {
				return fmt.Errorf("%w: hard link to offset %d, where no file is", pxar.ErrFormat, e.Link)
			}
			n.Metadata, n.Link = pxar.Metadata{}, offsets[i]
			return out.Add(&n)
		case pxar.File:
			c, err := out.AddFile(&n, counted{s})
			if err == nil && (c.Missing > 0 || c.Err != nil) {
				err = errors.Join(c.Err, fmt.Errorf("%w: %d bytes of the content are missing", pxar.ErrFormat, c.Missing))
			}
			if i, ok := slices.BinarySearch(targets, e.Offset); ok {
				offsets[i] = n.Offset
			}
			return err
		}
		return out.Add(&n)
	})
	if err == nil {
		err = out.Close()
	}
	return s.res, err
}

// maxLinked is how many files with links are remembered.
const maxLinked = 8 << 20

// linked returns the offsets that hard links lead to, sorted.
func linked(ctx context.Context, open func() (Source, error)) (targets []int64, err error) {
	src, err := open()
	if err != nil {
		return nil, err
	}
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		e, err := src.Next()
		switch {
		case errors.Is(err, io.EOF):
			slices.Sort(targets)
			return slices.Compact(targets), nil
		case err != nil:
			return nil, err
		case e.Kind != pxar.Hardlink:
			continue
		}
		if targets = append(targets, e.Link); len(targets) == maxLinked {
			slices.Sort(targets)
			if targets = slices.Compact(targets); len(targets) > maxLinked/2 {
				return nil, fmt.Errorf("more than %d files with hard links", maxLinked/2)
			}
		}
	}
}
