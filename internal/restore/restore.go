// Package restore is the pipeline from a snapshot to a target.
//
// # From index to image
//
// Every slot of the index is one of these:
//
//	zero by digest         a fresh target is left alone, another is zeroed
//	equal in the base      nothing: the target has it (see below)
//	otherwise              fetched, checked in full, written
//
// Chunks are written in any order, or in order to a target that demands it.
// Inside a chunk, runs of zeros of 64 KiB and more become holes.
//
// # In place
//
// A target that is not fresh keeps what is right already. If the caller knows
// which snapshot it holds ([Options.Base]), slots that both snapshots have in
// common are not even looked at: a target that is not what the caller says ends
// up wrong. Without a base every slot of the target is read and hashed, if the
// target can be read. In both cases only the blocks of a chunk that differ are
// written.
//
// # Workers and memory
//
// Each worker fetches, decodes, checks and writes in one loop, two chunks at a
// time to hash them together, with buffers of its own: one encoded and two plain
// chunks, and two of the target's when in place; 12 or 20 MiB a worker at 4 MiB,
// outside the Go heap. A snapshot that is a
// [fetch.Prefetcher] is told some chunks ahead, the more the longer the workers
// wait for it; one that is [fetch.Distant] as many as it wants, but only while a
// target that is compared lacks most of them.
//
// # Errors
//
// A chunk that is missing or damaged is a [*ChunkError] with its place, and ends
// the restore, unless holes are allowed: then its range reads as zeros and is in
// the result. The target is finished only if all bytes are accounted for. When
// ctx ends, the error is its cause.
package restore

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"github.com/holdfast-backup/holdfast/internal/throttle"
	"golang.org/x/sync/errgroup"
)

// Options says how an image is restored. The zero value is useful.
type Options struct {
	Workers int // 0: by the number of CPUs
	// Base is the snapshot whose image of the same name the target holds; nil
	// when that is not known. It has no meaning for a fresh target.
	Base       repo.Snapshot
	AllowHoles bool
	Rate       int64     // encoded bytes read a second; 0: no limit
	Counters   *Counters // where progress is counted; may be nil
}

// Result says what became of a restore.
type Result struct {
	Archive names.Archive
	Size    int64
	Stats   Stats
	Holes   Holes
}

// ChunkError reports a chunk that could not be restored.
type ChunkError struct {
	Archive        names.Archive
	Offset, Length int64 // its place in the image
	Digest         digest.Digest
	Err            error
}

func (e *ChunkError) Error() string {
	hint := ""
	if fetch.IsDamage(e.Err) {
		hint = "; allow holes to restore the rest, or restore another snapshot"
	}
	return fmt.Sprintf("archive %s: bytes %d to %d cannot be restored (chunk %s): %v%s",
		e.Archive, e.Offset, e.Offset+e.Length, e.Digest, e.Err, hint)
}

func (e *ChunkError) Unwrap() error { return e.Err }

// Image restores one disk image and finishes the target. The caller closes the
// target, after an error too.
func Image(ctx context.Context, snap repo.Snapshot, name names.Archive, key *chunkcrypt.Key, to image.Target, opts Options) (Result, error) {
	src, err := fetch.Open(snap, name, key)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = src.Close() }() // was only read
	size := int64(src.Size)
	if t, ok := to.(interface{ Size() int64 }); ok && t.Size() < size {
		return Result{}, fmt.Errorf("archive %s has %d bytes, the target only %d", name, size, t.Size())
	}
	base, err := openBase(opts.Base, name, key, src, to)
	if err != nil {
		return Result{}, err
	}
	if base != nil {
		defer func() { _ = base.Close() }()
	}
	if opts.Counters == nil {
		opts.Counters = new(Counters)
	}
	j := &restoring{
		snap: snap, src: src, to: to, opts: opts,
		count: new(Counters), limit: throttle.New(opts.Rate),
		plan: newPlan(src, base, image.NeedsOrder(to)),
	}
	j.in, _ = to.(image.Image)
	if to.Fresh() {
		j.in = nil
	}
	if j.in != nil {
		j.plan.zeros = zerosRead
	}
	j.prefetcher, _ = snap.(fetch.Prefetcher)
	j.distance = fetch.Distance(snap, int64(src.ChunkSize))

	if err := j.work(ctx); err != nil {
		return Result{}, err
	}
	stats := j.count.Load()
	if stats.Done() != size {
		return Result{}, fmt.Errorf("archive %s: internal error: %d bytes of %d are accounted for", name, stats.Done(), size)
	}
	if err := to.Finish(); err != nil {
		return Result{}, err
	}
	return Result{Archive: name, Size: size, Stats: stats, Holes: j.holes.list()}, nil
}

// openBase opens the index of what the target holds, nil if that is not known.
func openBase(snap repo.Snapshot, name names.Archive, key *chunkcrypt.Key, src *fetch.Image, to image.Target) (*fetch.Image, error) {
	if snap == nil || to.Fresh() {
		return nil, nil
	}
	base, err := fetch.Open(snap, name, key)
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	if base.ChunkSize != src.ChunkSize {
		_ = base.Close()
		return nil, nil // no slots to compare: look at the target
	}
	return base, nil
}

// Blob returns the content of a small file.
func Blob(snap repo.Snapshot, name names.Archive, key *chunkcrypt.Key) ([]byte, error) {
	return fetch.Blob(snap, name, key)
}

// memoryBudget bounds what the workers take by default.
const memoryBudget = 64 << 20

// defaultWorkers is for workers with so many buffers of one chunk: one for each
// CPU and some that wait, if the budget holds them: for the disk that is written to,
// and for the network.
func defaultWorkers(chunk, buffers int, distant bool) int {
	waiting := 1
	if distant {
		waiting++
	}
	return max(2, min(runtime.GOMAXPROCS(0)+waiting, memoryBudget/(buffers*chunk)))
}

// restoring is one restore while it runs.
type restoring struct {
	snap       repo.Snapshot
	src        *fetch.Image
	to         image.Target
	in         image.Image // what is there already; nil when fresh or not readable
	opts       Options
	limit      *throttle.Limiter
	plan       *plan
	prefetcher fetch.Prefetcher // nil when there is none
	distance   int              // chunks that it wants to hear of ahead, at least
	count      *Counters        // of this restore alone
	holes      holes
	ahead      ahead
}

func (j *restoring) work(ctx context.Context) error {
	n := j.opts.Workers
	if n <= 0 {
		buffers := 1 + lanes
		if j.in != nil {
			buffers += lanes
		}
		n = defaultWorkers(int(j.src.ChunkSize), buffers, j.distance > 0)
	}
	var workers []*worker
	defer func() {
		for _, k := range workers {
			k.close()
		}
	}()
	for range n {
		k, err := newWorker(j)
		if err != nil {
			return err
		}
		workers = append(workers, k)
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, k := range workers {
		g.Go(func() error { return k.run(gctx) })
	}
	err := g.Wait()
	if err != nil && ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return context.Cause(ctx)
	}
	return err
}
