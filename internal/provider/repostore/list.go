package repostore

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// List lists the snapshots of guests.
func (s *Store) List(ctx context.Context, g *provider.Guest) ([]provider.Entry, error) {
	var list []repo.SnapshotInfo
	var err error
	if g != nil {
		list, err = s.group(ctx, *g)
	} else {
		list, err = s.r.Snapshots(ctx, s.o.NS, nil)
		list = finished(list)
	}
	if err != nil {
		return nil, err
	}
	entries := make([]provider.Entry, 0, len(list))
	for _, i := range list {
		if a, ok := archiveOf(i.Snapshot); ok {
			entries = append(entries, entry(a, i))
		}
	}
	return entries, nil
}

func entry(a provider.Archive, i repo.SnapshotInfo) provider.Entry {
	e := provider.Entry{Archive: a, Size: i.Size, Format: "pbs-" + string(i.Snapshot.Type), Notes: i.Notes, Protected: i.Protected}
	for _, f := range i.Files {
		if f.CryptMode == manifest.ModeEncrypt {
			if e.Encrypted = i.Fingerprint; e.Encrypted == "" {
				e.Encrypted = "1" // with a key that nobody noted
			}
		}
	}
	if i.Verify != nil {
		e.Verified, e.Verifier = i.Verify.State, i.Verify.UPID
	}
	return e
}

// Entry describes one snapshot.
func (s *Store) Entry(ctx context.Context, a provider.Archive) (provider.Entry, error) {
	list, err := s.group(ctx, a.Guest)
	if err != nil {
		return provider.Entry{}, err
	}
	for _, i := range list {
		if i.Snapshot.Time == a.Start {
			return entry(a, i), nil
		}
	}
	return provider.Entry{}, fmt.Errorf("snapshot %s: %w", a.Name, repo.ErrNotFound)
}

// SetNotes replaces the notes of a snapshot.
func (s *Store) SetNotes(ctx context.Context, a provider.Archive, text string) error {
	return s.r.SetNotes(ctx, s.snapshot(a), text)
}

// SetProtected protects a snapshot from being removed, or no longer.
func (s *Store) SetProtected(ctx context.Context, a provider.Archive, protected bool) error {
	return s.r.SetProtected(ctx, s.snapshot(a), protected)
}

// Free removes a snapshot; no other one needs it.
func (s *Store) Free(ctx context.Context, a provider.Archive) error {
	return s.r.Forget(ctx, s.snapshot(a))
}

// Prune prunes group by group: there may be others in the namespace.
func (s *Store) Prune(ctx context.Context, p provider.PruneOptions) ([]provider.Pruned, error) {
	groups, err := s.groups(ctx, p)
	if err != nil {
		return nil, err
	}
	var all []provider.Pruned
	for _, g := range groups {
		list, err := s.r.Prune(ctx, repo.PruneOptions{Namespace: s.o.NS, Group: &g, Keep: p.Keep, DryRun: p.DryRun, Location: s.o.Location})
		if errors.Is(err, repo.ErrNotFound) {
			continue
		}
		if err != nil {
			return all, err
		}
		for _, r := range list {
			a, ok := archiveOf(r.Snapshot)
			if ok && r.Mark != retention.KeepPartial {
				all = append(all, provider.Pruned{Archive: a, Mark: r.Mark, Err: r.Err})
			}
		}
	}
	return all, nil
}

func (s *Store) groups(ctx context.Context, p provider.PruneOptions) ([]names.Group, error) {
	if p.Guest != nil {
		return []names.Group{groupOf(*p.Guest)}, nil
	}
	list, err := s.r.Groups(ctx, s.o.NS)
	if err != nil {
		return nil, err
	}
	var groups []names.Group
	for _, i := range list {
		a, ok := archiveOf(names.Snapshot{Group: i.Group})
		if ok && (p.Kind == "" || p.Kind == a.Guest.Kind) {
			groups = append(groups, i.Group)
		}
	}
	return groups, nil
}

// Usage is that of the file system that the repository is on.
func (s *Store) Usage(ctx context.Context) (provider.Usage, error) {
	u, err := s.r.Usage(ctx)
	return provider.Usage{Total: int64(u.Total), Free: int64(u.Available), Used: int64(u.Used)}, err
}

// Identity is unknown: a repository has no name of its own.
func (*Store) Identity(context.Context) (string, error) { return "", nil }
