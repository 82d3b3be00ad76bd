// Package rawfile opens the files of a snapshot as they are stored, for whoever
// passes them on, and remembers which chunks the indexes among them name.
//
// An index is compared with the manifest before a byte of it goes out, and so is
// a blob, but for the manifest and the client's log, which nothing vouches for.
package rawfile

import (
	"bytes"
	"io"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/indexset"
)

// Files are those of one snapshot. The zero value is ready; it is safe for
// concurrent use.
type Files struct {
	// Set is what the indexes that were opened name.
	indexset.Set

	mu     sync.Mutex
	learnt map[names.Archive]bool
}

// File is an open file.
type File struct {
	io.WriterTo
	Size   int64
	closer io.Closer // nil: the set has it
}

// Close closes the file.
func (f File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// Open opens a file of the snapshot. When an index is opened, its chunks are in
// the set. Its errors are those of the snapshot.
func (f *Files) Open(snap repo.Snapshot, name names.Archive) (File, error) {
	switch name.Kind() {
	case names.Fidx:
		x, c, err := snap.OpenFixed(name)
		if err != nil {
			return File{}, err
		}
		return f.learn(name, File{x, x.FileSize(), c}, func() error { return f.AddFixed(x, c) })
	case names.Didx:
		x, c, err := snap.OpenDynamic(name)
		if err != nil {
			return File{}, err
		}
		return f.learn(name, File{x, x.FileSize(), c}, func() error { return f.AddDynamic(x, c) })
	}
	raw, err := snap.Blob(name)
	if err != nil {
		return File{}, err
	}
	return File{WriterTo: bytes.NewReader(raw), Size: int64(len(raw))}, nil
}

// learn adds an index to the set once; add takes the index over.
func (f *Files) learn(name names.Archive, file File, add func() error) (File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.learnt[name] {
		return file, nil
	}
	if err := add(); err != nil {
		return File{}, err
	}
	if f.learnt == nil {
		f.learnt = map[names.Archive]bool{}
	}
	f.learnt[name] = true
	file.closer = nil
	return file, nil
}
