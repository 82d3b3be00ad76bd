package pxar

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Reader reads an archive from its start to its end, each byte once. Between
// two calls of Next it is an io.Reader of the file's content.
//
// It checks all that the package comment says. Reading in a row needs no goodbye
// tables, and some programs write wrong ones: they count as [Reader.Flaws] and
// end nothing, as with the existing decoder. Without a flaw, each table has
// exactly the children that were seen, and an [Archive] of the same bytes shows
// the same tree.
type Reader struct {
	in      *input
	payload *input // nil: contents cannot be read
	version int
	prelude []byte

	started bool
	dirs    []readDir
	path    []string
	e       Entry
	ready   bool  // version 2: the payload stream is where the content of e starts
	left    int64 // of the content of e
	err     error
	flaws   int64
	flaw    error // the first one
}

// readDir is a directory whose end has not come.
type readDir struct {
	name        string
	offset      int64 // of FILENAME, of the root ENTRY
	entry, body int64
	count       int64
	sum         uint64 // over its children so far
	start       int64  // of the last child
	hash        uint64 // of its name
}

// NewReader returns a Reader of the archive r. payload is the payload stream of
// version 2, and nil for version 1; with nil, version 2 can be walked and no
// content be read. A stream that can seek is not read where nobody looks.
func NewReader(r, payload io.Reader) (*Reader, error) {
	d := &Reader{in: streamInput(r)}
	var err error
	if d.version, d.prelude, err = d.in.start(); err != nil {
		return nil, err
	}
	if payload == nil {
		return d, nil
	}
	if d.version == 1 {
		return nil, fmt.Errorf("%w: version 1 has no payload stream", ErrFormat)
	}
	d.payload = streamInput(payload)
	it, err := d.payload.item()
	switch {
	case err != nil:
		return nil, fmt.Errorf("payload stream: %w", d.payload.within(err))
	case it.typ != TypePayloadStart || it.size != 0:
		return nil, fmt.Errorf("payload stream: %w", it.bad("of %d bytes where the start marker is expected", it.size))
	}
	return d, nil
}

// Version is 1 or 2.
func (d *Reader) Version() int { return d.version }

// Prelude is that of the archive, nil if there is none.
func (d *Reader) Prelude() []byte { return d.prelude }

// Flaws counts what is wrong with what was read so far and was not needed: tables
// that say other than their directories hold, and bytes behind the end of the
// root. The error says what the first is.
func (d *Reader) Flaws() (n int64, first error) { return d.flaws, d.flaw }

func (d *Reader) note(flaw error) {
	if d.flaws++; d.flaw == nil {
		d.flaw = flaw
	}
}

// Path returns the names that lead from the root to the entry that Next
// returned last, nothing for the root. It is valid until the next call of Next.
func (d *Reader) Path() []string { return d.path }

// Next returns the next entry, first the root. Behind the entries of a
// directory comes one of the kind [End] with the name, Offset and EndPos of the
// directory; behind that of the root the error is io.EOF. The entry is valid
// until the next call, a copy of it as long as one likes.
func (d *Reader) Next() (*Entry, error) {
	if d.err != nil {
		return nil, d.err
	}
	if d.err = d.next(); d.err != nil {
		return nil, d.err
	}
	return &d.e, nil
}

func (d *Reader) next() error {
	if !d.started {
		d.started = true
		return d.root()
	}
	if d.e.Kind != Directory && len(d.path) > 0 {
		d.path = d.path[:len(d.path)-1]
	}
	if d.version == 1 && d.left > 0 {
		if err := d.in.skip(d.left); err != nil {
			return err
		}
	}
	d.left = 0
	if len(d.dirs) == 0 {
		return d.atEnd()
	}
	it, err := d.in.item()
	if err != nil {
		return d.in.within(err)
	}
	dir := &d.dirs[len(d.dirs)-1]
	dir.closeChild(it.pos, d.version)
	if it.typ == TypeGoodbye {
		return d.goodbye(dir, it)
	}
	name, err := d.in.filename(it)
	if err != nil {
		return err
	}
	d.e = Entry{Name: name, Offset: it.pos}
	dir.count++
	dir.start, dir.hash = it.pos, NameHash(name)
	d.path = append(d.path, name)
	return d.entry()
}

func (d *Reader) root() error {
	d.e = Entry{Offset: d.in.pos}
	if err := d.entry(); err != nil {
		return err
	}
	if d.e.Kind != Directory {
		return fmt.Errorf("%w: the root is a %s", ErrFormat, d.e.Kind)
	}
	return nil
}

func (d *Reader) entry() error {
	entry := d.in.pos
	if err := d.in.entry(&d.e, d.version); err != nil {
		return err
	}
	switch d.e.Kind {
	case File:
		d.left, d.ready = d.e.Size, d.version == 1
	case Directory:
		if len(d.dirs) > MaxDepth {
			return fmt.Errorf("%w: offset %d: more than %d directories in each other", ErrFormat, d.e.Offset, MaxDepth)
		}
		d.dirs = append(d.dirs, readDir{name: d.e.Name, offset: d.e.Offset, entry: entry, body: d.in.pos})
	}
	return nil
}

// atEnd looks whether something follows the root.
func (d *Reader) atEnd() error {
	_, err := d.in.peek(1)
	if err == nil {
		d.note(fmt.Errorf("%w: bytes behind the end of the root, from offset %d on", ErrFormat, d.in.pos))
		return io.EOF
	}
	return err
}

