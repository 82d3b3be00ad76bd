package pxar

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// ErrNoPayload is returned where the content of a file in version 2 is wanted
// and the payload stream was not given.
var ErrNoPayload = errors.New("no payload stream was given")

// Archive is random access to an archive. It and its directories are safe for
// concurrent use if the readers are.
//
// A name that does not exist gives an error wrapping [fs.ErrNotExist].
type Archive struct {
	r           io.ReaderAt
	size        int64
	payload     io.ReaderAt
	payloadSize int64
	version     int
	prelude     []byte
	root        *Dir
}

// OpenArchive opens the archive of size bytes in r, and its root. payload is
// the payload stream of version 2 with its size; nil if contents are not wanted
// or the version is 1.
func OpenArchive(r io.ReaderAt, size int64, payload io.ReaderAt, payloadSize int64) (*Archive, error) {
	a := &Archive{r: r, size: size, payload: payload, payloadSize: payloadSize}
	in := fileInput(r, 0, size, listAhead)
	var err error
	if a.version, a.prelude, err = in.start(); err != nil {
		return nil, err
	}
	e := &Entry{Offset: in.pos, EndPos: size}
	if err := in.entry(e, a.version); err != nil {
		return nil, err
	}
	if e.Kind != Directory {
		return nil, fmt.Errorf("%w: the root is a %s", ErrFormat, e.Kind)
	}
	e.EndPos = size
	a.root, err = a.openDir(e, 0)
	return a, err
}

// Version is 1 or 2.
func (a *Archive) Version() int { return a.version }

// Size is that of the archive in bytes, of version 2 with the payload stream.
func (a *Archive) Size() int64 { return a.size + a.payloadSize }

// Prelude is that of the archive, nil if there is none.
func (a *Archive) Prelude() []byte { return a.prelude }

// Root is the root directory.
func (a *Archive) Root() *Dir { return a.root }

// Lookup finds the entry that names lead to from the root; without names it is
// the root. Links are not followed.
func (a *Archive) Lookup(names ...string) (*Entry, error) {
	d, e := a.root, a.root.Entry()
	for i, name := range names {
		if e.Kind != Directory {
			return nil, fmt.Errorf("%s is no directory: %w", Join(names[:i]), fs.ErrNotExist)
		}
		var err error
		if i > 0 {
			if d, err = d.Open(e); err != nil {
				return nil, err
			}
		}
		if e, err = d.Lookup(name); err != nil {
			return nil, fmt.Errorf("%s: %w", Join(names[:i]), err)
		}
	}
	return e, nil
}

// LookupPath is Lookup for a path with slashes, leading, trailing and double
// ones not counted. ".." is refused with [fs.ErrInvalid].
func (a *Archive) LookupPath(path string) (*Entry, error) {
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		switch name {
		case "", ".":
		case "..":
			return nil, fmt.Errorf("path %q: %w", path, fs.ErrInvalid)
		default:
			names = append(names, name)
		}
	}
	return a.Lookup(names...)
}

// EntryAt reads the entry whose Offset is known, without looking into the
// directory that holds it: EndPos of a directory stays 0.
func (a *Archive) EntryAt(offset int64) (*Entry, error) {
	if offset == a.root.e.Offset {
		return a.root.Entry(), nil
	}
	if offset < a.root.e.Body || offset >= a.root.table {
		return nil, fmt.Errorf("%w: offset %d is outside the entries of the archive", ErrFormat, offset)
	}
	return a.entryAt(fileInput(a.r, offset, a.root.table, fileAhead))
}

// entryAt reads an entry from its FILENAME on.
func (a *Archive) entryAt(in *input) (*Entry, error) {
	it, err := in.item()
	if err != nil {
		return nil, in.within(err)
	}
	e := &Entry{Offset: in.pos}
	if e.Name, err = in.filename(it); err != nil {
		return nil, err
	}
	if err := in.entry(e, a.version); err != nil {
		return nil, err
	}
	if e.EndPos > in.limit {
		return nil, fmt.Errorf("%w: offset %d: the content of %.80q reaches behind its directory", ErrFormat, e.Offset, e.Name)
	}
	return e, nil
}

// Resolve returns the file that a hard link stands for, and any other entry as
// it is. The name is that of the first link.
func (a *Archive) Resolve(e *Entry) (*Entry, error) {
	if e.Kind != Hardlink {
		return e, nil
	}
	if e.Link >= e.Offset {
		return nil, fmt.Errorf("%w: hard link %.80q at offset %d leads to %d", ErrFormat, e.Name, e.Offset, e.Link)
	}
	t, err := a.EntryAt(e.Link)
	if err != nil {
		return nil, fmt.Errorf("hard link %.80q: %w", e.Name, err)
	}
	if t.Kind != File {
		return nil, fmt.Errorf("%w: hard link %.80q leads to a %s", ErrFormat, e.Name, t.Kind)
	}
	return t, nil
}

// Content returns the content of a file, e.Size bytes. In version 2 it reads
// the header in the payload stream first.
func (a *Archive) Content(e *Entry) (*io.SectionReader, error) {
	switch {
	case e.Kind != File:
		return nil, fmt.Errorf("content of %.80q: a %s has none: %w", e.Name, e.Kind, fs.ErrInvalid)
	case a.version == 1:
		return io.NewSectionReader(a.r, e.Body, e.Size), nil
	case a.payload == nil:
		return nil, fmt.Errorf("content of %.80q: %w", e.Name, ErrNoPayload)
	case e.Payload > a.payloadSize-HeaderSize || e.Size > a.payloadSize-HeaderSize-e.Payload:
		return nil, fmt.Errorf("%w: content of %.80q at offset %d, %d bytes, is outside the payload stream of %d bytes",
			ErrFormat, e.Name, e.Payload, e.Size, a.payloadSize)
	}
	in := fileInput(a.payload, e.Payload, a.payloadSize, HeaderSize)
	if err := in.payloadHeader(e.Size); err != nil {
		return nil, fmt.Errorf("content of %.80q: payload stream: %w", e.Name, err)
	}
	return io.NewSectionReader(a.payload, e.Payload+HeaderSize, e.Size), nil
}
