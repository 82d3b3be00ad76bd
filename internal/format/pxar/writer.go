package pxar

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// ErrTooMany is wrapped when the open directories have more entries than a
// Writer is allowed to remember.
var ErrTooMany = errors.New("too many entries in the open directories")

// WriterOptions choose the version and its limits. The zero value writes
// version 1.
type WriterOptions struct {
	// Payload gets the contents of files, and the archive is of version 2. It
	// sees a Write of 16 bytes for each header and Writes of at most 4 MiB for
	// content, all but the last of a file exactly that: what cuts by content
	// and by files' starts then cuts as the existing client does.
	Payload io.Writer
	// Prelude of version 2, nil: none.
	Prelude []byte
	// MaxEntries bounds the entries so far of the directories that are open,
	// 24 bytes of memory each. 0: no limit.
	MaxEntries int
}

// Writer writes an archive, directories before what they hold. The first call
// is BeginDir for the root, the last one Close. An error that wraps
// [ErrInvalid] leaves the Writer as it was; any other is final.
type Writer struct {
	w        io.Writer
	o        WriterOptions
	version  int
	err      error
	out      []byte // written, not yet handed to w
	flushed  int64  // bytes handed to w
	children []child
	dirs     []openDir
	started  bool // what stands before the root is written
	ended    bool // the root is
	copy     []byte
	head     []byte // of the last item of the payload stream

	payload int64 // position in the payload stream
	lastRef int64 // offset of the last reference
	refEnd  int64 // end of what references promise
}

// openDir is a directory that has begun.
type openDir struct {
	hash     uint64
	start    int64 // of FILENAME
	entry    int64 // of ENTRY
	children int   // index of its first child
}

// outSize is how much of the metadata stream is collected before it is handed
// on.
const outSize = 64 << 10

// NewWriter returns a Writer that writes the archive, of version 2 the metadata
// stream, to w.
func NewWriter(w io.Writer, o WriterOptions) *Writer {
	version := 1
	if o.Payload != nil {
		version = 2
	}
	return &Writer{w: w, o: o, version: version, payload: HeaderSize, out: make([]byte, 0, outSize)}
}

// Position is the offset that the next entry will have.
func (w *Writer) Position() int64 { return w.flushed + int64(len(w.out)) }

// PayloadPosition is the offset in the payload stream that the header of the
// next file will have.
func (w *Writer) PayloadPosition() int64 { return w.payload }

// Depth is the number of open directories, the root included.
func (w *Writer) Depth() int { return len(w.dirs) }

// Held is the number of entries that are remembered, see
// [WriterOptions.MaxEntries].
func (w *Writer) Held() int { return len(w.children) }

// BeginDir adds a directory. What is added up to EndDir lies in it.
func (w *Writer) BeginDir(e *Entry) error {
	if len(w.dirs) > MaxDepth {
		return fmt.Errorf("%w: %.80q: more than %d directories in each other", ErrInvalid, e.Name, MaxDepth)
	}
	if e.Kind != Directory {
		return fmt.Errorf("%w: %s begun as a directory", ErrInvalid, e)
	}
	if !w.started {
		if err := w.begin(e); err != nil {
			return err
		}
	}
	d := openDir{start: w.Position(), children: len(w.children)}
	if len(w.dirs) > 0 {
		d.hash = NameHash(e.Name)
	}
	if err := w.entry(e); err != nil {
		return err
	}
	if d.entry = d.start; len(w.dirs) > 0 {
		d.entry += HeaderSize + int64(len(e.Name)) + 1
	}
	w.dirs = append(w.dirs, d)
	return nil
}

// begin writes what stands before the root.
func (w *Writer) begin(root *Entry) error {
	if root.Name != "" {
		return fmt.Errorf("%w: the root with the name %.80q", ErrInvalid, root.Name)
	}
	if err := root.check(); err != nil {
		return err
	}
	if w.err != nil || w.version == 1 {
		w.started = w.err == nil
		return w.err
	}
	if len(w.o.Prelude) > MaxPrelude {
		return fmt.Errorf("%w: a prelude of %d bytes, at most %d are possible", ErrInvalid, len(w.o.Prelude), MaxPrelude)
	}
	w.out = appendNumbers(w.out, TypeVersion, 2)
	if w.o.Prelude != nil {
		w.out = AppendHeader(w.out, TypePrelude, uint64(len(w.o.Prelude)))
		w.write(w.o.Prelude)
	}
	if err := w.payloadItem(TypePayloadStart, 0); err != nil {
		return err
	}
	w.started = true
	return w.err
}