// closeChild adds the last child, which ends at pos, to the sum.
func (r *readDir) closeChild(pos int64, version int) {
	if r.start > 0 {
		r.sum += childSum(r.hash, r.start, uint64(pos-r.start), version)
	}
	r.start = 0
}

// childSum stands for a child in a sum that does not depend on the order. Sizes
// in version 2 are not to be relied on.
func childSum(hash uint64, start int64, size uint64, version int) uint64 {
	if version == 2 {
		size = 0
	}
	x := hash
	for _, v := range [...]uint64{uint64(start), size} {
		x = (x ^ x>>32 ^ v) * 0x9e3779b97f4a7c15
	}
	return x ^ x>>29
}

// goodbye reads the table of the directory that ends.
func (d *Reader) goodbye(dir *readDir, it item) error {
	if _, err := d.in.next(HeaderSize); err != nil {
		return err
	}
	flaw, err := d.table(dir, it)
	if err == nil {
		err = d.in.skip(it.size - (d.in.pos - it.pos - HeaderSize))
	}
	if err != nil {
		return err
	}
	if flaw != nil {
		d.note(flaw)
	}
	d.e = Entry{Name: dir.name, Kind: End, Offset: dir.offset, Body: dir.body, EndPos: d.in.pos}
	d.dirs = d.dirs[:len(d.dirs)-1]
	return nil
}

// table reads the content of the table it, up to what is wrong.
func (d *Reader) table(dir *readDir, it item) (flaw, err error) {
	n := it.size/lineSize - 1
	if it.size%lineSize != 0 || n != dir.count {
		return it.bad("has %d bytes of content, %d entries of a directory need %d", it.size, dir.count, lineSize*(dir.count+1)), nil
	}
	sum := uint64(0)
	for range n {
		b, err := d.in.next(lineSize)
		if err != nil {
			return nil, err
		}
		l := parseLine(b)
		if l.back > uint64(it.pos) {
			return it.bad("leads to an entry %d bytes before it", l.back), nil
		}
		sum += childSum(l.hash, it.pos-int64(l.back), l.size, d.version)
	}
	if sum != dir.sum {
		return it.bad("has other entries than the directory %.80q", dir.name), nil
	}
	b, err := d.in.next(lineSize)
	if err != nil {
		return nil, err
	}
	return it.checkTail(parseLine(b), dir.entry, len(d.dirs) == 1), nil
}

// checkTail checks the directory's line in the goodbye table it.
func (it item) checkTail(tail line, entry int64, root bool) error {
	back := uint64(it.pos - entry)
	switch {
	case tail.hash != goodbyeTail:
		return it.bad("does not end in the line of the directory")
	case tail.size != uint64(it.size)+HeaderSize:
		return it.bad("of %d bytes says that it has %d", it.size+HeaderSize, tail.size)
	case tail.back != back && (!root || tail.back != uint64(it.pos)):
		return it.bad("leads back %d bytes to its directory, which is %d bytes before", tail.back, back)
	}
	return nil
}

// Read reads the content of the file that Next returned last, and io.EOF
// behind it or if that is no file.
func (d *Reader) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	if d.err != nil {
		return 0, d.err
	}
	if !d.ready {
		if err := d.findPayload(); err != nil {
			return 0, err
		}
		d.ready = true
	}
	in := d.in
	if d.version == 2 {
		in = d.payload
	}
	n, err := in.read(p[:min(int64(len(p)), d.left)])
	d.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF) && d.left > 0:
		err = fmt.Errorf("%w: cut short in the content of %.80q, %d bytes before its end", ErrFormat, d.e.Name, d.left)
	case errors.Is(err, io.EOF):
		err = nil
	}
	if err != nil {
		d.err = err
	}
	return n, err
}

// findPayload goes to the content of the file in the payload stream.
func (d *Reader) findPayload() error {
	if d.payload == nil {
		return fmt.Errorf("content of %.80q: %w", d.e.Name, ErrNoPayload)
	}
	in := d.payload
	err := in.to(d.e.Payload)
	if err == nil {
		err = in.payloadHeader(d.e.Size)
	}
	if err != nil {
		return fmt.Errorf("content of %.80q: payload stream: %w", d.e.Name, err)
	}
	return nil
}

// to goes to a position in a stream, forward, or back if the stream can seek.
func (in *input) to(pos int64) error {
	if pos >= in.pos {
		return in.skip(pos - in.pos)
	}
	s, ok := in.r.(io.Seeker)
	if !ok {
		return fmt.Errorf("%w: offset %d is wanted behind offset %d", ErrFormat, pos, in.pos)
	}
	if _, err := s.Seek(pos-in.pos-int64(in.j-in.i), io.SeekCurrent); err != nil {
		return fmt.Errorf("go back to offset %d: %w", pos, err)
	}
	in.i, in.j, in.pos = 0, 0, pos
	return nil
}

// payloadHeader consumes the header of a PAYLOAD item with n bytes of content.
func (in *input) payloadHeader(n int64) error {
	it, err := in.item()
	switch {
	case err != nil:
		return in.within(err)
	case it.typ != TypePayload || it.size != n:
		return it.bad("of %d bytes where a file's content of %d bytes is expected", it.size, n)
	}
	_, err = in.next(HeaderSize)
	return err
}

// Join makes a path of names, as they stand in [Reader.Path]; "/" for none.
func Join(names []string) string {
	return "/" + strings.Join(names, "/")
}

// ClonePath returns a copy of the path that Next does not change.
func (d *Reader) ClonePath() []string { return slices.Clone(d.path) }
