package mount

import (
	"errors"
	"fmt"
	"io"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// content is a file whose place in the archive was found and checked.
type content struct{ *io.SectionReader }

func (s *server) content(n node) (*content, error) {
	if c, ok := s.contents.get(n); ok {
		return c, nil
	}
	e, err := s.entry(n)
	if err != nil {
		return nil, err
	}
	r, err := s.a.Content(e)
	if err != nil {
		return nil, err
	}
	c := &content{r}
	s.contents.put(n, c)
	return c, nil
}

// Read reads a part of a file, in full or not at all.
func (s *server) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n := node(in.NodeId)
	c, err := s.content(n)
	if err != nil {
		return nil, s.failed("read", n, err)
	}
	off, size := int64(in.Offset), c.Size()
	if off < 0 || off >= size {
		return fuse.ReadResultData(nil), fuse.OK
	}
	buf = buf[:min(int64(len(buf)), int64(in.Size), size-off)]
	k, err := c.ReadAt(buf, off)
	if k < len(buf) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, s.failed("read", n, fmt.Errorf("%d bytes at offset %d of the file: %w", len(buf), off, err))
	}
	return fuse.ReadResultData(buf), fuse.OK
}
