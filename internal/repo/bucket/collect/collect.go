package collect

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/collect/plan"
)

// Options say how a collection works.
type Options struct {
	repo.GCOptions
	Repack  int64 // bytes of chunks that are copied at most; 0: DefaultRepack; negative: none
	Process catalog.Process
	Lease   time.Duration // how long the session lives without a sign of life
	Owner   string        // for the name of the task
	Now     func() time.Time

	// Hold gives signs of life for a session until it is told to end; nil: none are given.
	Hold func(catalog.Number) (end func(context.Context))
	// Over reports whether a session that runs is dead; nil: none is.
	Over func(context.Context, catalog.Running) (bool, time.Time, error)

	perShard int
}

const (
	// DefaultRepack is how many bytes of chunks one collection copies.
	DefaultRepack = 8 << 30

	defaultLease    = 10 * time.Minute
	defaultPerShard = 64 << 10
)

func (o Options) whole() Options {
	if o.Repack == 0 {
		o.Repack = DefaultRepack
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Lease == 0 {
		o.Lease = defaultLease
	}
	if o.Owner == "" {
		o.Owner = catalog.DefaultOwner
	}
	if o.Hold == nil {
		o.Hold = func(catalog.Number) func(context.Context) { return func(context.Context) {} }
	}
	if o.Over == nil {
		o.Over = func(context.Context, catalog.Running) (bool, time.Time, error) { return false, time.Time{}, nil }
	}
	if o.perShard == 0 {
		o.perShard = defaultPerShard
	}
	return o
}

// Run makes a collection.
func Run(ctx context.Context, s objstore.Store, l *ledger.Ledger, o Options) (repo.GCStatus, error) {
	r := &run{store: s, log: l, opt: o.whole()}
	st, err := r.run(ctx)
	if err != nil {
		return st, fmt.Errorf("garbage collection: %w", err)
	}
	return st, nil
}

// run is one collection with its session.
type run struct {
	store objstore.Store
	log   *ledger.Ledger
	opt   Options
	lost  error // the counts turned out to be, when something had been written
}

func (r *run) run(ctx context.Context) (st repo.GCStatus, err error) {
	if r.opt.DryRun {
		return r.rehearse(ctx)
	}
	n, err := r.begin(ctx)
	if err != nil {
		return st, err
	}
	end := r.opt.Hold(n)
	c, err := r.session(ctx, n)
	if c != nil {
		defer func() { err = errors.Join(err, c.refs.close()) }()
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err != nil {
		err = r.fail(cleanup, n, err)
		end(cleanup)
		if r.again(err) { // what this one wrote is removed as what any session leaves that ends
			return r.run(ctx)
		}
		return st, err
	}
	end(cleanup)
	err = r.sweep(ctx, c)
	return c.status, err
}

// again reports whether a collection is worth another try, which counts from nothing.
func (r *run) again(err error) bool {
	if r.lost != nil || !errors.Is(err, errLost) {
		return false
	}
	r.lost = err
	return true
}

// rehearse says what a collection would do, and changes nothing.
func (r *run) rehearse(ctx context.Context) (st repo.GCStatus, err error) {
	c, err := r.collect(ctx, 0, r.opt.Now())
	if r.again(err) {
		c, err = r.collect(ctx, 0, r.opt.Now())
	}
	if err != nil {
		return st, err
	}
	defer func() { err = errors.Join(err, c.refs.close()) }()
	c.summarize()
	going := map[pack.ID]bool{}
	for _, list := range c.at.dead {
		if !list.Removed && (list.Doomed != 0 || due(list, c.now, r.opt.Cutoff)) {
			for _, id := range list.Packs {
				going[id] = !c.out.needed[id]
			}
		}
	}
	if r.opt.Cutoff <= 0 && len(c.at.running) == 0 {
		for id, until := range c.out.idle {
			going[id] = going[id] || !c.now.Before(until.Time())
		}
	}
	err = c.weigh(ctx, going)
	return c.status, err
}

// collect counts, and writes what the outcome needs.
func (r *run) collect(ctx context.Context, n catalog.Number, now time.Time) (*collector, error) {
	st, err := r.log.View(ctx)
	if err != nil {
		return nil, err
	}
	at, err := look(st)
	if err != nil {
		return nil, err
	}
	c, err := r.counted(ctx, at, n, now)
	if err != nil {
		return nil, err
	}
	if err := c.act(ctx); err != nil {
		return nil, errors.Join(err, c.refs.close())
	}
	return c, nil
}

// counted counts from the counts that were kept; from nothing, where they are lost or cannot be,
// or where that is wanted.
func (r *run) counted(ctx context.Context, at *situation, n catalog.Number, now time.Time) (*collector, error) {
	kept, err := begin(r.store, r.opt, at, n, now)
	if err != nil {
		return nil, err
	}
	bad := kept.load(ctx)
	if bad == nil {
		bad = r.lost
	}
	if bad == nil {
		bad = kept.countUp(ctx, false)
	}
	if bad == nil && !r.opt.Full {
		return kept, nil
	}
	defer func() { _ = kept.refs.close() }() // a temporary file
	if bad != nil && !errors.Is(bad, errLost) && !errors.Is(bad, plan.ErrCounts) {
		return nil, bad
	}
	c, err := begin(r.store, r.opt, at, n, now)
	if err != nil {
		return nil, err
	}
	c.before = kept.before
	err = c.countUp(ctx, true)
	switch {
	case err != nil:
	case bad != nil:
		c.warn("everything was counted from nothing, because: %v", bad)
	default:
		if err = c.compare(ctx, kept.refs); errors.Is(err, errLost) {
			c.warn("everything was counted from nothing, and could not be compared with what was kept, because: %v", err)
			err = nil
		}
	}
	if err != nil {
		return nil, errors.Join(err, c.refs.close())
	}
	return c, nil
}

// sweep dooms what has been condemned for long enough, and removes it. It needs no session: what is
// doomed stays so, whoever removes it.
func (r *run) sweep(ctx context.Context, c *collector) error {
	var keys []string
	_, err := r.log.Update(ctx, func(tx *ledger.Tx) (err error) {
		keys, err = doom(tx, c.now, r.opt.Cutoff)
		return err
	})
	if err != nil {
		return err
	}
	st := r.log.Seen()
	var objects []string
	going := map[pack.ID]bool{}
	for _, key := range keys {
		list, _, err := catalog.Get[catalog.Dead](st, key)
		if err != nil {
			return err
		}
		objects = append(objects, keysOf(list)...)
		for _, id := range list.Packs {
			going[id] = true
		}
	}
	for i, batch := range slices.Collect(slices.Chunk(objects, objstore.MaxDelete)) {
		c.progress("sweep", i*objstore.MaxDelete, len(objects), "objects")
		if err := c.bin.remove(ctx, batch); err != nil {
			return err
		}
	}
	c.progress("sweep", len(objects), len(objects), "objects")
	for id := range going {
		going[id] = !c.bin.left[id.Key()]
	}
	if err := c.weigh(ctx, going); err != nil {
		return err
	}
	if err := c.bin.remove(ctx, c.litter); err != nil {
		return err
	}
	if s := c.bin.sentence(); s != "" {
		c.warn("%s", s)
	}
	if len(keys) > 0 {
		_, err = r.log.Update(ctx, func(tx *ledger.Tx) error { return record(tx, keys, c.bin.left, c.status, c.out.collected.State) })
		if err != nil {
			return err
		}
	}
	return r.log.Trim(ctx)
}

// summarize fills in the status what is known before anything is removed.
func (c *collector) summarize() {
	for _, s := range c.at.snapshots {
		n, plain := s.indexes()
		c.status.IndexFiles += n
		c.status.IndexDataBytes += plain
	}
	t := c.refs.totals()
	c.status.DiskBytes, c.status.DiskChunks = int64(t.Bytes-t.IdleBytes), int64(t.Chunks)
	c.status.PendingBytes, c.status.PendingChunks = int64(t.IdleBytes), int64(t.IdleChunks)
	c.status.StillBad = int64(len(c.at.bad) - len(c.out.healed))
	c.status.RemovedBad = int64(len(c.out.healed))
	if c.status.UPID = c.opt.UPID; c.status.UPID == "" {
		c.status.UPID = upid.New(c.opt.Process.Host, c.opt.Process.PID, c.opt.Now(), "garbage_collection", "", c.opt.Owner).String()
	}
}

// weigh tells what is removed from what is condemned.
func (c *collector) weigh(ctx context.Context, going map[pack.ID]bool) error {
	shards := map[int]bool{}
	for id, ok := range going {
		if i := c.refs.at(id); ok && i < len(c.refs.shards) {
			shards[i] = true
		}
	}
	for i := range shards {
		for p, err := range c.refs.scan(ctx, c.refs.shards[i]) {
			if errors.Is(err, errLost) { // whoever needs it to decide counts anew; these are figures for people
				break
			}
			if err != nil {
				return err
			}
			if going[p.ID] && !p.Removed {
				c.status.RemovedBytes += int64(p.Size)
				c.status.RemovedChunks += int64(len(p.Chunks))
			}
		}
	}
	c.status.PendingBytes -= c.status.RemovedBytes
	c.status.PendingChunks -= c.status.RemovedChunks
	return nil
}

// pull is iter.Pull2 for packs.
func pull(seq iter.Seq2[*packrefs.Pack, error]) (next func() (*packrefs.Pack, error, bool), stop func()) {
	return iter.Pull2(seq)
}
