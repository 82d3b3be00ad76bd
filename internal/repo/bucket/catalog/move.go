package catalog

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// MoveGroup moves a group into another namespace, all of it or nothing. If the
// group is there already its snapshots join it, if merge allows that, both are of
// one owner, and the group that moves begins after the other one ends. No session
// writes into either. Objects stay where they are.
func MoveGroup(tx Tx, from names.Namespace, g names.Group, to names.Namespace, merge bool) error {
	if from == to {
		return fmt.Errorf("it is in %s already", in(to))
	}
	if err := NeedNamespace(tx, to); err != nil {
		return err
	}
	rec, err := NeedGroup(tx, from, g)
	if err != nil {
		return err
	}
	if err := errors.Join(free(tx, from, g), free(tx, to, g)); err != nil {
		return err
	}
	snaps, err := Times(tx, from, g)
	if err != nil {
		return err
	}
	other, err := target(tx, rec, snaps, g, to, merge)
	if err != nil {
		return err
	}
	for _, n := range snaps {
		moved := n
		moved.NS = to
		value, _ := tx.Get(SnapshotKey(n))
		tx.Set(SnapshotKey(moved), value)
		tx.Delete(SnapshotKey(n))
	}
	tx.Delete(GroupKey(from, g))
	if other.Notes == "" {
		other.Notes = rec.Notes
	}
	return Set(tx, GroupKey(to, g), other)
}

// target is the group that the snapshots join.
func target(r Reader, rec Group, snaps []names.Snapshot, g names.Group, to names.Namespace, merge bool) (Group, error) {
	other, ok, err := Get[Group](r, GroupKey(to, g))
	if err != nil {
		return other, err
	}
	there, err := Times(r, to, g)
	switch {
	case err != nil:
		return other, err
	case !ok || len(there) == 0:
		other.Owner = rec.Owner
		return other, nil
	case !merge:
		return other, fmt.Errorf("%s has a group of this name: %w", in(to), repo.ErrExists)
	case other.Owner != rec.Owner:
		return other, fmt.Errorf("it belongs to %q here and to %q in %s: %w", rec.Owner, other.Owner, in(to), repo.ErrOwner)
	case len(snaps) > 0 && snaps[0].Time <= there[len(there)-1].Time:
		return other, fmt.Errorf("%s is not newer than all snapshots of the group in %s: %w", snaps[0], in(to), repo.ErrExists)
	}
	return other, nil
}

// Pair is a namespace and where its content goes.
type Pair struct{ From, To names.Namespace }

// Targets says where each namespace goes, those above before those below.
func Targets(r Reader, from names.Namespace, opt repo.MoveNamespaceOptions) ([]Pair, error) {
	to := opt.To
	switch {
	case from.IsRoot():
		return nil, errors.New("the root namespace cannot be moved")
	case from == to:
		return nil, errors.New("it is there already")
	case from.Contains(to):
		return nil, fmt.Errorf("%s is inside of it", to)
	}
	if err := NeedNamespace(r, from); err != nil {
		return nil, err
	}
	if !to.IsRoot() {
		if err := NeedNamespace(r, to.Parent()); err != nil {
			return nil, err
		}
	}
	below, err := Namespaces(r, from)
	if err != nil {
		return nil, err
	}
	all := []Pair{{from, to}}
	for _, n := range below {
		if opt.Depth >= 0 && n.Depth()-from.Depth() > opt.Depth {
			continue
		}
		moved, err := n.Moved(from, to)
		if err != nil {
			return nil, err
		}
		all = append(all, Pair{n, moved})
	}
	return all, nil
}

// DropNamespace removes a namespace unless something is in it.
func DropNamespace(tx Tx, ns names.Namespace) error {
	groups, err := Groups(tx, ns)
	if err != nil || len(groups) > 0 {
		return err
	}
	below, err := Namespaces(tx, ns)
	if err != nil || len(below) > 0 {
		return err
	}
	tx.Delete(NamespaceKey(ns))
	return nil
}

func in(ns names.Namespace) string {
	if ns.IsRoot() {
		return "the root namespace"
	}
	return "namespace " + ns.String()
}
