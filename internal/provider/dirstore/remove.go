package dirstore

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Free implements [provider.Storage].
func (s *Store) Free(ctx context.Context, a provider.Archive) error {
	if err := s.find(a); err != nil {
		return err
	}
	failed, err := s.take(ctx, a.Guest.ID, []provider.Archive{a})
	if err != nil {
		return err
	}
	return failed[a]
}

// Prune implements [provider.Storage].
func (s *Store) Prune(ctx context.Context, p provider.PruneOptions) ([]provider.Pruned, error) {
	all, err := s.List(ctx, p.Guest)
	if err != nil {
		return nil, err
	}
	byGuest := map[provider.Guest][]provider.Entry{}
	var order []provider.Guest
	for _, e := range all {
		if p.Kind != "" && e.Guest.Kind != p.Kind {
			continue
		}
		if byGuest[e.Guest] == nil {
			order = append(order, e.Guest)
		}
		byGuest[e.Guest] = append(byGuest[e.Guest], e)
	}
	var verdicts []provider.Pruned
	for _, g := range order {
		some, err := s.pruneGuest(ctx, g, byGuest[g], p)
		if err != nil {
			return nil, err
		}
		verdicts = append(verdicts, some...)
	}
	return verdicts, nil
}

func (s *Store) pruneGuest(ctx context.Context, g provider.Guest, list []provider.Entry, p provider.PruneOptions) ([]provider.Pruned, error) {
	verdicts := decide(list, p.Keep)
	var victims []provider.Archive
	for _, v := range verdicts {
		if v.Mark == retention.Remove {
			victims = append(victims, v.Archive)
		}
	}
	if p.DryRun || len(victims) == 0 {
		return verdicts, nil
	}
	failed, err := s.take(ctx, g.ID, victims)
	if err == nil {
		s.clearLogs(g, verdicts)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for i := range verdicts {
		if v := &verdicts[i]; v.Mark == retention.Remove {
			if v.Err = failed[v.Archive]; v.Err == nil {
				v.Err = err
			}
			if errors.Is(v.Err, repo.ErrNotFound) {
				v.Err = nil // somebody else removed it
			}
		}
	}
	return verdicts, nil
}

// clearLogs removes logs of failed backups that are older than all that is kept.
func (s *Store) clearLogs(g provider.Guest, verdicts []provider.Pruned) {
	oldest := int64(-1)
	for _, v := range verdicts {
		if v.Mark != retention.Remove && (oldest < 0 || v.Start < oldest) {
			oldest = v.Start
		}
	}
	list, err := s.fs.ReadDir(guestDir(g.ID))
	for _, e := range list {
		name, failed := strings.CutSuffix(e.Name, failedSuffix)
		if a, ok := parseDir(g.ID, name); failed && ok && a.Guest == g && a.Start < oldest {
			err = errors.Join(err, s.clear(path.Join(guestDir(g.ID), e.Name)))
		}
	}
	if err != nil {
		s.o.Log.Warn("remove logs of failed backups", "guest", g.ID, "error", err)
	}
}

// decide is what a policy says of the backups of one guest.
func decide(list []provider.Entry, keep retention.Options) []provider.Pruned {
	snaps := make([]retention.Snapshot, len(list))
	for i, e := range list {
		snaps[i] = retention.Snapshot{Time: e.Start, Protected: e.Protected, Finished: true}
	}
	var marks []retention.Mark
	if !keep.IsZero() {
		marks = retention.Decide(snaps, keep, time.Local)
	}
	verdicts := make([]provider.Pruned, len(list))
	for i, e := range list {
		verdicts[i] = provider.Pruned{Archive: e.Archive, Mark: retention.Keep}
		switch {
		case marks != nil:
			verdicts[i].Mark = marks[i]
		case e.Protected:
			verdicts[i].Mark = retention.Protected
		}
	}
	return verdicts
}

// take removes archives of one guest number, and says of each why not.
func (s *Store) take(ctx context.Context, id int, victims []provider.Archive) (map[provider.Archive]error, error) {
	u, err := s.lock(id, chainByte, vfs.Exclusive)
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("backups of guest %d are being made, restored or removed; try again later: %w", id, err)
	}
	if err != nil {
		return nil, err
	}
	defer s.free(u)
	f, err := s.family(id)
	if err != nil {
		return nil, err
	}
	failed := map[provider.Archive]error{}
	for _, v := range victims {
		if err := s.unlist(ctx, f, v); err != nil {
			failed[v] = err
		}
	}
	if err := s.mergeAll(ctx, f); err != nil {
		return nil, err
	}
	for _, a := range f.unneeded() {
		if err := s.drop(a); err != nil && slices.Contains(victims, a) {
			failed[a] = err
		}
	}
	return failed, nil
}

