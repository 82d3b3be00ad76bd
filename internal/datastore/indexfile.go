package datastore

import (
	"context"
	"errors"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/indexfile"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// indexFile is an index being written, under a temporary name that no reader
// and no garbage collection looks at.
type indexFile struct {
	vfs.File
	session *Session
	name    names.Archive
	temp    string
}

// CreateFixed begins a fixed index. size -1 announces a stream, whose size
// Grow tells later.
func (b *Session) CreateFixed(name names.Archive, size int64, chunkSize int) (repo.FixedWriter, error) {
	w, err := indexfile.NewFixed(name, size, chunkSize, b.indexOptions(name))
	if err != nil { // not a typed nil
		return nil, err
	}
	return w, nil
}

// CreateDynamic begins a dynamic index.
func (b *Session) CreateDynamic(name names.Archive) (repo.DynamicWriter, error) {
	w, err := indexfile.NewDynamic(name, b.indexOptions(name))
	if err != nil { // not a typed nil
		return nil, err
	}
	return w, nil
}

// PutIndex stores an index as it is.
func (b *Session) PutIndex(ctx context.Context, name names.Archive, r io.Reader) (size uint64, csum digest.Digest, err error) {
	return indexfile.Put(ctx, b.name, name, r, b.indexOptions(name).Create)
}

func (b *Session) indexOptions(name names.Archive) indexfile.Options {
	return indexfile.Options{
		Create: func() (indexfile.File, error) { return b.createIndex(name) },
		Now:    b.store.fs.Now(),
		Rand:   b.store.opt.Rand,
	}
}

// createIndex makes the file.
func (b *Session) createIndex(name names.Archive) (indexfile.File, error) {
	f := &indexFile{
		session: b,
		name:    name,
		temp:    b.name.Path() + "/" + name.Base() + ".tmp_" + name.Kind().String(),
	}
	taken := []string{f.temp, b.name.Path() + "/" + name.String()}
	if b.mending != nil {
		taken = taken[:1]
	}
	for _, taken := range taken {
		there, err := exists(b.store.fs, taken)
		if err != nil {
			return nil, err
		}
		if there {
			return nil, repo.ErrExists
		}
	}
	var err error
	if f.File, err = b.store.fs.Create(f.temp, filePerm); err != nil {
		return nil, err
	}
	b.mu.Lock()
	ended := b.ended
	if !ended {
		b.open[f] = struct{}{}
	}
	b.mu.Unlock()
	if ended {
		return nil, errors.Join(errors.New("the session has ended"), f.Close(), ignoreMissing(b.store.fs.Remove(f.temp)))
	}
	return f, nil
}

// Settle gives a complete index its name, or removes one that err has spoilt.
// The content is durable before the name is, for an index with a name but
// without content would stop the garbage collection of a PBS.
func (f *indexFile) Settle(err error) error {
	store := f.session.store
	if err == nil && store.opt.Sync != SyncNone {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = f.session.place(f.temp, f.session.name.Path()+"/"+f.name.String())
	}
	if err != nil {
		err = errors.Join(err, ignoreMissing(store.fs.Remove(f.temp)))
	}
	b := f.session
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, f)
	if err != nil {
		b.spoilt = true
		return err
	}
	b.files++
	return nil
}
