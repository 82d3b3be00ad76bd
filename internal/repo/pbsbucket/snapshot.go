package pbsbucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/ahead"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
	"github.com/holdfast-backup/holdfast/internal/repo/verify"
)

// limits are what is on its way ahead of a reader: enough for an object store that
// takes long to answer and answers many at once.
var limits = ahead.Limits{Chunks: 128, Bytes: 192 << 20}

// Snapshot is a finished snapshot in a bucket.
type Snapshot struct {
	r     *Repository
	name  names.Snapshot
	m     *manifest.Manifest
	ctx   context.Context // of what has none of its own
	stop  context.CancelCauseFunc
	ahead *ahead.Fetcher
}

var (
	_ repo.Snapshot = (*Snapshot)(nil)
	_ fetch.Distant = (*Snapshot)(nil)
	_ fetch.Lender  = (*Snapshot)(nil)
)

var errClosed = errors.New("the snapshot is closed")

// Open opens a finished snapshot. ctx bounds the opening alone.
func (r *Repository) Open(ctx context.Context, n names.Snapshot) (repo.Snapshot, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	p, err := r.open(ctx, n)
	if err != nil { // not a typed nil
		return nil, err
	}
	return p, nil
}

func (r *Repository) open(ctx context.Context, n names.Snapshot) (*Snapshot, error) {
	raw, err := r.manifest(ctx, n)
	if err != nil {
		return nil, err
	}
	p := &Snapshot{r: r, name: n}
	if p.m, err = spool.Manifest(raw, n); err != nil {
		return nil, err
	}
	p.ctx, p.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	p.ahead = ahead.New(p.ctx, limits, p.chunk)
	return p, nil
}

// Name is that of the snapshot.
func (p *Snapshot) Name() names.Snapshot { return p.name }

// Manifest is that of the snapshot; it is not to be changed.
func (p *Snapshot) Manifest() *manifest.Manifest { return p.m }

// OpenFixed fetches an index and compares it with the manifest.
func (p *Snapshot) OpenFixed(name names.Archive) (*fidx.Index, io.Closer, error) {
	f, said, err := p.index(name)
	if err != nil {
		return nil, nil, err
	}
	return spool.Fixed(f, p.name, said)
}

// OpenDynamic does the same for a dynamic index.
func (p *Snapshot) OpenDynamic(name names.Archive) (*didx.Index, io.Closer, error) {
	f, said, err := p.index(name)
	if err != nil {
		return nil, nil, err
	}
	return spool.Dynamic(f, p.name, said)
}

func (p *Snapshot) index(name names.Archive) (*spool.File, manifest.File, error) {
	said, ok := p.m.File(name.String())
	if !ok {
		return nil, said, p.unlisted(name)
	}
	f, err := spool.Create()
	if err != nil {
		return nil, said, err
	}
	err = p.r.read(p.ctx, fileKey(p.name, name.String()), math.MaxInt64, func(in io.Reader, _ int64) error {
		_, err := io.Copy(f, in)
		return err
	})
	if err != nil {
		return nil, said, errors.Join(p.failed(name, err), f.Close())
	}
	return f, said, nil
}

// Blob fetches an encoded blob and compares it with the manifest; the manifest and
// names.ClientLog, which are not in it, come as they are.
func (p *Snapshot) Blob(name names.Archive) ([]byte, error) {
	said, ok := p.m.File(name.String())
	if !ok && name != names.Manifest && name != names.ClientLog {
		return nil, p.unlisted(name)
	}
	raw, err := p.r.readAll(p.ctx, fileKey(p.name, name.String()), maxBlob)
	switch {
	case !ok && errors.Is(err, objstore.ErrNotFound):
		return nil, p.unlisted(name)
	case err != nil:
		return nil, p.failed(name, err)
	case !ok:
		return raw, nil
	}
	return raw, spool.Blob(raw, p.name, said)
}

func (p *Snapshot) unlisted(name names.Archive) error {
	return fmt.Errorf("archive %s in %s: %w", name, p.name, repo.ErrNotFound)
}

// failed says of a file that the manifest lists why it could not be read.
func (p *Snapshot) failed(name names.Archive, err error) error {
	what := "archive " + name.String() + " in " + p.name.String()
	switch {
	case errors.Is(err, objstore.ErrNotFound):
		return &repo.CorruptError{What: what, Err: errors.New("the object is missing")}
	case errors.Is(err, errTooLong):
		return &repo.CorruptError{What: what, Err: err}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// ReadChunk appends the encoded chunk to buf[:0], not yet checked.
func (p *Snapshot) ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	return p.ahead.Read(ctx, d, buf)
}

// LendChunk returns the encoded chunk, not yet checked, where it lies. It is the
// caller's until back is called.
func (p *Snapshot) LendChunk(ctx context.Context, d digest.Digest) (raw []byte, back func(), err error) {
	return p.ahead.Lend(ctx, d)
}

// Prefetch says that these chunks will be read soon, in this order.
func (p *Snapshot) Prefetch(ds []digest.Digest) { p.ahead.Prefetch(ds) }

// Distance is how far ahead Prefetch wants to be called.
func (p *Snapshot) Distance() (chunks int, bytes int64) {
	return 2 * limits.Chunks, limits.Bytes * 4 / 3
}

// Place is the same for all chunks: none lies beside another.
func (p *Snapshot) Place(context.Context, digest.Digest) (verify.Place, error) {
	return verify.Place{}, nil
}

// Ahead is how many chunks a verification announces at a time.
func (p *Snapshot) Ahead() int { return limits.Chunks }

// chunk reads a chunk to where place says.
func (p *Snapshot) chunk(ctx context.Context, d digest.Digest, place func(size int) ([]byte, error)) ([]byte, error) {
	var raw []byte
	err := p.r.read(ctx, names.ChunkPath(d), maxChunk, func(in io.Reader, size int64) (err error) {
		if raw, err = place(int(size)); err == nil {
			_, err = io.ReadFull(in, raw)
		}
		return err
	})
	switch {
	case errors.Is(err, objstore.ErrNotFound):
		return nil, fmt.Errorf("%w: %s", repo.ErrChunkMissing, d)
	case errors.Is(err, errTooLong):
		return nil, &repo.CorruptError{What: "chunk " + d.String(), Err: err}
	case err != nil:
		return nil, fmt.Errorf("read chunk %s: %w", d, err)
	}
	return raw, nil
}

// Close ends what is on its way.
func (p *Snapshot) Close() error {
	p.stop(errClosed)
	p.ahead.Close()
	return nil
}
