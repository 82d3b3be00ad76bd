package backup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/throttle"
	"golang.org/x/sync/errgroup"
)

// Writer writes the archives of one snapshot into a session, one after the
// other, and keeps workers and what they know between them. It is not safe for
// concurrent use, but for what [Dynamic] says. It neither finishes nor aborts the session.
type Writer struct {
	s       repo.Session
	opts    Options
	limit   *throttle.Limiter
	workers []*worker
	seen    *seen
	files   []manifest.File
	chunks  pump // of dynamic archives

	mu    sync.Mutex
	zeros map[int]digest.Digest // by length; their chunks are stored
}

// NewWriter prepares the workers. Close must be called.
func NewWriter(s repo.Session, opts Options) (*Writer, error) {
	if err := opts.prepare(); err != nil {
		return nil, err
	}
	w := &Writer{
		s:     s,
		opts:  opts,
		limit: throttle.New(opts.Rate),
		seen:  newSeen(maxSeen),
		zeros: map[int]digest.Digest{},
	}
	w.chunks.changed.L = &w.chunks.mu
	for range opts.Workers {
		k, err := newWorker(w)
		if err != nil {
			w.Close()
			return nil, err
		}
		w.workers = append(w.workers, k)
	}
	return w, nil
}

// Close frees the buffers.
func (w *Writer) Close() {
	for _, k := range w.workers {
		k.close()
	}
	w.workers = nil
}

// list notes an archive for the manifest.
func (w *Writer) list(f manifest.File) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files = append(w.files, f)
}

// Files lists what was written so far, in order.
func (w *Writer) Files() []manifest.File { return w.files }

// archive is one index being written.
type archive struct {
	name  names.Archive
	size  int64 // -1: not known yet
	chunk int
	fw    repo.FixedWriter
	prev  *previous
	count *Counters // of this archive alone
}

// Image writes an image that can be read at any offset. After an error the
// session must be aborted.
func (w *Writer) Image(ctx context.Context, name names.Archive, img image.Image) (Result, error) {
	if err := checkFixed(name); err != nil {
		return Result{}, err
	}
	size := img.Size()
	if size <= 0 {
		return Result{}, fmt.Errorf("archive %s: %w", name, errEmpty)
	}
	if chunks := (size-1)/int64(w.opts.ChunkSize) + 1; chunks > math.MaxInt32 {
		return Result{}, fmt.Errorf("archive %s: %d bytes are too many chunks of %d bytes", name, size, w.opts.ChunkSize)
	}
	w.chunks.pause()
	defer w.chunks.resume(w)
	prev, why := w.openPrevious(name)
	defer prev.close()
	fw, err := w.s.CreateFixed(name, size, w.opts.ChunkSize)
	if err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", name, err)
	}
	a := &archive{name: name, size: size, chunk: w.opts.ChunkSize, fw: fw, prev: prev, count: new(Counters)}
	p := newPlan(img, a.chunk, prev.fits(size))

	g, gctx := errgroup.WithContext(ctx)
	for _, k := range w.workers {
		g.Go(func() error { return k.image(gctx, a, p) })
	}
	if err := firstError(ctx, g.Wait()); err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", name, err)
	}
	return w.finish(a, Result{NotReused: why, Unreadable: unreadable(img)})
}

// finish closes the index and notes the archive for the manifest.
func (w *Writer) finish(a *archive, r Result) (Result, error) {
	r.Stats = a.count.Load()
	if done := r.Stats.Done(); done != a.size {
		return Result{}, fmt.Errorf("archive %s: internal error: %d bytes of %d have a digest", a.name, done, a.size)
	}
	csum, err := a.fw.Close()
	if err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", a.name, err)
	}
	r.Archive = manifest.File{Filename: string(a.name), CryptMode: w.opts.CryptMode, Size: uint64(a.size), Csum: csum}
	w.list(r.Archive)
	return r, nil
}

// Blob writes a small file. Whether it is encrypted follows the crypt mode.
func (w *Writer) Blob(ctx context.Context, name names.Archive, plain []byte) (Result, error) {
	e, err := blob.NewEncoder(w.opts.chunkKey(), w.opts.Rand, !w.opts.NoCompress)
	if err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", name, err)
	}
	defer e.Close()
	return w.blob(ctx, name, e, plain)
}

// maxBlob is what the format's servers take, encoded.
const maxBlob = blob.MaxChunk + blob.EncryptedHeaderSize

func (w *Writer) blob(ctx context.Context, name names.Archive, e *blob.Encoder, plain []byte) (Result, error) {
	if _, err := names.ParseArchive(string(name)); err != nil {
		return Result{}, err
	}
	if name.Kind() != names.Blob {
		return Result{}, fmt.Errorf("archive %s: a small file needs a name that ends in .blob (.conf, .json, .key and .log get it added)", name)
	}
	if len(plain) > blob.MaxPlain {
		return Result{}, fmt.Errorf("archive %s: %d bytes are too many for a small file (limit %d)", name, len(plain), maxBlob)
	}
	raw, err := e.Append(nil, plain)
	if err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", name, err)
	}
	if len(raw) > maxBlob {
		return Result{}, fmt.Errorf("archive %s: %d bytes are too many for a small file (limit %d): back it up as a disk image or in a directory",
			name, len(raw), maxBlob)
	}
	if err := w.s.PutBlob(ctx, name, raw); err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", name, firstError(ctx, err))
	}
	f := manifest.File{Filename: string(name), CryptMode: w.opts.CryptMode, Size: uint64(len(raw)), Csum: digest.Of(raw)}
	w.list(f)
	n := int64(len(plain))
	return Result{Archive: f, Stats: Stats{Stored: Count{Bytes: n}, Read: n, Encoded: int64(len(raw))}}, nil
}

// firstError prefers the reason why ctx ended to what it did to a callee.
func firstError(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return context.Cause(ctx)
	}
	return err
}

// unreadable asks an image for what it made up.
func unreadable(img any) image.Damage {
	if b, ok := img.(interface{ Found() image.Damage }); ok {
		return b.Found()
	}
	return image.Damage{}
}
