package datastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// listers is how many manifests are read at once: a cold listing waits for the
// disk, not for the processor.
const listers = 32

var backupTypes = []names.BackupType{names.CT, names.Host, names.VM}

// Namespaces returns the namespaces below parent, at every depth, sorted.
func (s *Store) Namespaces(_ context.Context, parent names.Namespace) ([]names.Namespace, error) {
	if err := s.needNamespace(parent); err != nil {
		return nil, err
	}
	return s.namespaces(parent)
}

func (s *Store) namespaces(parent names.Namespace) ([]names.Namespace, error) {
	entries, err := s.fs.ReadDir(under(parent, "ns"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var all []names.Namespace
	for _, e := range entries {
		ns, err := parent.Child(e.Name)
		if err != nil || !e.IsDir() {
			continue // no namespace of ours
		}
		below, err := s.namespaces(ns)
		if err != nil {
			return nil, err
		}
		all = append(append(all, ns), below...)
	}
	return all, nil
}

// needNamespace fails with repo.ErrNotFound unless ns exists.
func (s *Store) needNamespace(ns names.Namespace) error {
	if err := ns.Check(); err != nil {
		return err
	}
	if ns.IsRoot() {
		return nil
	}
	info, err := s.fs.Lstat(ns.Path())
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode.IsDir() {
		return fmt.Errorf("namespace %s: %w", ns, repo.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("namespace %s: %w", ns, err)
	}
	return nil
}

// under is the path of name inside a namespace.
func under(ns names.Namespace, name string) string {
	if ns.IsRoot() {
		return name
	}
	return ns.Path() + "/" + name
}

// groups lists the groups of one namespace, in the order of listings.
func (s *Store) groups(ns names.Namespace) ([]names.Group, error) {
	var all []names.Group
	for _, t := range backupTypes {
		entries, err := s.fs.ReadDir(under(ns, string(t)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list groups: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() && names.IsSafeID(e.Name) {
				all = append(all, names.Group{Type: t, ID: e.Name})
			}
		}
	}
	slices.SortFunc(all, names.Group.Compare)
	return all, nil
}

// times lists the snapshots of a group, oldest first; no group, no snapshots.
func (s *Store) times(ns names.Namespace, g names.Group) ([]names.Snapshot, error) {
	entries, err := s.fs.ReadDir(names.GroupPath(ns, g))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list snapshots of %s: %w", g, err)
	}
	var all []names.Snapshot
	for _, e := range entries {
		t, err := names.ParseTime(e.Name)
		if err != nil || !e.IsDir() {
			continue
		}
		all = append(all, names.Snapshot{NS: ns, Group: g, Time: t})
	}
	slices.SortFunc(all, names.Snapshot.Compare)
	return all, nil
}

// finished reports whether a snapshot has its manifest.
func (s *Store) finished(n names.Snapshot) (bool, error) {
	return exists(s.fs, n.Path()+"/"+manifestName)
}

// finishedTimes lists the finished snapshots of a group, oldest first.
func (s *Store) finishedTimes(ns names.Namespace, g names.Group) (all []names.Snapshot, err error) {
	snaps, err := s.times(ns, g)
	if err != nil {
		return nil, err
	}
	for _, n := range snaps {
		done, err := s.finished(n)
		if err != nil {
			return nil, err
		}
		if done {
			all = append(all, n)
		}
	}
	return all, nil
}

// Groups describes the groups of a namespace.
func (s *Store) Groups(ctx context.Context, ns names.Namespace) ([]repo.GroupInfo, error) {
	if err := s.needNamespace(ns); err != nil {
		return nil, err
	}
	list, err := s.groups(ns)
	if err != nil {
		return nil, err
	}
	infos := make([]repo.GroupInfo, len(list))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(listers)
	for i, g := range list {
		eg.Go(func() error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			var err error
			infos[i], err = s.groupInfo(ns, g)
			return err
		})
	}
	return infos, eg.Wait()
}

func (s *Store) groupInfo(ns names.Namespace, g names.Group) (repo.GroupInfo, error) {
	info := repo.GroupInfo{Namespace: ns, Group: g}
	var err error
	if info.Owner, err = s.owner(ns, g); err != nil {
		return info, err
	}
	notes, err := s.groupNotes(ns, g)
	if err != nil {
		return info, err
	}
	info.Comment, _, _ = strings.Cut(notes, "\n")
	snaps, err := s.times(ns, g)
	if err != nil {
		return info, err
	}
	var newest names.Snapshot
	for _, n := range snaps {
		done, err := s.finished(n)
		if err != nil {
			return info, err
		}
		if !done {
			continue
		}
		info.Count++
		newest = n
	}
	if info.Count == 0 {
		return info, nil
	}
	info.LastBackup = time.Unix(newest.Time, 0).UTC()
	info.Files, err = s.archiveNames(newest)
	return info, err
}

// archiveNames lists the archives in a snapshot's directory.
func (s *Store) archiveNames(n names.Snapshot) ([]string, error) {
	entries, err := s.fs.ReadDir(n.Path())
	if err != nil {
		return nil, ignoreMissing(err)
	}
	var files []string
	for _, e := range entries {
		if _, err := names.ParseArchive(e.Name); err == nil && e.IsRegular() {
			files = append(files, e.Name)
		}
	}
	return files, nil
}

// Snapshots describes the snapshots of a group, or of a whole namespace.
func (s *Store) Snapshots(ctx context.Context, ns names.Namespace, group *names.Group) ([]repo.SnapshotInfo, error) {
	if err := s.needNamespace(ns); err != nil {
		return nil, err
	}
	var groups []names.Group
	if group != nil {
		there, err := exists(s.fs, names.GroupPath(ns, *group))
		if err != nil {
			return nil, err
		}
		if !there {
			return nil, fmt.Errorf("backup group %s: %w", *group, repo.ErrNotFound)
		}
		groups = []names.Group{*group}
	} else {
		var err error
		if groups, err = s.groups(ns); err != nil {
			return nil, err
		}
	}
	var infos []repo.SnapshotInfo
	for _, g := range groups {
		snaps, err := s.times(ns, g)
		if err != nil {
			return nil, err
		}
		owner, err := s.owner(ns, g)
		if err != nil {
			return nil, err
		}
		for _, n := range snaps {
			infos = append(infos, repo.SnapshotInfo{Snapshot: n, Owner: owner})
		}
	}
	return s.describe(ctx, infos)
}

// describe fills in what the manifests say and drops what vanished meanwhile.
func (s *Store) describe(ctx context.Context, infos []repo.SnapshotInfo) ([]repo.SnapshotInfo, error) {
	gone := make([]bool, len(infos))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(max(1, min(listers, len(infos)/2))) // a few are read faster than goroutines start
	for i := range infos {
		eg.Go(func() error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			err := s.describeOne(&infos[i])
			if errors.Is(err, fs.ErrNotExist) {
				gone[i] = true
				return nil
			}
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	kept := infos[:0]
	for i, info := range infos {
		if !gone[i] {
			kept = append(kept, info)
		}
	}
	return kept, nil
}

func (s *Store) describeOne(info *repo.SnapshotInfo) error {
	dir := info.Snapshot.Path()
	m, err := s.loadManifest(info.Snapshot)
	switch {
	case errors.Is(err, repo.ErrNotFound): // unfinished, or gone
		if _, err := s.fs.Lstat(dir); err != nil {
			return err
		}
	case err != nil:
		info.Finished, info.Problem = true, err
	default:
		info.Describe(m)
	}
	info.Protected, err = exists(s.fs, dir+"/"+names.Protected)
	return err
}
