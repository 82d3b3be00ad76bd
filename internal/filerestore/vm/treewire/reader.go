package treewire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

const maxNotices = 100

// Reader yields the entries of a stream as an extract.Source does. An error of a
// single file's content is one of Read, and Next goes on.
type Reader struct {
	r       io.Reader
	problem func(path string, err error) error
	buf     []byte

	names   []string
	depth   int // directories that are open
	notices []string
	number  int64
	started bool
	err     error

	file  bool // there is content to come
	data  []byte
	zeros int64
	left  int64 // of the file's size
	ferr  error
}

// NewReader reads from r. problem hears of what is left out; nil, or an error of
// it: the first one ends everything.
func NewReader(r io.Reader, problem func(path string, err error) error) *Reader {
	return &Reader{r: r, problem: problem, buf: make([]byte, 0, maxData)}
}

// Notices are what people want to know, as far as it has come.
func (r *Reader) Notices() []string { return r.notices }

// Path leads to the entry that Next returned last.
func (r *Reader) Path() []string { return r.names }

// Next returns the next entry.
func (r *Reader) Next() (*pxar.Entry, error) {
	if r.err != nil {
		return nil, r.err
	}
	e, err := r.next()
	if err != nil {
		r.err = err
	}
	return e, err
}

func (r *Reader) next() (*pxar.Entry, error) {
	for r.file { // what nobody read of the last one
		if err := r.fill(); err != nil {
			return nil, err
		}
		r.data, r.zeros = nil, 0
	}
	r.data, r.zeros, r.ferr = nil, 0, nil
	for {
		kind, b, err := readFrame(r.r, r.buf)
		if err != nil {
			return nil, err
		}
		switch kind {
		case frameEntry:
			return r.entry(b)
		case frameProblem:
			if err := r.leftOut(b); err != nil {
				return nil, err
			}
		case frameNotice:
			if len(r.notices) < maxNotices {
				r.notices = append(r.notices, string(b))
			}
		case frameEnd:
			if len(b) > 0 {
				return nil, errors.New(string(b))
			}
			if !r.started || r.depth > 0 {
				return nil, fmt.Errorf("%w: it ends within a directory", ErrFormat)
			}
			return nil, io.EOF
		default:
			return nil, fmt.Errorf("%w: frame %q where an entry is to be", ErrFormat, kind)
		}
	}
}

func (r *Reader) leftOut(b []byte) error {
	var p Problem
	if err := json.Unmarshal(b, &p); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	path, why := string(p.Path), errors.New(p.Error)
	if r.problem == nil {
		return fmt.Errorf("%s: %w", path, why)
	}
	return r.problem(path, why)
}

// entry checks what the machine says, so that nothing behind it need to.
func (r *Reader) entry(b []byte) (*pxar.Entry, error) {
	var in Entry
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("%w: entry: %w", ErrFormat, err)
	}
	e := &pxar.Entry{
		Name: string(in.Name), Kind: in.Kind, Metadata: in.Metadata, Size: in.Size,
		Target: string(in.Target), Device: in.Device, Offset: in.Number, Link: in.Link,
	}
	e.Xattrs = nil
	for _, x := range in.Attrs {
		e.Xattrs = append(e.Xattrs, pxar.Xattr{Name: string(x.Name), Value: x.Value})
	}
	if why := r.wrong(e); why != "" {
		return nil, fmt.Errorf("%w: %q: %s", ErrFormat, e.Name, why)
	}
	r.number = e.Offset
	switch {
	case !r.started:
		r.started, r.depth = true, 1
	case e.Kind == pxar.End:
		r.depth--
		r.names = r.names[:r.depth]
	default:
		r.names = append(r.names[:r.depth-1], e.Name)
		if e.Kind == pxar.Directory {
			r.depth++
		}
	}
	if e.Kind == pxar.File {
		r.file, r.left = true, e.Size
	}
	return e, nil
}

