package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/collect/plan"
)

// collector is one collection, from the state that it looked at to the entry that
// makes its outcome true.
type collector struct {
	store objstore.Store
	opt   Options
	at    *situation
	now   time.Time // by the clock of the store
	out   *outcome

	full   bool           // everything is counted from nothing
	root   *packrefs.Root // from which it is counted; empty when it is from nothing
	before *packrefs.Root // of the last collection, if it could be read
	left   uint32         // sparse packs that were seen and left
	refs   *refs
	tally  plan.Tally
	moves  relocator
	sound  []packrefs.Sound

	unknown map[catalog.Number]bool         // snapshots that cannot be counted
	until   map[catalog.Number]packrefs.Day // until when objects of snapshots are locked
	locked  map[string]packrefs.Day         // and others that were found
	void    map[pack.ID]bool                // packs that are not there any more
	litter  []string                        // keys that nobody needs and that nothing names
	bin     remover
	used    map[digest.Digest]bool // damaged chunks that snapshots need where they are damaged
	next    numbers

	status repo.GCStatus
}

// numbers are those of the next objects that a collection writes.
type numbers struct{ pack, index, moves, refs uint32 }

func (c *collector) warn(format string, args ...any) {
	c.status.Warnings = append(c.status.Warnings, fmt.Sprintf(format, args...))
}

func (c *collector) progress(phase string, done, total int, of string) {
	if c.opt.Progress != nil {
		c.opt.Progress(repo.GCProgress{Phase: phase, Done: done, Total: total, Of: of})
	}
}

// lost is wrapped when the counts are not there, or damaged.
var errLost = errors.New("the counts of references are lost")

func lostCounts(key string, err error) error {
	if errors.Is(err, objstore.ErrNotFound) || errors.Is(err, packrefs.ErrFormat) {
		return fmt.Errorf("%w: object %s: %w", errLost, key, err)
	}
	return err
}

// maxRoot is more than a root has: 256 MiB of plain data, compressed.
const maxRoot = 300 << 20

// begin makes a collector that counts from nothing.
func begin(s objstore.Store, o Options, at *situation, n catalog.Number, now time.Time) (*collector, error) {
	c := &collector{
		store: s, opt: o, at: at, now: now, root: &packrefs.Root{}, before: &packrefs.Root{},
		unknown: map[catalog.Number]bool{}, until: map[catalog.Number]packrefs.Day{},
		locked: map[string]packrefs.Day{}, void: map[pack.ID]bool{}, bin: remover{store: s}, used: map[digest.Digest]bool{},
		out: &outcome{
			number: n, now: now, objects: map[string]packrefs.Day{}, removed: map[string][]pack.ID{},
			runs: map[string]catalog.Run{}, moved: map[pack.ID]catalog.Moved{}, ended: map[catalog.Number]*catalog.Ended{},
		},
	}
	c.moves = relocator{store: s, moved: maps.Clone(at.moved)}
	var err error
	c.refs, err = newRefs(s, c.root, c.limits(), o.perShard)
	return c, err
}

// load goes on from the counts of the last collection.
func (c *collector) load(ctx context.Context) error {
	if c.at.last.State == "" {
		return nil
	}
	b, _, err := resume.ReadAll(ctx, c.store, c.at.last.State, maxRoot)
	if err != nil {
		return lostCounts(c.at.last.State, err)
	}
	if c.root, err = packrefs.ParseRoot(b); err != nil {
		return lostCounts(c.at.last.State, err)
	}
	c.before = c.root
	for _, s := range c.root.Shards {
		c.refs.shards = append(c.refs.shards, shard{Shard: s})
	}
	return nil
}

func (c *collector) limits() plan.Limits {
	return plan.Limits{PackSize: c.at.meta.PackSize, Budget: c.opt.Repack}
}

// retention is that of objects which are written now.
func (c *collector) retention() objstore.Retention { return c.at.meta.Retention.From(c.opt.Now()) }

func (c *collector) days() int {
	if c.at.meta.Retention == nil {
		return 0
	}
	return c.at.meta.Retention.Days
}