// entry checks an entry and writes all of it that stands before its content.
func (w *Writer) entry(e *Entry) error {
	if w.err != nil {
		return w.err
	}
	root := len(w.dirs) == 0
	switch {
	case root && (e.Kind != Directory || w.ended):
		return fmt.Errorf("%w: %s outside the root", ErrInvalid, e)
	case !root:
		if problem := checkName(e.Name); problem != "" {
			return fmt.Errorf("%w: %s", ErrInvalid, problem)
		}
	}
	e.Offset = w.Position()
	if err := e.check(); err != nil {
		return err
	}
	if w.o.MaxEntries > 0 && len(w.children) >= w.o.MaxEntries {
		w.err = fmt.Errorf("%w: %d are held already", ErrTooMany, len(w.children))
		return w.err
	}
	if e.Offset > math.MaxInt64/4 {
		w.err = fmt.Errorf("%w: the archive has %d bytes", ErrInvalid, e.Offset)
		return w.err
	}
	if !root {
		w.out = appendText(w.out, TypeFilename, e.Name)
	}
	if e.Kind == Hardlink {
		w.out = AppendHeader(w.out, TypeHardlink, 8+uint64(len(e.Target))+1)
		w.out = le.AppendUint64(w.out, uint64(e.Offset-e.Link))
		w.out = append(append(w.out, e.Target...), 0)
	} else {
		w.out = e.Append(w.out)
	}
	e.Body = w.Position()
	return w.flushIfFull()
}

// end remembers an entry that is complete but for extra bytes that its line
// counts.
func (w *Writer) end(e *Entry, extra int64) error {
	e.EndPos = w.Position()
	w.children = append(w.children, child{NameHash(e.Name), e.Offset, uint64(e.EndPos - e.Offset + extra)})
	return w.err
}

// Add adds an entry without content: a symbolic link with its Target, a device
// with its Device, a FIFO, a socket, or a hard link with its Target and the
// Link to it. The Link is the Offset that the entry of the target has since it
// was added.
func (w *Writer) Add(e *Entry) error {
	if e.Kind == Directory || e.Kind == File {
		return fmt.Errorf("%w: %s added without content", ErrInvalid, e)
	}
	if err := w.entry(e); err != nil {
		return err
	}
	switch e.Kind {
	case Symlink:
		w.out = appendText(w.out, TypeSymlink, e.Target)
	case CharDevice, BlockDevice:
		w.out = appendNumbers(w.out, TypeDevice, e.Device.Major, e.Device.Minor)
	}
	return w.end(e, 0)
}

// EndDir ends the directory that was begun last.
func (w *Writer) EndDir() error {
	if w.err != nil {
		return w.err
	}
	if len(w.dirs) == 0 {
		return fmt.Errorf("%w: no directory is open", ErrInvalid)
	}
	d := w.dirs[len(w.dirs)-1]
	w.dirs = w.dirs[:len(w.dirs)-1]
	table := w.Position()
	children := w.children[d.children:]
	sortChildren(children)
	size := uint64(lineSize * (len(children) + 1))
	w.out = AppendHeader(w.out, TypeGoodbye, size)
	for i := range children {
		c := children[rank(i, len(children))]
		w.out = line{c.hash, uint64(table - c.start), c.size}.append(w.out)
		if err := w.flushIfFull(); err != nil {
			return err
		}
	}
	if len(w.dirs) == 0 {
		d.entry = 0 // the quirk: not where ENTRY is, behind FORMAT_VERSION and PRELUDE
	}
	w.out = line{goodbyeTail, uint64(table - d.entry), HeaderSize + size}.append(w.out)
	w.children = w.children[:d.children]
	if len(w.dirs) > 0 {
		w.children = append(w.children, child{d.hash, d.start, uint64(w.Position() - d.start)})
		return w.flushIfFull()
	}
	w.ended = true
	return w.flush()
}

// Close ends the archive and hands on what is left. It closes neither stream.
func (w *Writer) Close() error {
	switch {
	case w.err != nil:
		return w.err
	case !w.ended:
		return fmt.Errorf("%w: the root has not ended", ErrInvalid)
	}
	if w.version == 2 {
		if err := w.injected(); err != nil {
			return err
		}
		if err := w.payloadItem(TypePayloadTail, 0); err != nil {
			return err
		}
	}
	w.err = errors.New("the archive has been closed")
	return nil
}

// write appends b to the metadata stream.
func (w *Writer) write(b []byte) {
	if len(w.out)+len(b) > outSize {
		_ = w.flush() // kept in w.err
	}
	if len(b) < outSize/2 {
		w.out = append(w.out, b...)
		return
	}
	_ = w.flush()
	if w.err == nil {
		w.err = writeAll(w.w, b, "write archive")
		w.flushed += int64(len(b))
	}
}

func (w *Writer) flushIfFull() error {
	if len(w.out) < outSize {
		return w.err
	}
	return w.flush()
}

func (w *Writer) flush() error {
	if w.err == nil && len(w.out) > 0 {
		w.err = writeAll(w.w, w.out, "write archive")
		w.flushed += int64(len(w.out))
		w.out = w.out[:0]
		if cap(w.out) > 4*outSize { // after an entry with many attributes
			w.out = make([]byte, 0, outSize)
		}
	}
	return w.err
}

func writeAll(w io.Writer, b []byte, what string) error {
	n, err := w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
