// Package files lists and fetches files of archives of directories, through the
// catalog where there is one, else through the archive itself.
package files

import (
	"context"
	"errors"
	"io/fs"

	"github.com/holdfast-backup/holdfast/internal/browse"
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Driver looks into one archive of a directory.
type Driver struct {
	snap  repo.Snapshot
	parts filearchive.Parts
	key   *chunkcrypt.Key
	cache *archive.Cache
}

var _ filerestore.Driver = (*Driver)(nil)

// New makes a driver. The snapshot stays open while it is used; cache may be nil.
func New(snap repo.Snapshot, parts filearchive.Parts, key *chunkcrypt.Key, cache *archive.Cache) *Driver {
	return &Driver{snap: snap, parts: parts, key: key, cache: cache}
}

// Notices are none.
func (d *Driver) Notices() []string { return nil }

// tree opens the names: those of the catalog, if it has this archive.
func (d *Driver) tree(ctx context.Context) (t *browse.Tree, done func() error, err error) {
	if _, ok := d.snap.Manifest().File(string(names.Catalog)); ok && !d.parts.Split() {
		all, err := browse.OpenCatalog(ctx, d.snap, d.key, d.cache)
		if err != nil {
			return nil, nil, err
		}
		t, err := all.Below(ctx, "/"+string(d.parts.Meta))
		if err == nil {
			return t, all.Close, nil
		}
		if cerr := all.Close(); !errors.Is(err, fs.ErrNotExist) || cerr != nil {
			return nil, nil, errors.Join(err, cerr)
		}
	}
	t, err = browse.OpenArchive(ctx, d.snap, d.parts, d.key, d.cache)
	if err != nil {
		return nil, nil, err
	}
	return t, t.Close, nil
}

// List lists a directory, or the one entry that is none.
func (d *Driver) List(ctx context.Context, p filerestore.Path) (all []filerestore.Entry, err error) {
	t, done, err := d.tree(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	path := pxar.Join(p.Names)
	e, err := t.Lookup(ctx, path)
	if err != nil {
		return nil, err
	}
	if !e.IsDir() {
		return []filerestore.Entry{entryOf(p, e)}, nil
	}
	for e, err := range t.List(ctx, path) {
		if err != nil {
			return nil, err
		}
		all = append(all, entryOf(p.Join(e.Name), e))
	}
	return all, nil
}

func entryOf(p filerestore.Path, e browse.Entry) filerestore.Entry {
	out := filerestore.Entry{Path: p, Type: filerestore.Type(browse.Letter(e.Kind))}
	if e.Kind == pxar.File {
		size := int64(e.Size)
		out.Size = &size
		if e.HasMtime() {
			mtime := e.Mtime.Sec
			out.Mtime = &mtime
		}
	}
	return out
}

// Open opens a part of the archive.
func (d *Driver) Open(ctx context.Context, p filerestore.Path, o filerestore.OpenOptions) (filerestore.Part, error) {
	f, err := filearchive.Open(ctx, d.snap, d.parts, d.key, d.cache)
	if err != nil {
		return nil, err
	}
	w, err := extract.Walk(f.Archive, extract.Selection{Path: pxar.Join(p.Names), Name: o.Name, Follow: o.Follow, Metadata: o.Metadata})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return part{w, f}, nil
}

// part is a walk over an archive that is closed with it.
type part struct {
	*extract.Walker
	f *filearchive.Archive
}

func (p part) Close() error { return p.f.Close() }