// unlist lets a victim join those that are not listed: durably, if it stays for
// the sake of others.
func (s *Store) unlist(ctx context.Context, f *family, v provider.Archive) error {
	e, err := s.Entry(ctx, v)
	if err != nil {
		return err
	}
	if e.Protected {
		return fmt.Errorf("backup %s: %w", v.Name, repo.ErrProtected)
	}
	f.gone[v] = true
	if !slices.Contains(f.all, v) || slices.Contains(f.unneeded(), v) {
		return nil // it goes at once
	}
	if err := s.replace(dirOf(v), removedFile, nil); err != nil {
		delete(f.gone, v)
		return fmt.Errorf("backup %s cannot be removed, since %w, and it cannot be marked: %w", v.Name, provider.ErrNeeded, err)
	}
	return nil
}

// drop removes an archive that nobody needs: its name first, so that half of it
// is never listed.
func (s *Store) drop(a provider.Archive) error {
	gone := hidden(a, goneSuffix)
	if err := s.clear(gone); err != nil {
		return err
	}
	if err := s.fs.Rename(dirOf(a), gone); err != nil {
		return fmt.Errorf("remove backup %s: %w", a.Name, err)
	}
	if err := s.fs.SyncDir(guestDir(a.Guest.ID)); err != nil {
		return fmt.Errorf("remove backup %s: %w", a.Name, err)
	}
	if err := s.clear(gone); err != nil {
		s.o.Log.Warn("a backup is removed, and some of its files are not yet", "backup", a.Name, "error", err)
	}
	return nil
}

// reconcile removes what crashes left of a guest, as far as nobody works there.
func (s *Store) reconcile(id int) error {
	for _, what := range []struct {
		at    int64
		clear func(int) error
	}{{makingByte, s.clearDrafts}, {chainByte, s.clearRemoved}} {
		u, err := s.lock(id, what.at, vfs.Exclusive)
		if errors.Is(err, vfs.ErrLocked) {
			continue
		}
		if err != nil {
			return err
		}
		err = what.clear(id)
		s.free(u)
		if err != nil {
			return err
		}
	}
	return nil
}

// clearRemoved removes what interrupted removals and merges left, and what only
// they still needed.
func (s *Store) clearRemoved(id int) error {
	if err := s.clearHidden(id, goneSuffix); err != nil {
		return err
	}
	all, err := s.archives(id)
	if err != nil {
		return err
	}
	for _, a := range all {
		list, err := s.fs.ReadDir(dirOf(a))
		if err != nil {
			return err
		}
		for _, f := range list {
			if strings.HasPrefix(f.Name, ".") && strings.HasSuffix(f.Name, mergedSuffix) {
				if err := s.remove(path.Join(dirOf(a), f.Name)); err != nil {
					return err
				}
			}
		}
	}
	f, err := s.family(id)
	if err != nil {
		return err
	}
	for _, a := range f.unneeded() {
		if err := s.drop(a); err != nil {
			return err
		}
	}
	return nil
}

// clearHidden removes the directories of a guest that have a dot and a suffix.
func (s *Store) clearHidden(id int, suffix string) error {
	list, err := s.fs.ReadDir(guestDir(id))
	if err != nil {
		return err
	}
	for _, e := range list {
		name, hidden := strings.CutPrefix(e.Name, ".")
		name, ok := strings.CutSuffix(name, suffix)
		if _, is := parseDir(id, name); !hidden || !ok || !is || !e.IsDir() {
			continue
		}
		if err := s.clear(path.Join(guestDir(id), e.Name)); err != nil {
			return err
		}
	}
	return nil
}