// lockOf is the first day on which an object that was found can be removed.
func (c *collector) lockOf(o objstore.Info) packrefs.Day { return c.lockFrom(o.Modified) }

func (c *collector) lockFrom(t time.Time) packrefs.Day {
	if c.days() <= 0 {
		return 0
	}
	return packrefs.DayOf(t.AddDate(0, 0, c.days())) + 1
}

func (c *collector) put(ctx context.Context, key string, body objstore.Body) error {
	if err := objstore.Create(ctx, c.store, key, body, c.retention()); err != nil {
		return fmt.Errorf("store object %s: %w", key, err)
	}
	c.locked[key] = c.lockFrom(c.now) + 1 // the clock here may be ahead
	return nil
}

// countUp finds how often everything is needed.
func (c *collector) countUp(ctx context.Context, full bool) error {
	c.full = full
	if err := c.count(ctx); err != nil {
		return err
	}
	if err := c.countSound(ctx); err != nil {
		return err
	}
	list := c.discover
	if full {
		list = c.listAll
	}
	if err := list(ctx); err != nil {
		return err
	}
	for d := range c.at.bad {
		if full && !c.used[d] && len(c.unknown) == 0 {
			c.out.healed = append(c.out.healed, catalog.BadKey(d))
		}
	}
	c.buried()
	return c.fold(ctx)
}

// act decides by the counts, and writes whatever the outcome needs.
func (c *collector) act(ctx context.Context) error {
	if c.opt.DryRun {
		return c.decide(ctx)
	}
	if err := c.maintain(ctx); err != nil {
		return err
	}
	if err := c.decide(ctx); err != nil {
		return err
	}
	c.forget()
	for n := range c.at.snapshots {
		if !c.unknown[n] {
			c.out.counted = append(c.out.counted, n)
		}
	}
	slices.Sort(c.out.counted)
	return c.save(ctx)
}

// forget condemns the objects of snapshots that were forgotten, and lists of moved chunks that
// nothing names any more.
func (c *collector) forget() {
	locked := map[catalog.Number]packrefs.Day{}
	for _, s := range c.before.Snapshots {
		locked[catalog.Number(s.Session)] = s.Until
	}
	for n := range c.at.gone {
		c.out.gone = append(c.out.gone, n)
		until, ok := locked[n]
		if !ok {
			until = c.lockFrom(c.now) + 1
		}
		c.out.objects[catalog.SnapshotObject(n)], c.out.objects[catalog.LogObject(n)] = until, until
	}
	live := c.listsOfMoves()
	for _, list := range c.at.dead {
		for _, key := range list.Objects {
			live[key] = true // it is condemned already
		}
	}
	for _, m := range c.at.moved {
		if _, done := c.out.objects[m.In]; !done && !live[m.In] {
			c.replace(m.In)
		}
	}
}

// listsOfMoves are the keys of the objects that say where chunks have moved, without those
// of which all is to be forgotten.
func (c *collector) listsOfMoves() map[string]bool {
	live := map[string]bool{}
	for id, m := range c.moves.moved { // without those that are forgotten now
		if _, anew := c.out.moved[id]; !anew && !c.at.dropping[id] {
			live[m.In] = true
		}
	}
	for _, m := range c.out.moved {
		live[m.In] = true
	}
	return live
}

// decide finds what nobody needs, and what is needed again.
func (c *collector) decide(ctx context.Context) error {
	c.out.idle, c.out.needed = map[pack.ID]packrefs.Day{}, map[pack.ID]bool{}
	dead := map[pack.ID]bool{} // on a list, and maybe there
	for _, list := range c.at.dead {
		for _, id := range list.Packs {
			dead[id] = !list.Removed
		}
	}
	ids := slices.SortedFunc(maps.Keys(dead), pack.ID.Compare)
	for _, s := range c.refs.shards {
		n := uint64(0)
		for len(ids) > 0 && ids[0].Compare(s.Last) <= 0 {
			if dead[ids[0]] {
				n++
			}
			ids = ids[1:]
		}
		if !s.changed && s.Idle <= n {
			continue // all that nobody needs is on a list
		}
		for p, err := range c.refs.scan(ctx, s) {
			switch {
			case err != nil:
				return err
			case p.Removed:
				c.missed(p)
			case !plan.Idle(p):
				if dead[p.ID] {
					c.out.needed[p.ID] = true
				}
			case len(c.unknown) == 0:
				c.out.idle[p.ID] = p.Until
			}
		}
	}
	return nil
}

