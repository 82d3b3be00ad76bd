package job

import (
	"context"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Selection says which snapshots of a store a backup is of.
type Selection struct {
	Namespace  names.Namespace
	MaxDepth   int  // levels of namespaces below; negative: all
	LatestOnly bool // of each group only the newest finished snapshot
	// Groups lets groups pass; nil: all.
	Groups func(names.Group) bool
}

// Namespaced reports whether snapshots of other namespaces than the root can be
// chosen.
func (s Selection) Namespaced() bool { return !s.Namespace.IsRoot() || s.MaxDepth != 0 }

// group is what a backup takes of one group.
type group struct {
	ns    names.Namespace
	group names.Group
}

// groups lists the groups, namespace by namespace, each sorted by type and id.
func (s Selection) groups(ctx context.Context, r repo.Repository) ([]group, error) {
	all, err := r.Namespaces(ctx, s.Namespace)
	if err != nil {
		return nil, err
	}
	var list []group
	for _, ns := range append([]names.Namespace{s.Namespace}, all...) {
		if s.MaxDepth >= 0 && ns.Depth()-s.Namespace.Depth() > s.MaxDepth {
			continue
		}
		infos, err := r.Groups(ctx, ns)
		if err != nil {
			return nil, fmt.Errorf("namespace %q: %w", ns, err)
		}
		slices.SortFunc(infos, func(a, b repo.GroupInfo) int { return a.Group.Compare(b.Group) })
		for _, g := range infos {
			if s.Groups == nil || s.Groups(g.Group) {
				list = append(list, group{ns, g.Group})
			}
		}
	}
	return list, nil
}

// snapshots lists the finished snapshots of a group that are to be written,
// oldest first.
func (s Selection) snapshots(ctx context.Context, r repo.Repository, g group) ([]names.Snapshot, error) {
	infos, err := r.Snapshots(ctx, g.ns, &g.group)
	if err != nil {
		return nil, err
	}
	var list []names.Snapshot
	for _, i := range infos {
		if i.Finished {
			list = append(list, i.Snapshot)
		}
	}
	slices.SortFunc(list, names.Snapshot.Compare)
	if s.LatestOnly && len(list) > 1 {
		list = list[len(list)-1:]
	}
	return list, nil
}
