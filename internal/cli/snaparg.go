package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// place is a group or snapshot as the user named it:
//
//	[ns/a/ns/b/]vm/100                         group; its newest finished snapshot
//	[ns/a/ns/b/]vm/100/latest                  the same
//	[ns/a/ns/b/]vm/100/2026-11-22T10:00:00Z    snapshot
type place struct {
	ns     names.Namespace
	group  names.Group
	time   int64
	exact  bool // time is given
	latest bool // "latest" is written out
}

const placeForm = "write type/id, type/id/latest or type/id/time, as vm/100/2026-11-22T10:00:00Z"

func (a *app) parsePlace(s string) (place, error) {
	p := place{ns: a.ns}
	parts := strings.Split(strings.Trim(s, "/"), "/")
	var levels []string
	for len(parts) > 1 && parts[0] == "ns" {
		levels, parts = append(levels, parts[1]), parts[2:]
	}
	if levels != nil {
		ns, err := names.ParseNamespace(strings.Join(levels, "/"))
		if err != nil {
			return place{}, usage(err)
		}
		if a.ns != names.Root && a.ns != ns {
			return place{}, usagef("%q and --ns %s name different namespaces", s, a.ns)
		}
		p.ns = ns
	}
	if len(parts) < 2 || len(parts) > 3 {
		return place{}, hint(usagef("%q names no group and no snapshot", s), placeForm)
	}
	var err error
	if p.group, err = names.ParseGroup(parts[0] + "/" + parts[1]); err != nil {
		return place{}, hint(usage(err), placeForm)
	}
	switch {
	case len(parts) == 2:
	case parts[2] == "latest":
		p.latest = true
	default:
		if p.time, err = names.ParseRFC3339(parts[2]); err != nil {
			return place{}, hint(usage(err), placeForm)
		}
		p.exact = true
	}
	return p, nil
}

// parseGroup reads an argument that must be a group.
func (a *app) parseGroup(s string) (names.Namespace, names.Group, error) {
	p, err := a.parsePlace(s)
	if err == nil && (p.exact || p.latest) {
		err = hint(usagef("%q is a snapshot, and a group is needed", s), "leave out the time: %s", p.group)
	}
	return p.ns, p.group, err
}

// snapshot finds the snapshot that the user named.
func (a *app) snapshot(ctx context.Context, r repo.Repository, s string) (names.Snapshot, error) {
	p, err := a.parsePlace(s)
	if err != nil {
		return names.Snapshot{}, err
	}
	return p.resolve(ctx, r)
}

// exactSnapshot is snapshot for commands that destroy: the time must be given.
func (a *app) exactSnapshot(s string) (names.Snapshot, error) {
	p, err := a.parsePlace(s)
	if err != nil {
		return names.Snapshot{}, err
	}
	if !p.exact {
		return names.Snapshot{}, hint(usagef("%q does not say which snapshot", s), "write its time, as %s/2026-11-22T10:00:00Z", p.group)
	}
	return names.Snapshot{NS: p.ns, Group: p.group, Time: p.time}, nil
}

func (p place) resolve(ctx context.Context, r repo.Repository) (names.Snapshot, error) {
	want := names.Snapshot{NS: p.ns, Group: p.group, Time: p.time}
	if p.exact {
		return want, nil
	}
	list, err := r.Snapshots(ctx, p.ns, &p.group)
	if err != nil {
		return names.Snapshot{}, err
	}
	found := false
	for _, s := range list {
		if s.Finished && s.Problem == nil && (!found || s.Snapshot.Time > want.Time) {
			want, found = s.Snapshot, true
		}
	}
	if !found {
		return names.Snapshot{}, fmt.Errorf("%s has no finished snapshot: %w", names.GroupPath(p.ns, p.group), repo.ErrNotFound)
	}
	return want, nil
}

// show names a snapshot for people, its namespace included.
func show(s names.Snapshot) string { return s.Path() }
