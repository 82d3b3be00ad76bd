package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/remote"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

const (
	togetherGroups = 16
	togetherRounds = 4
)

// disk is the image of a group in a round: a chunk that all groups have in that
// round, one of its own, and a short one that changes.
func disk(group, round int) []byte {
	shared := bytes.Repeat(fmt.Appendf(nil, "shared %08d\n", round%3), 4<<20/16)[:4<<20]
	own := bytes.Repeat(fmt.Appendf(nil, "group %09d\n", group), 4<<20/16)[:4<<20]
	return slices.Concat(shared, own, fmt.Appendf(nil, "group %d round %d", group, round))
}

// removals are the snapshots that somebody was told are gone.
type removals struct {
	mu   sync.Mutex
	gone map[names.Snapshot]bool
}

func (r *removals) add(s names.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone[s] = true
}

// Sixteen clients back up to groups of their own, into a datastore full of
// chunks that are old enough to be collected, while others collect, prune,
// forget and verify. Nothing of that fails, and what a client was told is saved
// comes back unless somebody was told that it is removed.
func TestBackupsAndMaintenanceGoTogether(t *testing.T) {
	s := newSite(t).start()
	at := func(group, round int) names.Snapshot {
		return snapshot("", fmt.Sprintf("vm/%d", 100+group), day1+3600*int64(round))
	}
	run := func(r repo.Repository, group, round int) error {
		_, err := backup.Run(t.Context(), r, backup.Job{
			Snapshot: at(group, round),
			Sources:  []backup.Source{{Name: "disk.img.fidx", Image: picture{bytes.NewReader(disk(group, round))}}},
			Options:  backup.Options{Workers: 1},
		})
		return err
	}
	first := s.remote("admin@pbs", password)
	for g := range togetherGroups {
		s.ok(run(first, g, 0))
	}
	s.ageChunks("tank", 48*time.Hour)

	gone := removals{gone: map[names.Snapshot]bool{}}
	over := make(chan struct{})
	var clients, others sync.WaitGroup
	for g := range togetherGroups {
		r := s.remote("admin@pbs", password)
		clients.Go(func() {
			for round := 1; round <= togetherRounds; round++ {
				if err := run(r, g, round); err != nil {
					t.Errorf("backup %s: %v", at(g, round), err)
				}
			}
		})
	}
	for name, work := range map[string]func(r *remote.Repository) error{
		"gc":     func(r *remote.Repository) error { _, err := r.GC(t.Context(), repo.GCOptions{}); return err },
		"verify": func(r *remote.Repository) error { return verified(t, r) },
		"prune":  func(r *remote.Repository) error { return pruned(t, r, &gone) },
		"forget": func(r *remote.Repository) error { return forgotten(t, r, &gone) },
	} {
		r := s.remote("admin@pbs", password)
		others.Go(func() {
			for last := false; ; {
				if err := work(r); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if last {
					return
				}
				select {
				case <-over:
					last = true // once more on what is there now
				default:
				}
			}
		})
	}
	clients.Wait()
	close(over)
	others.Wait()

	for g := range togetherGroups {
		for round := range togetherRounds + 1 {
			if n := at(g, round); !gone.gone[n] {
				wantDisk(t, first, n, disk(g, round))
			}
		}
		if n := at(g, togetherRounds); gone.gone[n] {
			t.Errorf("%s, the newest of its group, was removed", n)
		}
	}
	if len(gone.gone) < togetherGroups {
		t.Errorf("only %d snapshots were removed: nothing happened meanwhile", len(gone.gone))
	}
}

// ageChunks makes all chunks look as if nobody had used them for a while.
func (s *site) ageChunks(store string, age time.Duration) {
	s.t.Helper()
	then := time.Now().Add(-age)
	s.ok(filepath.WalkDir(filepath.Join(s.path(store), ".chunks"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || len(e.Name()) < 64 {
			return err
		}
		return os.Chtimes(path, then, then)
	}))
}

// verified verifies everything and fails on what was found.
func verified(t *testing.T, r *remote.Repository) error {
	rep, err := r.Verify(t.Context(), repo.VerifyOptions{})
	for _, v := range rep.Snapshots {
		if len(v.Errors) > 0 {
			err = errors.Join(err, fmt.Errorf("%s: %w", v.Snapshot, errors.Join(v.Errors...)))
		}
	}
	return err
}

// pruned keeps the last two of each group. A group that is written to may be
// left as it is.
func pruned(t *testing.T, r *remote.Repository, gone *removals) error {
	list, err := r.Prune(t.Context(), repo.PruneOptions{Keep: retention.Options{Last: 2}})
	for _, p := range list {
		if p.Mark == retention.Remove && p.Err == nil {
			gone.add(p.Snapshot)
		}
	}
	return err
}

// forgotten removes the oldest snapshot of each group that has another one. That
// it is gone already is a reason, and so is that a backup builds on it.
func forgotten(t *testing.T, r *remote.Repository, gone *removals) error {
	list, err := r.Snapshots(t.Context(), names.Root, nil)
	for i, info := range list {
		if i+1 == len(list) || list[i+1].Snapshot.Group != info.Snapshot.Group || i > 0 && list[i-1].Snapshot.Group == info.Snapshot.Group {
			continue
		}
		switch ferr := r.Forget(t.Context(), info.Snapshot); {
		case ferr == nil:
			gone.add(info.Snapshot)
		case errors.Is(ferr, repo.ErrNotFound), errors.Is(ferr, repo.ErrLocked):
		default:
			err = errors.Join(err, fmt.Errorf("%s: %w", info.Snapshot, ferr))
		}
	}
	return err
}

// wantDisk reads an image back.
func wantDisk(t *testing.T, r repo.Repository, n names.Snapshot, want []byte) {
	t.Helper()
	snap, err := r.Open(t.Context(), n)
	if err != nil {
		t.Errorf("%s was saved: %v", n, err)
		return
	}
	defer snap.Close()
	x, err := archive.Open(t.Context(), snap, "disk.img.fidx", nil, archive.Options{})
	if err != nil {
		t.Errorf("%s: %v", n, err)
		return
	}
	defer x.Close()
	got, err := io.ReadAll(io.NewSectionReader(x, 0, x.Size()))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, want %d; %v", n, len(got), len(want), err)
	}
}
