package datastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Forget removes a snapshot, finished or not, and its group with the last one.
func (s *Store) Forget(ctx context.Context, n names.Snapshot) error {
	if err := n.Check(); err != nil {
		return err
	}
	return s.forgetIf(ctx, n, func() error { return nil })
}

// forgetIf removes a snapshot if allowed agrees, once nobody else can change it.
func (s *Store) forgetIf(ctx context.Context, n names.Snapshot, allowed func() error) error {
	if err := s.forget(ctx, n, allowed); err != nil {
		return fmt.Errorf("forget %s: %w", n, err)
	}
	u, err := s.lockGroup(n.NS, n.Group)
	if errors.Is(err, vfs.ErrLocked) { // a backup runs: the group stays
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(s.removeEmptyGroup(n.NS, n.Group), u.Unlock())
}

// forget removes one snapshot. Without its manifest it is gone for every
// reader; that is made durable before anything else goes, so that no power cut
// shows a finished snapshot that lacks a part.
func (s *Store) forget(ctx context.Context, n names.Snapshot, allowed func() error) (err error) {
	u, err := s.lockSnapshot(n, lockExclusive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.Unlock()) }()
	dir := n.Path()
	there, err := exists(s.fs, dir)
	if err != nil {
		return err
	}
	if !there {
		return repo.ErrNotFound
	}
	if err := allowed(); err != nil {
		return err
	}
	kept, err := exists(s.fs, dir+"/"+names.Protected)
	if err != nil {
		return err
	}
	if kept {
		return repo.ErrProtected
	}
	mu, err := s.lockManifest(ctx, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mu.Unlock()) }()
	return s.removeSnapshot(dir)
}

// removeSnapshot removes a snapshot's directory, the manifest durably before
// the rest.
func (s *Store) removeSnapshot(dir string) error {
	if err := ignoreMissing(s.fs.Remove(dir + "/" + manifestName)); err != nil {
		return err
	}
	if err := s.fs.SyncDir(dir); err != nil {
		return ignoreMissing(err)
	}
	return s.removeDir(dir)
}

// removeDir removes a directory with what is in it.
func (s *Store) removeDir(dir string) error {
	entries, err := s.fs.ReadDir(dir)
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range entries {
		name := dir + "/" + e.Name
		if e.IsDir() {
			err = s.removeDir(name)
		} else {
			err = ignoreMissing(s.fs.Remove(name))
		}
		if err != nil {
			return err
		}
	}
	return ignoreMissing(s.fs.Remove(dir))
}

// removeEmptyGroup removes a group that holds no snapshot directory. The
// caller has its lock.
func (s *Store) removeEmptyGroup(ns names.Namespace, g names.Group) error {
	snaps, err := s.times(ns, g)
	if err != nil || len(snaps) > 0 {
		return err
	}
	dir := names.GroupPath(ns, g)
	for _, name := range []string{names.Notes, names.Owner} {
		if err := ignoreMissing(s.fs.Remove(dir + "/" + name)); err != nil {
			return err
		}
	}
	return s.removeIfEmpty(dir)
}

// removeIfEmpty removes a directory unless something is in it.
func (s *Store) removeIfEmpty(dir string) error {
	err := ignoreMissing(s.fs.Remove(dir))
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// ForgetGroup removes all snapshots of a group but the protected ones.
func (s *Store) ForgetGroup(ctx context.Context, ns names.Namespace, g names.Group) (res repo.ForgetGroupResult, err error) {
	err = s.withGroup(ns, g, func() error {
		snaps, err := s.times(ns, g)
		if err != nil {
			return err
		}
		for _, n := range snaps {
			err := s.forget(ctx, n, func() error { return nil })
			switch {
			case errors.Is(err, repo.ErrProtected):
				res.Protected++
			case err != nil:
				return fmt.Errorf("forget %s: %w", n, err)
			default:
				res.Removed++
			}
		}
		return s.removeEmptyGroup(ns, g)
	})
	return res, err
}

// CreateNamespace makes a namespace below one that exists.
func (s *Store) CreateNamespace(_ context.Context, ns names.Namespace) error {
	if err := ns.Check(); err != nil {
		return err
	}
	if ns.IsRoot() {
		return fmt.Errorf("create namespace: the root namespace: %w", repo.ErrExists)
	}
	if err := s.needNamespace(ns.Parent()); err != nil {
		return fmt.Errorf("create namespace %s: %w", ns, err)
	}
	if err := makeDir(s.fs, under(ns.Parent(), "ns"), dirPerm); err != nil {
		return fmt.Errorf("create namespace %s: %w", ns, err)
	}
	err := s.fs.Mkdir(ns.Path(), dirPerm)
	if errors.Is(err, fs.ErrExist) {
		err = repo.ErrExists
	}
	if err == nil {
		err = errors.Join(s.fs.SyncDir(under(ns.Parent(), "ns")), s.fs.SyncDir(dirOf(ns.Parent())))
	}
	if err != nil {
		return fmt.Errorf("create namespace %s: %w", ns, err)
	}
	return nil
}

func dirOf(ns names.Namespace) string {
	if ns.IsRoot() {
		return "."
	}
	return ns.Path()
}

// DeleteNamespace removes a namespace with those below it, deepest first.
func (s *Store) DeleteNamespace(ctx context.Context, ns names.Namespace, withGroups bool) error {
	if ns.IsRoot() {
		return errors.New("delete namespace: the root namespace cannot be deleted")
	}
	if err := s.needNamespace(ns); err != nil {
		return err
	}
	below, err := s.namespaces(ns)
	if err != nil {
		return err
	}
	all := append([]names.Namespace{ns}, below...)
	if !withGroups { // look at all before the first goes
		for _, n := range all {
			groups, err := s.groups(n)
			if err != nil {
				return err
			}
			if len(groups) > 0 {
				return fmt.Errorf("delete namespace %s: it holds %d backup groups, %s among them", n, len(groups), groups[0])
			}
		}
	}
	for _, n := range slices.Backward(all) {
		if err := s.deleteOne(ctx, n); err != nil {
			return fmt.Errorf("delete namespace %s: %w", n, err)
		}
	}
	return nil
}

func (s *Store) deleteOne(ctx context.Context, ns names.Namespace) error {
	groups, err := s.groups(ns)
	if err != nil {
		return err
	}
	for _, g := range groups {
		res, err := s.ForgetGroup(ctx, ns, g)
		if err != nil {
			return err
		}
		if res.Protected > 0 {
			return fmt.Errorf("%w: %d in %s", repo.ErrProtected, res.Protected, g)
		}
	}
	for _, name := range []string{string(names.CT), string(names.Host), string(names.VM), "ns"} {
		if err := s.removeIfEmpty(under(ns, name)); err != nil {
			return err
		}
	}
	return s.fs.Remove(ns.Path())
}
