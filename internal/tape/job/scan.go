package job

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// visitor takes the files of a medium.
type visitor interface {
	chunks(ctx context.Context, at place, a tapefile.ChunkArchive, r io.Reader) error
	snapshot(ctx context.Context, at place, a tapefile.SnapshotArchive, r io.Reader) error
	catalog(ctx context.Context, at place, a tapefile.CatalogArchive, r io.Reader) error
}

// place is a file of a medium.
type place struct {
	file uint64
	id   uuid.UUID // of its content
}

// errSkip is returned by a visitor that does not want the rest of a file.
var errSkip = errors.New("the rest of the file is not wanted")

// errStop is returned by a visitor that wants no more files.
var errStop = errors.New("no more files are wanted")

// firstArchive is the number of the file behind the labels.
const firstArchive = 2

// scan calls v with the files from the present position of the drive, which is
// that of file, to the end of the data. A damaged file is reported, as is one
// that was given up or is nobody's, and the next one follows. The error is of
// the drive, the visitor or the context.
func scan(ctx context.Context, d tape.Drive, file uint64, v visitor, warn func(format string, args ...any)) error {
	for ; ; file++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		there, whole, err := visit(ctx, d, file, v)
		stop := errors.Is(err, errStop)
		switch {
		case !there:
			return nil
		case err == nil || stop || errors.Is(err, errSkip):
		case isDamage(err):
			warn("file %d: %v", file, err)
		default:
			return fmt.Errorf("file %d: %w", file, err)
		}
		if stop {
			return nil
		}
		if whole {
			continue
		}
		err = d.Locate(ctx, file+1)
		if errors.Is(err, tape.ErrEndOfData) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("file %d: %w", file+1, err)
		}
	}
}

// visit shows one file to v. there is false behind the last one, whole says that
// the drive stands behind the file.
func visit(ctx context.Context, d tape.Drive, file uint64, v visitor) (there, whole bool, err error) {
	t, err := tape.NewReader(d)
	switch {
	case errors.Is(err, tape.ErrEndOfData):
		return false, false, nil
	case errors.Is(err, tape.ErrFilemark):
		return true, true, fmt.Errorf("%w: it holds nothing", tape.ErrAborted)
	case err != nil:
		return true, false, err
	}
	r := &source{r: t}
	err = dispatch(ctx, file, v, r)
	if r.err != nil && !errors.Is(r.err, io.EOF) && (err == nil || isDamage(err)) {
		err = r.err // it is the cause
	}
	return true, errors.Is(r.err, io.EOF), errors.Join(err, t.Close())
}

func dispatch(ctx context.Context, file uint64, v visitor, r io.Reader) error {
	h, err := tapefile.ReadHeader(r)
	if err != nil {
		return err
	}
	at := place{file, h.UUID}
	switch {
	case h.Content == tapefile.Chunks:
		a, err := h.ChunkArchive()
		if err != nil {
			return err
		}
		return v.chunks(ctx, at, a, r)
	case h.Content.IsSnapshot():
		a, err := h.SnapshotArchive()
		if err != nil {
			return err
		}
		return v.snapshot(ctx, at, a, r)
	case h.Content.IsCatalog():
		a, err := h.CatalogArchive()
		if err != nil {
			return err
		}
		return v.catalog(ctx, at, a, r)
	}
	return fmt.Errorf("%w: a %s where archives are", tapefile.ErrFormat, h.Content)
}

// source remembers how a tape file ended.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

// isDamage reports an error that is about what is on the medium: it can be told
// and the next file read.
func isDamage(err error) bool {
	if _, ok := errors.AsType[*repo.CorruptError](err); ok {
		return true
	}
	for _, kind := range []error{
		tapefile.ErrFormat, tapefile.ErrMagic, pxar.ErrFormat, blob.ErrFormat,
		tape.ErrForeign, tape.ErrSequence, tape.ErrAborted, tape.ErrIncomplete,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return errors.Is(err, io.ErrUnexpectedEOF)
}

// ended turns the end of a file into no error.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
