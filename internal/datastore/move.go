package datastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// MoveGroup moves a group into another namespace. If the group is there already
// its snapshots join it, if merge allows that, both are of one owner, and the
// group that moves begins after the other one ends.
//
// Each snapshot moves in one step, the oldest first, so that after an interrupted
// move a repeated one goes on. What unfinished backups have left is removed. Nobody reads or writes the group meanwhile, and no
// collection runs: it might look for a snapshot in both places and miss it in
// both.
func (s *Store) MoveGroup(ctx context.Context, from names.Namespace, g names.Group, to names.Namespace, merge bool) error {
	m, err := s.beginMove()
	if err == nil {
		err = errors.Join(m.group(ctx, from, g, to, merge), m.lock.Unlock())
	}
	if err != nil {
		return fmt.Errorf("move %s: %w", g, err)
	}
	return nil
}

// MoveNamespace moves the groups of a namespace and of those below it, down to
// opt.Depth, to where opt.To says, which is made if only its last part is missing.
// What cannot be moved stays and is in the error; all else moves.
func (s *Store) MoveNamespace(ctx context.Context, from names.Namespace, opt repo.MoveNamespaceOptions) error {
	m, err := s.beginMove()
	if err == nil {
		err = errors.Join(m.namespace(ctx, from, opt), m.lock.Unlock())
	}
	if err != nil {
		return fmt.Errorf("move namespace %s: %w", from, err)
	}
	return nil
}

// move is a move in progress.
type move struct {
	store *Store
	lock  vfs.Unlocker
}

func (s *Store) beginMove() (*move, error) {
	u, err := s.lockForGC()
	if errors.Is(err, vfs.ErrLocked) {
		err = fmt.Errorf("a garbage collection or another move runs, or the backup server is writing: %w", vfs.ErrLocked)
	}
	return &move{s, u}, err
}

func (m *move) group(ctx context.Context, from names.Namespace, g names.Group, to names.Namespace, merge bool) (err error) {
	s := m.store
	if from == to {
		return fmt.Errorf("it is in %s already", place(to))
	}
	if err := s.needNamespace(to); err != nil {
		return err
	}
	source, err := s.lockGroup(from, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Unlock()) }()
	if err := s.needGroup(from, g); err != nil {
		return err
	}
	target, err := s.lockGroup(to, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Unlock()) }()
	if err := m.makeTarget(from, g, to, merge); err != nil {
		return err
	}
	snaps, err := s.times(from, g)
	if err != nil {
		return err
	}
	for _, n := range snaps {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := m.snapshot(ctx, n, to); err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	if err := m.notes(from, g, to); err != nil {
		return err
	}
	return s.removeEmptyGroup(from, g)
}

// makeTarget makes the group in the other namespace, or makes sure that the
// snapshots may join it. A group without a snapshot is what an interrupted move
// has left.
func (m *move) makeTarget(from names.Namespace, g names.Group, to names.Namespace, merge bool) error {
	s := m.store
	owner, err := s.owner(from, g)
	if err != nil {
		return err
	}
	snaps, err := s.finishedTimes(from, g)
	if err != nil {
		return err
	}
	there, err := s.finishedTimes(to, g)
	if err != nil {
		return err
	}
	if len(there) == 0 {
		if owner == "" {
			owner = DefaultOwner
		}
		parent := under(to, string(g.Type))
		for _, dir := range []string{parent, names.GroupPath(to, g)} {
			if err := makeDir(s.fs, dir, dirPerm); err != nil {
				return err
			}
		}
		if err := s.writeOwner(to, g, owner); err != nil {
			return err
		}
		return errors.Join(s.fs.SyncDir(parent), s.fs.SyncDir(dirOf(to)))
	}
	other, err := s.owner(to, g)
	switch {
	case err != nil:
		return err
	case !merge:
		return fmt.Errorf("%s has a group of this name: %w", place(to), repo.ErrExists)
	case other != owner:
		return fmt.Errorf("it belongs to %q here and to %q in %s: %w", owner, other, place(to), repo.ErrOwner)
	case len(snaps) > 0 && snaps[0].Time <= there[len(there)-1].Time:
		return fmt.Errorf("%s is not newer than all snapshots of the group in %s: %w", snaps[0], place(to), repo.ErrExists)
	}
	return nil
}

