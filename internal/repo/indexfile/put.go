package indexfile

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Put stores an index of the snapshot n as it is, with the number and the time
// that it has, and returns what a manifest says of it.
func Put(ctx context.Context, n names.Snapshot, name names.Archive, r io.Reader, create func() (File, error)) (size uint64, csum digest.Digest, err error) {
	if k := name.Kind(); k != names.Fidx && k != names.Didx {
		return 0, csum, fmt.Errorf("store index %s: want a name that ends in .fidx or .didx", name)
	}
	f, err := create()
	if err != nil {
		return 0, csum, fmt.Errorf("store index %s: %w", name, err)
	}
	size, csum, err = fill(ctx, f, name, r)
	if errors.Is(err, fidx.ErrFormat) || errors.Is(err, didx.ErrFormat) {
		err = &repo.CorruptError{What: "archive " + name.String() + " in " + n.String(), Err: err}
	}
	if err := f.Settle(err); err != nil {
		return 0, csum, fmt.Errorf("store index %s: %w", name, err)
	}
	return size, csum, nil
}

// fill writes all of an index file and reads it back.
func fill(ctx context.Context, f File, name names.Archive, r io.Reader) (size uint64, csum digest.Digest, err error) {
	n, err := io.Copy(io.NewOffsetWriter(f, 0), cancel.Reader(ctx, r))
	if err != nil {
		return 0, csum, err
	}
	var header digest.Digest
	if name.Kind() == names.Fidx {
		x, err := fidx.Open(f, n)
		if err != nil {
			return 0, csum, err
		}
		size, header = x.Size, x.Header.Sum
		csum, err = x.Sum()
		if err != nil {
			return 0, csum, err
		}
	} else {
		x, err := didx.Open(f, n)
		if err != nil {
			return 0, csum, err
		}
		size, header = uint64(x.Size()), x.Header.Sum
		csum, err = x.Sum()
		if err != nil {
			return 0, csum, err
		}
	}
	if csum != header {
		return 0, csum, &repo.CorruptError{
			What: "archive " + name.String(), Err: fmt.Errorf("checksum %s, its own header says %s", csum, header),
		}
	}
	return size, csum, nil
}