// typeBits are those that an entry's mode has.
var typeBits = map[pxar.Kind]uint32{
	pxar.Directory: pxar.ModeDirectory, pxar.File: pxar.ModeFile, pxar.Symlink: pxar.ModeSymlink,
	pxar.CharDevice: pxar.ModeCharDevice, pxar.BlockDevice: pxar.ModeBlockDevice, pxar.FIFO: pxar.ModeFIFO, pxar.Socket: pxar.ModeSocket,
}

func (r *Reader) wrong(e *pxar.Entry) string {
	bits, known := typeBits[e.Kind]
	switch {
	case r.started && r.depth == 0:
		return "it comes behind the end of the root"
	case e.Offset != r.number+1:
		return "entries are not numbered in a row"
	case e.Kind == pxar.End:
		if !r.started {
			return "there is no root"
		}
		return ""
	case !r.started && (e.Kind != pxar.Directory || e.Name != ""):
		return "the root is to be a directory without a name"
	case !known && e.Kind != pxar.Hardlink:
		return "it is of no kind that there is"
	case known && e.Mode&^0o7777 != bits:
		return "mode and kind differ"
	case r.started && (e.Name == "" || e.Name == "." || e.Name == ".." || len(e.Name) > pxar.MaxName || strings.ContainsAny(e.Name, "/\x00")):
		return "the name is none"
	case e.Kind == pxar.Directory && r.depth >= pxar.MaxDepth:
		return "there are too many directories in each other"
	case e.Size < 0 || e.Size > 0 && e.Kind != pxar.File:
		return "the size is not possible"
	case (e.Kind == pxar.Symlink || e.Kind == pxar.Hardlink) && (e.Target == "" || len(e.Target) > pxar.MaxName || strings.ContainsRune(e.Target, 0)):
		return "the target is none"
	case e.Kind == pxar.Hardlink && (e.Link <= 0 || e.Link >= e.Offset):
		return "it links to nothing before it"
	case e.Mtime.Nsec > 999999999:
		return "the time is none"
	}
	for _, x := range e.Xattrs {
		if x.Name == "" || len(x.Name) > 255 || strings.ContainsRune(x.Name, 0) {
			return "an attribute has no name that is possible"
		}
	}
	return ""
}

// Read reads the content of the file that Next returned last.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.file && len(r.data) == 0 && r.zeros == 0 {
		if err := r.fill(); err != nil {
			r.err = err // what follows is lost too
			return 0, err
		}
	}
	switch {
	case len(r.data) > 0:
		n := copy(p, r.data)
		r.data = r.data[n:]
		return n, nil
	case r.zeros > 0:
		n := int(min(int64(len(p)), r.zeros))
		clear(p[:n])
		r.zeros -= int64(n)
		return n, nil
	case r.ferr != nil:
		return 0, r.ferr
	}
	return 0, io.EOF
}

// fill takes the next frame of a file's content.
func (r *Reader) fill() error {
	kind, b, err := readFrame(r.r, r.buf)
	if err != nil {
		return err
	}
	n := int64(0)
	switch kind {
	case frameData:
		r.data, n = b, int64(len(b))
	case frameZeros:
		if len(b) != 8 || int64(binary.BigEndian.Uint64(b)) < 0 {
			return fmt.Errorf("%w: zeros of %d bytes", ErrFormat, len(b))
		}
		r.zeros = int64(binary.BigEndian.Uint64(b))
		n = r.zeros
	case frameEndFile:
		r.file = false
		switch {
		case len(b) > 0:
			r.ferr = errors.New(string(b))
		case r.left != 0:
			return fmt.Errorf("%w: a file has %d bytes less than was said", ErrFormat, r.left)
		}
		return nil
	case frameEnd: // the machine gave up
		return fmt.Errorf("%w: it ends within a file: %s", ErrFormat, b)
	default:
		return fmt.Errorf("%w: frame %q within a file", ErrFormat, kind)
	}
	if r.left -= n; r.left < 0 {
		return fmt.Errorf("%w: a file has more bytes than was said", ErrFormat)
	}
	return nil
}
