// Package browse is the names in a snapshot as one read-only tree: over its
// catalog, or over a file archive itself.
//
// # Trees
//
// A catalog ([OpenCatalog]) covers all archives of version 1: its root holds one
// directory for each, named like its index, "root.pxar.didx"; [Tree.Below] makes
// one of them a tree of its own. It knows kinds, names, and of files sizes and
// times. An archive ([OpenArchive]) knows everything, and for version 1 reading
// names means reading between contents.
//
// Both show the same names, kinds, sizes and order. No symbolic link is followed.
//
// # Paths
//
// A path begins with "/", the root of the tree, and is clean: no empty names, no
// "." and "..". Names are any bytes but "/" and NUL. [Clean] makes a path of what
// a user wrote, [Pattern] a pattern of internal/exclude.
//
// # Memory
//
// A walk keeps where it is: of each open directory three numbers, of the eight
// deepest what was read of them last, and one path of at most [MaxPath] bytes.
// [Tree.Sorted] keeps entries of at most 16 MiB; of a larger directory whose
// archive is not in order it reads the names anew for each such part.
//
// # Trust
//
// What is said here of an archive is what its bytes say: whatever they are, every
// operation ends, after at most as many entries as there are bytes to hold them.
//
// # Errors
//
// A path that is not there gives [fs.ErrNotExist]; bytes that are no catalog or
// archive a [*repo.CorruptError]; a cancelled context its cause; chunks and
// indexes give the errors of repo.
package browse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/catalog"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// MaxPath is the length of the longest path that a walk goes down to, in bytes.
const MaxPath = catalog.MaxPath

// Entry is one name in a tree.
type Entry struct {
	Name  string // "" for the root
	Kind  pxar.Kind
	Size  uint64    // of a file in bytes
	Mtime pxar.Time // zero where it is not known, see HasMtime

	// File is all that an archive knows of the entry; nil in a catalog.
	File *pxar.Entry

	node catalog.Entry // in a catalog
}

// IsDir reports whether the entry is a directory.
func (e *Entry) IsDir() bool { return e.Kind == pxar.Directory }

// HasMtime reports whether the time of last change is known: an archive knows it
// of all but hard links, a catalog of files.
func (e *Entry) HasMtime() bool {
	if e.File != nil {
		return e.Kind != pxar.Hardlink
	}
	return e.Kind == pxar.File
}

// Func is called with the path of an entry, which it may use until it returns.
// It returns [fs.SkipDir] for a directory that is not to be entered, or for
// another entry to leave the directory it is in, and [fs.SkipAll] to stop.
type Func func(path []byte, e *Entry) error

// Tree is a tree of names. It is safe for concurrent use.
type Tree struct {
	what   string // for errors
	src    source
	top    Entry
	closer io.Closer // nil: another tree closes it
}

// source is what a tree is read from.
type source interface {
	list(dir *Entry) iter.Seq2[Entry, error]
	child(dir *Entry, name string) (Entry, error)
	// walk calls f for everything below dir, with paths that begin with base.
	walk(dir *Entry, base []byte, f Func) error
	// target is what a hard link stands for.
	target(e *Entry) (Entry, error)
}

// OpenCatalog opens the catalog of a snapshot. Without one the error is
// [repo.ErrNotFound]. The snapshot must stay open; cache may be nil.
func OpenCatalog(ctx context.Context, snap repo.Snapshot, key *chunkcrypt.Key, cache *archive.Cache) (*Tree, error) {
	r, err := archive.OpenDynamic(ctx, snap, names.Catalog, key, cache)
	if err != nil {
		return nil, err
	}
	c, err := catalog.Open(r, r.Size())
	if err != nil {
		err = fmt.Errorf("catalog of %s: %w", snap.Name(), damage("catalog", err))
		return nil, errors.Join(err, r.Close())
	}
	return overCatalog(c, r), nil
}