// missed tells of a pack that is needed and not there.
func (c *collector) missed(p *packrefs.Pack) {
	if n, _ := p.Needed(); n > 0 {
		c.warn("pack %s is not there, and %d chunks of it are needed: verify says which snapshots they are of", p.ID, n)
	}
}

// save stores the counts, and says what they replace.
func (c *collector) save(ctx context.Context) error {
	name := func() string {
		c.next.refs++
		return fmt.Sprintf("%sr%08x", catalog.SessionDir(c.out.number), c.next.refs)
	}
	old := map[string]bool{}
	for _, s := range c.before.Shards {
		old[s.Key] = true
	}
	if err := c.refs.save(ctx, name, c.retention()); err != nil {
		return err
	}
	for _, s := range c.refs.shards {
		delete(old, s.Key)
		if s.changed {
			c.locked[s.Key] = c.lockFrom(c.now) + 1
		}
	}
	for key := range old {
		c.replace(key)
	}
	return c.saveRoot(ctx)
}

// saveRoot stores what the shards are of, if that is not what is there.
func (c *collector) saveRoot(ctx context.Context) error {
	b, err := packrefs.AppendRoot(nil, c.newRoot())
	if err != nil {
		return err
	}
	was, err := packrefs.AppendRoot(nil, c.before)
	if err != nil {
		return err
	}
	if last := c.at.last.State; last != "" {
		if c.out.collected.State = last; bytes.Equal(b, was) {
			return nil
		}
		c.replace(last)
	}
	key := fmt.Sprintf("%sr%08x", catalog.SessionDir(c.out.number), 0)
	c.out.collected.State = key
	c.locked[key] = c.lockFrom(c.now) + 1 // it says so of itself
	if b, err = packrefs.AppendRoot(nil, c.newRoot()); err != nil {
		return err
	}
	return c.put(ctx, key, bytes.NewReader(b))
}

// replace condemns an object that something else takes the place of.
func (c *collector) replace(key string) {
	until, ok := c.locked[key]
	if !ok {
		until = c.lockFrom(c.now) + 1
	}
	c.out.objects[key] = until
	delete(c.locked, key)
}

// newRoot is the root of the shards as they are.
func (c *collector) newRoot() *packrefs.Root {
	root := &packrefs.Root{Locked: uint32(c.days()), Left: c.left, Sound: c.sound}
	for n := range c.at.snapshots {
		if !c.unknown[n] {
			root.Snapshots = append(root.Snapshots, packrefs.Counted{Session: uint64(n), Until: c.until[n]})
		}
	}
	slices.SortFunc(root.Snapshots, func(a, b packrefs.Counted) int { return int(min(max(int64(a.Session)-int64(b.Session), -1), 1)) })
	indexed := map[uint64]bool{}
	for key := range c.at.runs {
		if n, _, err := runOf(key); err == nil && !slices.Contains(c.out.replaced, key) {
			indexed[uint64(n)] = true
		}
	}
	if len(c.out.runs) > 0 {
		indexed[uint64(c.out.number)] = true
	}
	root.Indexed = slices.Sorted(maps.Keys(indexed))
	for _, s := range c.refs.shards {
		root.Shards = append(root.Shards, s.Shard)
	}
	if c.days() > 0 {
		for _, key := range slices.Sorted(maps.Keys(c.locked)) {
			if !strings.HasPrefix(key, "clock/") {
				root.Objects = append(root.Objects, packrefs.Locked{Key: key, Until: c.locked[key]})
			}
		}
	}
	return root
}
