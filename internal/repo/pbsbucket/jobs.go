package pbsbucket

import (
	"context"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/pruning"
	"github.com/holdfast-backup/holdfast/internal/repo/verify"
)

// Prune only says what a policy would remove.
func (r *Repository) Prune(ctx context.Context, p repo.PruneOptions) ([]repo.PruneResult, error) {
	if !p.DryRun {
		return nil, r.change("remove snapshots")
	}
	return pruning.Run(ctx, &prunable{r.newCensus(ctx)}, p)
}

// Verify reads snapshots back and compares everything with its checksums. Verdicts
// are not kept.
func (r *Repository) Verify(ctx context.Context, opt repo.VerifyOptions) (repo.VerifyReport, error) {
	return verify.Run(ctx, &verifiable{r.newCensus(ctx)}, opt)
}

// census is what a job knows of the groups of one namespace: they are listed once,
// not group by group.
type census struct {
	ctx context.Context // of the job
	r   *Repository
	of  map[names.Group][]listed
}

func (r *Repository) newCensus(ctx context.Context) census {
	return census{ctx: ctx, r: r}
}

// Groups lists a namespace, or one group of it.
func (c *census) Groups(ns names.Namespace, only *names.Group) ([]names.Group, error) {
	list, err := c.r.groups(c.ctx, ns, only)
	c.of = make(map[names.Group][]listed, len(list))
	groups := make([]names.Group, len(list))
	for i, f := range list {
		groups[i], c.of[f.group] = f.group, f.snaps
	}
	return groups, err
}

type prunable struct{ census }

// Snapshots lists a group of the namespace that was listed last.
func (p *prunable) Snapshots(ns names.Namespace, g names.Group) ([]pruning.Snapshot, error) {
	all := make([]pruning.Snapshot, len(p.of[g]))
	for i, s := range p.of[g] {
		all[i] = pruning.Snapshot{Name: names.Snapshot{NS: ns, Group: g, Time: s.time}, Finished: s.finished, Protected: s.protected}
	}
	return all, nil
}

// Remove is never asked for: pruning is only tried.
func (p *prunable) Remove(context.Context, pruning.Snapshot) error {
	return p.r.change("remove a snapshot")
}

type verifiable struct{ census }

// Need fails unless a snapshot is there and finished.
func (v *verifiable) Need(n names.Snapshot) error {
	_, err := v.r.manifest(v.ctx, n)
	return err
}

// Spaces lists a namespace, and all below it if they are wanted.
func (v *verifiable) Spaces(ns names.Namespace, below bool) ([]names.Namespace, error) {
	spaces := []names.Namespace{ns}
	if !below {
		return spaces, v.r.needNamespace(v.ctx, ns)
	}
	all, err := v.r.Namespaces(v.ctx, ns)
	return append(spaces, all...), err
}

// Finished lists the finished snapshots of a group of the namespace that was listed
// last.
func (v *verifiable) Finished(ns names.Namespace, g names.Group) (all []names.Snapshot, err error) {
	for _, s := range v.of[g] {
		if s.finished {
			all = append(all, names.Snapshot{NS: ns, Group: g, Time: s.time})
		}
	}
	return all, nil
}

// Open opens a snapshot.
func (v *verifiable) Open(ctx context.Context, n names.Snapshot) (verify.Snapshot, error) {
	p, err := v.r.open(ctx, n)
	if err != nil { // not a typed nil
		return nil, err
	}
	return p, nil
}

// SetAside changes nothing.
func (v *verifiable) SetAside(context.Context, verify.Snapshot, digest.Digest, func() error) (bool, error) {
	return false, nil
}

// MarkLost changes nothing.
func (v *verifiable) MarkLost(context.Context, verify.Snapshot, digest.Digest) error { return nil }

// SaveVerdict changes nothing.
func (v *verifiable) SaveVerdict(context.Context, verify.Snapshot, manifest.VerifyState) error {
	return nil
}

// Now is the clock by which earlier verdicts, those of the server, are outdated.
func (v *verifiable) Now() time.Time { return time.Now() }

// TaskID names no task, as no verdict is kept.
func (v *verifiable) TaskID(time.Time, string, string) string { return "" }
