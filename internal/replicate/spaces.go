package replicate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// pair is a namespace of the source and the one that it goes to.
type pair struct{ from, to names.Namespace }

// spaces lists the namespaces to copy, and makes those that the target lacks. One
// that cannot be at the target, because it would lie too deep, is a failure of its
// own.
func (r *run) spaces(ctx context.Context) ([]pair, error) {
	if r.src.Location() == r.dst.Location() && overlap(r.From, r.To, r.Depth) {
		return nil, fmt.Errorf("source and target are the same place: %s, namespace %s and %s", r.src.Location(), show(r.From), show(r.To))
	}
	from, err := below(ctx, r.src, r.From, r.Depth)
	if err != nil {
		return nil, atSource(err)
	}
	has, err := r.dst.Namespaces(ctx, names.Root)
	if err != nil {
		return nil, err
	}
	there := map[names.Namespace]bool{names.Root: true}
	for _, ns := range has {
		there[ns] = true
	}
	var pairs []pair
	for _, ns := range from {
		to, err := ns.Moved(r.From, r.To)
		if err == nil {
			err = r.need(ctx, to, there)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			r.fail("namespace "+show(ns), err)
			continue
		}
		pairs = append(pairs, pair{ns, to})
	}
	return pairs, nil
}

// overlap reports whether what is copied would be copied again.
func overlap(from, to names.Namespace, depth int) bool {
	if depth == 0 {
		return from == to
	}
	return from.Contains(to) || to.Contains(from)
}

// below is a namespace and those below it down to a depth, each after the one that
// it is in.
func below(ctx context.Context, in repo.Repository, ns names.Namespace, depth int) ([]names.Namespace, error) {
	all := []names.Namespace{ns}
	if depth == 0 {
		return all, nil
	}
	list, err := in.Namespaces(ctx, ns)
	if err != nil {
		return nil, err
	}
	for _, n := range list {
		if n != ns && (depth < 0 || n.Depth()-ns.Depth() <= depth) {
			all = append(all, n)
		}
	}
	slices.SortStableFunc(all, func(a, b names.Namespace) int { return a.Depth() - b.Depth() })
	return all, nil
}

// need makes a namespace of the target, with those that it is in.
func (r *run) need(ctx context.Context, ns names.Namespace, there map[names.Namespace]bool) error {
	if there[ns] {
		return nil
	}
	if err := r.need(ctx, ns.Parent(), there); err != nil {
		return err
	}
	if err := r.dst.CreateNamespace(ctx, ns); err != nil && !errors.Is(err, repo.ErrExists) {
		return err
	}
	there[ns] = true
	return nil
}

// vanishedSpaces removes namespaces of the target that the source does not have,
// and their groups as far as the filters reach.
func (r *run) vanishedSpaces(ctx context.Context, pairs []pair) error {
	if r.Depth == 0 {
		return nil
	}
	has, err := below(ctx, r.dst, r.To, r.Depth)
	if err != nil {
		return err
	}
	// Again: a namespace may have been made meanwhile, or could not be copied.
	from, err := below(ctx, r.src, r.From, r.Depth)
	if err != nil {
		return atSource(err)
	}
	keep := map[names.Namespace]bool{r.To: true}
	for _, p := range pairs {
		keep[p.to] = true
	}
	for _, ns := range from {
		if to, err := ns.Moved(r.From, r.To); err == nil {
			keep[to] = true
		}
	}
	for _, ns := range slices.Backward(has) { // the deepest first
		if keep[ns] {
			continue
		}
		if err := r.removeSpace(ctx, ns); err != nil {
			r.fail("vanished namespace "+show(ns), err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

func (r *run) removeSpace(ctx context.Context, ns names.Namespace) error {
	groups, err := r.dst.Groups(ctx, ns)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if r.Filters.Match(g.Group) {
			if err := r.removeGroup(ctx, g); err != nil {
				return err
			}
		}
	}
	groups, err = r.dst.Groups(ctx, ns)
	if err != nil || len(groups) > 0 {
		return err
	}
	if left, err := r.dst.Namespaces(ctx, ns); err != nil || slices.ContainsFunc(left, func(n names.Namespace) bool { return n != ns }) {
		return err
	}
	r.logf("remove vanished namespace %s", show(ns))
	if err := r.dst.DeleteNamespace(ctx, ns, false); err != nil && !errors.Is(err, repo.ErrNotFound) {
		return err
	}
	r.count.removedNamespaces.Add(1)
	return nil
}