// OpenArchive opens a file archive; its contents are not needed. The snapshot
// must stay open; cache may be nil.
func OpenArchive(ctx context.Context, snap repo.Snapshot, p filearchive.Parts, key *chunkcrypt.Key, cache *archive.Cache) (*Tree, error) {
	a, err := filearchive.OpenMeta(ctx, snap, p, key, cache)
	if err != nil {
		return nil, err
	}
	return overArchive(p.Name(), a.Archive, a), nil
}

// Over makes a tree of an archive that is open, and stays open while the tree is
// used.
func Over(a *filearchive.Archive) *Tree { return overArchive(a.Parts.Name(), a.Archive, nil) }

func overCatalog(c *catalog.Reader, closer io.Closer) *Tree {
	return &Tree{what: "catalog", src: inCatalog{c}, top: ofCatalog(c.Root()), closer: closer}
}

func overArchive(name string, a *pxar.Archive, closer io.Closer) *Tree {
	return &Tree{what: "archive " + name, src: inArchive{a}, top: ofArchive(a.Root().Entry()), closer: closer}
}

// Close ends reads that are on their way.
func (t *Tree) Close() error {
	if t.closer == nil {
		return nil
	}
	return t.closer.Close()
}

// Below makes the directory at path the root of a tree, which is closed with t.
func (t *Tree) Below(ctx context.Context, path string) (*Tree, error) {
	e, err := t.dir(ctx, path)
	if err != nil {
		return nil, err
	}
	e.Name = ""
	return &Tree{what: t.what, src: t.src, top: e}, nil
}

// Lookup returns the entry at a path.
func (t *Tree) Lookup(ctx context.Context, path string) (Entry, error) {
	at := t.top
	for name := range strings.SplitSeq(path, "/") {
		if name == "" {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return Entry{}, err
		}
		if !at.IsDir() {
			return Entry{}, &fs.PathError{Op: "look up", Path: path, Err: fs.ErrNotExist}
		}
		e, err := t.src.child(&at, name)
		if errors.Is(err, fs.ErrNotExist) {
			return Entry{}, &fs.PathError{Op: "look up", Path: path, Err: fs.ErrNotExist}
		}
		if err != nil {
			return Entry{}, t.error(err)
		}
		at = e
	}
	return at, nil
}

// ErrNotDir is wrapped where a directory is needed and something else found.
var ErrNotDir = errors.New("not a directory")

func (t *Tree) dir(ctx context.Context, path string) (Entry, error) {
	e, err := t.Lookup(ctx, path)
	if err == nil && !e.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotDir}
	}
	return e, err
}

// Target returns the file that a hard link stands for, and any other entry as it
// is. A catalog does not know: the link comes back.
func (t *Tree) Target(e Entry) (Entry, error) {
	if e.Kind != pxar.Hardlink {
		return e, nil
	}
	to, err := t.src.target(&e)
	return to, t.error(err)
}

// List yields the entries of a directory in the order of the archive, and an
// error at most once, as the last.
func (t *Tree) List(ctx context.Context, path string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		dir, err := t.dir(ctx, path)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		for e, err := range t.src.list(&dir) {
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield(Entry{}, t.error(err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Walk calls f for everything below the directory at path, each directory before
// what it holds, in the order of the archive. Its error is that of f, unless that
// is one of those that [Func] names.
func (t *Tree) Walk(ctx context.Context, path string, f Func) error {
	dir, err := t.dir(ctx, path)
	if err != nil {
		return err
	}
	var own error // of f, which is handed on as it is
	err = t.src.walk(&dir, []byte(strings.TrimSuffix(path, "/")), func(path []byte, e *Entry) error {
		err := context.Cause(ctx)
		if err == nil {
			err = f(path, e)
		}
		if !errors.Is(err, fs.SkipDir) && !errors.Is(err, fs.SkipAll) {
			own = err
		}
		return err
	})
	if own != nil {
		return own
	}
	return t.error(err)
}

// error marks bytes that are no catalog or archive as damage.
func (t *Tree) error(err error) error {
	if err == nil {
		return nil
	}
	return damage(t.what, err)
}

func damage(what string, err error) error {
	if errors.Is(err, pxar.ErrFormat) || errors.Is(err, catalog.ErrFormat) {
		return &repo.CorruptError{What: what, Err: err}
	}
	return err
}
