package catalog

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Forget removes a snapshot, and its group with the last one.
func Forget(tx Tx, n names.Snapshot) error {
	if err := forget(tx, n); err != nil {
		return err
	}
	return dropEmptyGroup(tx, n.NS, n.Group)
}

// forget removes one snapshot. Its references stay counted, and its object there,
// until a garbage collection has seen that it is gone.
func forget(tx Tx, n names.Snapshot) error {
	if err := unheld(tx, n); err != nil {
		return err
	}
	rec, ok, err := Get[Snapshot](tx, SnapshotKey(n))
	switch {
	case err != nil:
		return err
	case !ok:
		return repo.ErrNotFound
	case rec.Protected:
		return repo.ErrProtected
	}
	tx.Delete(SnapshotKey(n))
	return Set(tx, GoneKey(rec.Session), Gone{SnapshotName{n}, rec.Map})
}

// ForgetGroup removes all snapshots of a group but the protected ones, and the
// group if none is left.
func ForgetGroup(tx Tx, ns names.Namespace, g names.Group) (res repo.ForgetGroupResult, err error) {
	if err := free(tx, ns, g); err != nil {
		return res, err
	}
	if _, err := NeedGroup(tx, ns, g); err != nil {
		return res, err
	}
	all, err := Times(tx, ns, g)
	if err != nil {
		return res, err
	}
	for _, n := range all {
		switch err := forget(tx, n); {
		case errors.Is(err, repo.ErrProtected):
			res.Protected++
		case err != nil:
			return res, fmt.Errorf("forget %s: %w", n, err)
		default:
			res.Removed++
		}
	}
	return res, dropEmptyGroup(tx, ns, g)
}

// CreateNamespace makes a namespace below one that exists.
func CreateNamespace(tx Tx, ns names.Namespace) error {
	if ns.IsRoot() {
		return fmt.Errorf("the root namespace: %w", repo.ErrExists)
	}
	if err := NeedNamespace(tx, ns.Parent()); err != nil {
		return err
	}
	if _, ok := tx.Get(NamespaceKey(ns)); ok {
		return repo.ErrExists
	}
	return Set(tx, NamespaceKey(ns), struct{}{})
}

// DeleteNamespace removes a namespace with those below it, all or nothing.
func DeleteNamespace(tx Tx, ns names.Namespace, withGroups bool) error {
	if ns.IsRoot() {
		return errors.New("the root namespace cannot be deleted")
	}
	if err := NeedNamespace(tx, ns); err != nil {
		return err
	}
	below, err := Namespaces(tx, ns)
	if err != nil {
		return err
	}
	for _, n := range append([]names.Namespace{ns}, below...) {
		groups, err := Groups(tx, n)
		if err != nil {
			return err
		}
		if len(groups) > 0 && !withGroups {
			return fmt.Errorf("namespace %s holds %d backup groups, %s among them", n, len(groups), groups[0])
		}
		for _, g := range groups {
			res, err := ForgetGroup(tx, n, g)
			if err != nil {
				return err
			}
			if res.Protected > 0 {
				return fmt.Errorf("%w: %d in %s", repo.ErrProtected, res.Protected, g)
			}
		}
		tx.Delete(NamespaceKey(n))
	}
	return nil
}
