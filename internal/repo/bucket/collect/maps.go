package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/format/chunkmap"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// inMemory is the largest chunk map that is not put into a file.
const inMemory = 1 << 20

// errUncounted is wrapped when a chunk map is lost or damaged.
var errUncounted = errors.New("its chunk map cannot be counted")

// chunkMap is that of a snapshot.
type chunkMap struct {
	*chunkmap.Map
	file *spool.File // nil: it is in memory
}

func (m *chunkMap) close() error {
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}

// fetchMap reads the chunk map of the snapshot that a session made.
func fetchMap(ctx context.Context, s objstore.Store, n catalog.Number, at catalog.Span) (_ *chunkMap, err error) {
	key := catalog.SnapshotObject(n)
	if at.Off < 0 || at.Len < 0 {
		return nil, fmt.Errorf("%w: it is said to be %d bytes at %d of %s", errUncounted, at.Len, at.Off, key)
	}
	m := &chunkMap{}
	defer func() {
		switch {
		case err == nil:
		case errors.Is(err, objstore.ErrNotFound), errors.Is(err, chunkmap.ErrFormat), errors.Is(err, resume.ErrShort):
			err = fmt.Errorf("%w: %w", errUncounted, err)
			fallthrough
		default:
			err = errors.Join(err, m.close())
		}
	}()
	if at.Len <= inMemory {
		b := make([]byte, at.Len)
		if err := resume.Fetch(ctx, s, key, b, at.Off); err != nil {
			return nil, err
		}
		m.Map, err = chunkmap.Open(bytes.NewReader(b), at.Len)
		return m, err
	}
	if m.file, err = spool.Create(); err != nil {
		return nil, err
	}
	r, err := resume.Open(ctx, s, key, at.Off, at.Len)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(m.file, r)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	m.Map, err = chunkmap.Open(m.file, at.Len)
	return m, err
}