// snapshot moves one snapshot, and removes it if it is none. The caller has the
// locks of both groups, so no backup is at work in them.
func (m *move) snapshot(ctx context.Context, n names.Snapshot, to names.Namespace) (err error) {
	s := m.store
	u, err := s.lockSnapshot(n, lockExclusive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.Unlock()) }()
	mu, err := s.lockManifest(ctx, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mu.Unlock()) }()
	done, err := exists(s.fs, n.Path()+"/"+manifestName)
	if err != nil {
		return err
	}
	if !done {
		return s.removeDir(n.Path())
	}
	moved := n
	moved.NS = to
	if done, err = exists(s.fs, moved.Path()+"/"+manifestName); err != nil {
		return err
	}
	if done {
		return repo.ErrExists
	}
	if err := s.removeDir(moved.Path()); err != nil {
		return err
	}
	if err := s.fs.Rename(n.Path(), moved.Path()); err != nil {
		return err
	}
	return errors.Join(s.fs.SyncDir(moved.GroupPath()), s.fs.SyncDir(n.GroupPath()))
}

// notes moves the group's notes, unless there are others already.
func (m *move) notes(from names.Namespace, g names.Group, to names.Namespace) error {
	s := m.store
	has, err := s.groupNotes(to, g)
	if err != nil || has != "" {
		return err
	}
	dir := names.GroupPath(to, g)
	err = s.fs.Rename(names.GroupPath(from, g)+"/"+names.Notes, dir+"/"+names.Notes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.fs.SyncDir(dir)
}

// namespace moves what is in a namespace.
func (m *move) namespace(ctx context.Context, from names.Namespace, opt repo.MoveNamespaceOptions) error {
	all, err := m.targets(from, opt)
	if err != nil {
		return err
	}
	var failed []error
	for _, p := range all {
		groups, err := m.store.groups(p.from)
		if err != nil {
			return err
		}
		if err := m.store.needNamespace(p.to); errors.Is(err, repo.ErrNotFound) {
			if err := m.store.CreateNamespace(ctx, p.to); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		for _, g := range groups {
			if err := m.group(ctx, p.from, g, p.to, opt.Merge); err != nil {
				failed = append(failed, fmt.Errorf("%s in %s: %w", g, place(p.from), err))
			}
			if err := context.Cause(ctx); err != nil {
				return err
			}
		}
	}
	if !opt.KeepSource {
		for i := len(all) - 1; i >= 0; i-- {
			if err := m.store.removeEmptyNamespace(all[i].from); err != nil {
				return err
			}
		}
	}
	return errors.Join(failed...)
}

// pair is a namespace and where its content goes.
type pair struct{ from, to names.Namespace }

// targets says where each namespace goes, those above before those below. All
// are checked before anything moves.
func (m *move) targets(from names.Namespace, opt repo.MoveNamespaceOptions) ([]pair, error) {
	s, to := m.store, opt.To
	switch {
	case from.IsRoot():
		return nil, errors.New("the root namespace cannot be moved")
	case from == to:
		return nil, errors.New("it is there already")
	case from.Contains(to):
		return nil, fmt.Errorf("%s is inside of it", to)
	}
	if err := s.needNamespace(from); err != nil {
		return nil, err
	}
	if !to.IsRoot() {
		if err := s.needNamespace(to.Parent()); err != nil {
			return nil, err
		}
	}
	below, err := s.namespaces(from)
	if err != nil {
		return nil, err
	}
	all := []pair{{from, to}}
	for _, n := range below {
		if opt.Depth >= 0 && n.Depth()-from.Depth() > opt.Depth {
			continue
		}
		moved, err := n.Moved(from, to)
		if err != nil {
			return nil, err
		}
		all = append(all, pair{n, moved})
	}
	return all, nil
}

// removeEmptyNamespace removes a namespace unless something is in it.
func (s *Store) removeEmptyNamespace(ns names.Namespace) error {
	for _, name := range []string{string(names.CT), string(names.Host), string(names.VM), "ns"} {
		if err := s.removeIfEmpty(under(ns, name)); err != nil {
			return err
		}
	}
	return s.removeIfEmpty(ns.Path())
}

func place(ns names.Namespace) string {
	if ns.IsRoot() {
		return "the root namespace"
	}
	return "namespace " + ns.String()
}
