package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
// Who wants all of an archive calls Fetch before: that reads each file of the media
// once, in their order.
type OnTape struct {
	picking
	choice   Choice
	unlock   func() error
	file     *os.File
	files    map[names.Archive]*io.SectionReader
	manifest *manifest.Manifest
	named    indexset.Set // chunks of the snapshot

	mu     sync.Mutex
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

// ReadChunk appends the encoded chunk to buf[:0], unchecked.
func (o *OnTape) ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	raw, err := o.kept(d, buf)
	if !errors.Is(err, fs.ErrNotExist) {
		return raw, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if raw, err = o.kept(d, buf); !errors.Is(err, fs.ErrNotExist) {
		return raw, err // somebody else has brought it
	}
	if err := o.bring(ctx, d); err != nil {
		return buf[:0], err
	}
	return o.kept(d, buf)
}

func (o *OnTape) path(d digest.Digest) string { return filepath.Join(o.dir, d.String()) }

// kept returns a chunk that was read before.
func (o *OnTape) kept(d digest.Digest, buf []byte) (_ []byte, err error) {
	f, err := os.Open(o.path(d))
	if err != nil {
		return buf[:0], err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return buf[:0], err
	}
	n := int(info.Size())
	if cap(buf) < n {
		buf = make([]byte, 0, n)
	}
	_, err = io.ReadFull(f, buf[:n])
	return buf[:n], err
}

// keep keeps a chunk that passes by.
func (o *OnTape) keep(d digest.Digest, raw []byte) error {
	temp := o.path(d) + ".part"
	if err := os.WriteFile(temp, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, o.path(d))
}

// bring reads on, or elsewhere, until a chunk has come.
func (o *OnTape) bring(ctx context.Context, d digest.Digest) error {
	at, ok, err := o.contents.Chunk(o.choice.Store, d)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: %s is on no medium of the set", repo.ErrChunkMissing, d)
	}
	if o.reader == nil || o.at != at {
		if err := o.seek(ctx, at); err != nil {
			return err
		}
	}
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		got, raw, err := o.chunks.Next(o.buf)
		if errors.Is(err, io.EOF) {
			return errors.Join(&repo.CorruptError{What: "chunk " + d.String(), Err: fmt.Errorf("file %d does not hold it", at.File)}, o.leave())
		}
		if err != nil {
			if isDamage(err) {
				err = &repo.CorruptError{What: fmt.Sprintf("file %d with chunk %s", at.File, d), Err: err}
			}
			return errors.Join(err, o.leave())
		}
		o.buf = raw[:0]
		if ours, err := o.named.Has(got); err != nil {
			return err
		} else if ours {
			if err := o.keep(got, raw); err != nil {
				return err
			}
		}
		if got == d {
			return nil
		}
	}
}

// leave ends reading where the drive is.
func (o *OnTape) leave() error {
	if o.reader == nil {
		return nil
	}
	err := o.reader.Close()
	o.reader, o.chunks = nil, nil
	return err
}

// seek goes to the beginning of a chunk archive.
func (o *OnTape) seek(ctx context.Context, at media.At) error {
	if err := o.leave(); err != nil {
		return err
	}
	if err := o.mediumFor(ctx, at.Medium); err != nil {
		return err
	}
	if err := o.drive.Locate(ctx, at.File); err != nil {
		return fmt.Errorf("file %d: %w", at.File, err)
	}
	r, err := tape.NewReader(o.drive)
	if err != nil {
		return fmt.Errorf("file %d: %w", at.File, err)
	}
	h, err := tapefile.ReadHeader(r)
	if err == nil {
		_, err = h.ChunkArchive()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("file %d: %w", at.File, err), r.Close())
	}
	o.reader, o.at, o.chunks = r, at, tapefile.NewChunkReader(r)
	return nil
}

// mediumFor brings a medium into the drive.
func (o *OnTape) mediumFor(ctx context.Context, id uuid.UUID) (err error) {
	if o.drive != nil && o.loaded == id {
		return nil
	}
	if err := o.letGo(); err != nil {
		return err
	}
	for _, m := range o.list {
		if m.UUID() == id {
			o.drive, err = o.World.open(ctx, m)
			o.loaded = id
			return err
		}
	}
	return fmt.Errorf("medium %s: %w", id, media.ErrUnknownMedium)
}

// letGo closes the drive.
func (o *OnTape) letGo() error {
	err := o.leave()
	if o.drive != nil {
		err = errors.Join(err, o.drive.Close())
		o.drive = nil
	}
	return err
}

// Fetch reads all chunks of some archives, each file of the media once. What is
// damaged is told when it is asked for.
func (o *OnTape) Fetch(ctx context.Context, archives ...names.Archive) (err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.letGo(); err != nil {
		return err
	}
	files := map[uuid.UUID][]uint64{}
	for _, name := range archives {
		f, err := openFile(o, name)
		if err != nil {
			return err
		}
		if f.each == nil {
			continue
		}
		err = f.each(func(w wanted) error {
			at, ok, err := o.contents.Chunk(o.choice.Store, w.digest)
			if list := files[at.Medium]; ok && err == nil && (len(list) == 0 || list[len(list)-1] != at.File) {
				files[at.Medium] = append(list, at.File)
			}
			return err
		})
		if err = errors.Join(err, f.close()); err != nil {
			return err
		}
	}
	return o.onMedia(ctx, files, func(d tape.Drive, _ uuid.UUID, files []uint64) error {
		for _, file := range files {
			if err := o.single(ctx, d, file, passing{o}); err != nil {
				return err
			}
		}
		return nil
	})
}

// passing keeps what is of the snapshot.
type passing struct{ o *OnTape }

func (p passing) chunks(ctx context.Context, at place, _ tapefile.ChunkArchive, r io.Reader) error {
	_, err := sift(ctx, r, func(_ context.Context, d digest.Digest, raw []byte) error {
		ours, err := p.o.named.Has(d)
		if err != nil || !ours {
			return err
		}
		return p.o.keep(d, raw)
	}, p.o.bringing.warnf)
	if err != nil {
		return fmt.Errorf("chunk archive: %w", err)
	}
	p.o.bringing.logf("file %d: chunk archive", at.file)
	return nil
}

func (passing) snapshot(context.Context, place, tapefile.SnapshotArchive, io.Reader) error {
	return fmt.Errorf("%w: a snapshot where chunks should be", tapefile.ErrFormat)
}

func (passing) catalog(context.Context, place, tapefile.CatalogArchive, io.Reader) error {
	return fmt.Errorf("%w: a catalog where chunks should be", tapefile.ErrFormat)
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
