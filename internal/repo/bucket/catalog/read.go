package catalog

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// NeedNamespace fails with repo.ErrNotFound unless ns exists.
func NeedNamespace(r Reader, ns names.Namespace) error {
	if err := ns.Check(); err != nil {
		return err
	}
	if ns.IsRoot() {
		return nil
	}
	if _, ok := r.Get(NamespaceKey(ns)); !ok {
		return fmt.Errorf("namespace %s: %w", ns, repo.ErrNotFound)
	}
	return nil
}

// Namespaces lists those below parent, at every depth, those above before those
// below.
func Namespaces(r Reader, parent names.Namespace) ([]names.Namespace, error) {
	prefix := NamespacePrefix
	if !parent.IsRoot() {
		prefix = NamespaceKey(parent) + "/"
	}
	var all []names.Namespace
	for key := range r.Scan(prefix) {
		ns, err := names.ParseNamespace(strings.TrimPrefix(key, NamespacePrefix))
		if err != nil {
			return nil, badKey(key, err)
		}
		all = append(all, ns)
	}
	slices.SortFunc(all, func(a, b names.Namespace) int {
		return slices.Compare(strings.Split(a.String(), "/"), strings.Split(b.String(), "/"))
	})
	return all, nil
}

// Groups lists the groups of one namespace, in the order of listings.
func Groups(r Reader, ns names.Namespace) ([]names.Group, error) {
	var all []names.Group
	for key := range r.Scan(GroupPrefix + ns.String() + "|") {
		_, g, err := ParseGroupKey(key)
		if err != nil {
			return nil, badKey(key, err)
		}
		all = append(all, g)
	}
	slices.SortFunc(all, names.Group.Compare)
	return all, nil
}

// NeedGroup returns a group, or repo.ErrNotFound.
func NeedGroup(r Reader, ns names.Namespace, g names.Group) (Group, error) {
	rec, ok, err := Get[Group](r, GroupKey(ns, g))
	if err == nil && !ok {
		err = fmt.Errorf("backup group %s: %w", g, repo.ErrNotFound)
	}
	return rec, err
}

// Times lists the finished snapshots of a group, oldest first.
func Times(r Reader, ns names.Namespace, g names.Group) ([]names.Snapshot, error) {
	var all []names.Snapshot
	for key := range r.Scan(groupSnapshots(ns, g)) {
		s, err := ParseSnapshotKey(key)
		if err != nil {
			return nil, badKey(key, err)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, names.Snapshot.Compare)
	return all, nil
}

// groupSnapshots is what the keys of a group's snapshots begin with.
func groupSnapshots(ns names.Namespace, g names.Group) string {
	return SnapshotPrefix + ns.String() + "|" + g.String() + "/"
}

// hasSnapshots reports whether a group has a finished one.
func hasSnapshots(r Reader, ns names.Namespace, g names.Group) bool {
	for range r.Scan(groupSnapshots(ns, g)) {
		return true
	}
	return false
}

// NeedSnapshot returns a finished snapshot, or repo.ErrNotFound. One that is
// being written is a *LockedError.
func NeedSnapshot(r Reader, n names.Snapshot) (Snapshot, error) {
	rec, ok, err := Get[Snapshot](r, SnapshotKey(n))
	if err != nil || ok {
		return rec, err
	}
	if err := unheld(r, n); err != nil {
		return rec, fmt.Errorf("snapshot %s: %w", n, err)
	}
	return rec, fmt.Errorf("snapshot %s: %w", n, repo.ErrNotFound)
}

// Running is a session with its number.
type Running struct {
	Number Number
	Session
}

// Sessions lists those that run, in the order in which they began.
func Sessions(r Reader) ([]Running, error) {
	var all []Running
	for key, raw := range r.Scan(SessionPrefix) {
		n, err := ParseNumber(strings.TrimPrefix(key, SessionPrefix))
		if err != nil {
			return nil, badKey(key, err)
		}
		s, err := Parse[Session](key, raw)
		if err != nil {
			return nil, err
		}
		all = append(all, Running{n, s})
	}
	return all, nil
}

// InGroup returns the session that writes into a group; nil when none does.
func InGroup(r Reader, ns names.Namespace, g names.Group) (*Running, error) {
	all, err := Sessions(r)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if !s.Snapshot.IsZero() && s.Snapshot.NS == ns && s.Snapshot.Group == g {
			return &s, nil
		}
	}
	return nil, nil
}

// BadChunks are those found damaged.
func BadChunks(r Reader) (map[digest.Digest]Bad, error) {
	all := map[digest.Digest]Bad{}
	for key, raw := range r.Scan(BadPrefix) {
		d, err := digest.Parse(key[len(BadPrefix):])
		if err != nil {
			return nil, badKey(key, err)
		}
		if all[d], err = Parse[Bad](key, raw); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func badKey(key string, err error) error {
	return &repo.CorruptError{What: fmt.Sprintf("key %q of the repository", key), Err: err}
}
