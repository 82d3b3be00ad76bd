package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/indexset"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// OnTape is a snapshot on tape, open for reading as if it were in a repository:
// what is asked of it is read from the media, and kept in a directory until it is
// closed. It is safe for concurrent use, and one at a time is served.
//
// A chunk is looked for in the catalogs. What passes by on the way to it and is of
// the same snapshot is kept too; so what lies in a row on a medium is read in a row.
// Who wants all of an archive says so with Want before.
type OnTape struct {
	picking
	choice   Choice
	unlock   func() error
	file     *os.File
	files    map[names.Archive]*io.SectionReader
	manifest *manifest.Manifest
	named    indexset.Set // chunks of the snapshot

	mu     sync.Mutex
	wanted []names.Archive // of which all is wanted, and nothing is read yet
	drive  tape.Drive
	loaded uuid.UUID // the medium in the drive
	reader *tape.Reader
	at     media.At // where reader reads
	chunks *tapefile.ChunkReader
	buf    []byte
}

var _ repo.Snapshot = (*OnTape)(nil)

// OpenSnapshot opens a snapshot of a media set. dir is an empty directory for what
// is read, which Close removes.
func (w *World) OpenSnapshot(ctx context.Context, set uuid.UUID, c Choice, dir string) (_ *OnTape, err error) {
	unlock, list, err := w.lockSet(ctx, set)
	if err != nil {
		return nil, err
	}
	o := &OnTape{choice: c, unlock: unlock, files: map[names.Archive]*io.SectionReader{}}
	o.picking = picking{World: w, bringing: w.bringing(Restore{}), list: list, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Close())
		}
	}()
	if o.contents, err = w.State.Contents(list); err != nil {
		return nil, readAgain(err)
	}
	at, ok, err := o.contents.Snapshot(c.Store, c.Snapshot)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s is not in media set %s: %w", c, set, repo.ErrNotFound)
	}
	t := &task{Choice: c, to: c.Snapshot, at: at}
	o.tasks = []*task{t}
	if err := o.archives(ctx); err != nil {
		return nil, err
	}
	if t.spool == "" {
		return nil, &repo.CorruptError{What: c.String(), Err: errors.New("its archive on the medium cannot be read")}
	}
	return o, o.load(t.spool)
}

// load reads what the archive of the snapshot holds.
func (o *OnTape) load(path string) (err error) {
	if o.file, err = os.Open(path); err != nil {
		return err
	}
	f, err := openFiles(o.file, o.choice.Snapshot)
	if err != nil {
		return err
	}
	o.manifest = f.manifest
	if err := f.check(); err != nil {
		return err
	}
	info, err := o.file.Stat()
	if err != nil {
		return err
	}
	a, err := pxar.OpenArchive(o.file, info.Size(), nil, 0)
	if err != nil {
		return err
	}
	for e, err := range a.Root().Entries() {
		if err != nil {
			return err
		}
		if o.files[names.Archive(e.Name)], err = a.Content(e); err != nil {
			return err
		}
	}
	return indexesOf(path, &o.named, func(digest.Digest) error { return nil })
}

// Name returns the name of the snapshot.
func (o *OnTape) Name() names.Snapshot { return o.choice.Snapshot }

// Manifest returns the manifest; it is not to be changed.
func (o *OnTape) Manifest() *manifest.Manifest { return o.manifest }

// content is a file of the snapshot, which was compared with the manifest.
func (o *OnTape) content(name names.Archive) (*io.SectionReader, error) {
	r := o.files[name]
	if r == nil {
		return nil, fmt.Errorf("archive %s in %s: %w", name, o.choice, repo.ErrNotFound)
	}
	return io.NewSectionReader(r, 0, r.Size()), nil
}

// nothing is closed where the snapshot has the file.
type nothing struct{}

func (nothing) Close() error { return nil }

// OpenFixed opens a fixed index.
func (o *OnTape) OpenFixed(name names.Archive) (*fidx.Index, io.Closer, error) {
	r, err := o.content(name)
	if err != nil {
		return nil, nil, err
	}
	x, err := fidx.Open(r, r.Size())
	if listed, _ := o.manifest.File(name.String()); err == nil && x.Size != listed.Size {
		err = fmt.Errorf("%w: %d bytes, the manifest says %d", fidx.ErrFormat, x.Size, listed.Size)
	}
	if err != nil {
		return nil, nil, asDamage(name, err)
	}
	return x, nothing{}, nil
}

// OpenDynamic opens a dynamic index.
func (o *OnTape) OpenDynamic(name names.Archive) (*didx.Index, io.Closer, error) {
	r, err := o.content(name)
	if err != nil {
		return nil, nil, err
	}
	x, err := didx.Open(r, r.Size())
	if err == nil {
		_, err = x.Sum() // that its ends grow
	}
	if listed, _ := o.manifest.File(name.String()); err == nil && uint64(x.Size()) != listed.Size {
		err = fmt.Errorf("%w: %d bytes, the manifest says %d", didx.ErrFormat, x.Size(), listed.Size)
	}
	if err != nil {
		return nil, nil, asDamage(name, err)
	}
	return x, nothing{}, nil
}

// Blob returns an encoded blob.
func (o *OnTape) Blob(name names.Archive) ([]byte, error) {
	r, err := o.content(name)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// Close lets go of the drive and removes what was kept.
func (o *OnTape) Close() error {
	errs := []error{o.letGo(), o.named.Close()}
	if o.file != nil {
		errs = append(errs, o.file.Close())
	}
	if o.contents != nil {
		errs = append(errs, o.contents.Close())
	}
	return errors.Join(append(errs, o.unlock(), os.RemoveAll(o.dir))...)
}
