package fetch

import (
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Dynamic is the index of an archive with chunks of any size, with what is
// needed to read it. It is safe for concurrent use.
type Dynamic struct {
	*didx.Index
	Name names.Archive
	Key  *chunkcrypt.Key // of the chunks; nil when they are plain
	Most int             // bytes of the largest chunk, at most blob.MaxChunk

	closer io.Closer
}

// OpenDynamic opens the index of a file archive and looks at every entry. key
// may be nil, or be given without need.
func OpenDynamic(snap repo.Snapshot, name names.Archive, key *chunkcrypt.Key) (*Dynamic, error) {
	if name.Kind() != names.Didx {
		return nil, fmt.Errorf("archive %s is not a file archive: name one that ends in .pxar, .mpxar, .ppxar, .pcat1 or .didx", name)
	}
	chunkKey, err := keyFor(snap, name, key)
	if err != nil {
		return nil, err
	}
	idx, closer, err := snap.OpenDynamic(name)
	if err != nil {
		return nil, fmt.Errorf("archive %s of %s: %w", name, snap.Name(), err)
	}
	x := &Dynamic{Index: idx, Name: name, Key: chunkKey, closer: closer}
	err = idx.Each(func(i int, start, end int64, _ digest.Digest) error {
		if end-start > blob.MaxChunk {
			return fmt.Errorf("%w: chunk %d has %d bytes, the largest may have %d", didx.ErrFormat, i, end-start, blob.MaxChunk)
		}
		x.Most = max(x.Most, int(end-start))
		return nil
	})
	if errors.Is(err, didx.ErrFormat) {
		err = &repo.CorruptError{What: "index " + string(name), Err: err}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("archive %s of %s: %w", name, snap.Name(), err), closer.Close())
	}
	return x, nil
}

// Close closes the index.
func (x *Dynamic) Close() error { return x.closer.Close() }
