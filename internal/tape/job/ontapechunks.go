package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// ReadChunk appends the encoded chunk to buf[:0], unchecked.
func (o *OnTape) ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	raw, err := o.kept(d, buf)
	if !errors.Is(err, fs.ErrNotExist) {
		return raw, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.fetch(ctx); err != nil && !isDamage(err) {
		return buf[:0], err
	}
	if raw, err = o.kept(d, buf); !errors.Is(err, fs.ErrNotExist) {
		return raw, err // it has been brought
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
			return errors.Join(err, o.leave())
		} else if ours {
			if err := o.keep(got, raw); err != nil {
				return errors.Join(err, o.leave()) // it has passed by: read again
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

// Want says that all of some archives is wanted: with the first chunk that is asked
// for and not kept yet all of theirs are read, each file of the media once, in their
// order. What is damaged is told when it is asked for.
func (o *OnTape) Want(archives ...names.Archive) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wanted = append(o.wanted, archives...)
}

// fetch reads what is wanted, once: what that does not bring is looked for alone.
func (o *OnTape) fetch(ctx context.Context) error {
	wish := o.wanted
	o.wanted = nil
	if len(wish) == 0 {
		return nil
	}
	if err := o.letGo(); err != nil {
		return err
	}
	files := wantedFiles{}
	for _, name := range wish {
		f, err := openFile(o, name)
		if err != nil {
			return err
		}
		if f.each == nil {
			continue
		}
		err = f.each(func(w wanted) error {
			at, ok, err := o.contents.Chunk(o.choice.Store, w.digest)
			if err == nil && ok {
				files.add(at)
			}
			return err
		})
		if err = errors.Join(err, f.close()); err != nil {
			return err
		}
	}
	return o.onMedia(ctx, files, func(d tape.Drive, _ uuid.UUID, files []uint64) error {
		for _, file := range files {
			if err := o.single(ctx, d, file, passing{o: o}); err != nil {
				return err
			}
		}
		return nil
	})
}

// passing keeps what is of the snapshot.
type passing struct {
	onlyChunks
	o *OnTape
}

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
