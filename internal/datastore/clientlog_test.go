package datastore_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// logged makes a store with two snapshots of a guest, the older with a log.
func logged(t *testing.T) (w *world, tt *tester, older names.Snapshot) {
	t.Helper()
	tt = newTester(t)
	w = newWorld(newDisk(t))
	s := mustOpen(t, w.disk)
	rng := rand.New(rand.NewPCG(1, 1))
	older = snapshotAt("100", w.disk.Now())
	for range 2 {
		if err := beginBackup(tt, w, rng)(s); err != nil {
			t.Fatal(err)
		}
		w.disk.Advance(1000 * time.Second)
	}
	if err := tt.putLog(t.Context(), s, older, "backup: done"); err != nil {
		t.Fatal(err)
	}
	w.mustLog[older] = "backup: done"
	return w, tt, older
}

func TestLogIsStoredOnceAndReadBack(t *testing.T) {
	w, tt, older := logged(t)
	s := mustOpen(t, w.disk)
	if err := tt.putLog(t.Context(), s, older, "another"); !errors.Is(err, repo.ErrExists) {
		t.Fatalf("a second log: %v", err)
	}
	if text, err := tt.readLog(t.Context(), s, older); err != nil || text != "backup: done" {
		t.Fatalf("%q, %v", text, err)
	}
	infos, err := s.Snapshots(t.Context(), names.Root, &older.Group)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		if len(info.Files) != 3 {
			t.Errorf("%s lists %d archives: the manifest is not to know of the log", info.Snapshot, len(info.Files))
		}
		if _, err := tt.readLog(t.Context(), s, info.Snapshot); info.Snapshot != older && !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("the log of %s, which has none: %v", info.Snapshot, err)
		}
	}
}

func TestLogNeedsAFinishedSnapshotAndSoundBytes(t *testing.T) {
	w, tt, older := logged(t)
	s := mustOpen(t, w.disk)
	running := snapshotAt("200", w.disk.Now())
	ses, err := s.Begin(t.Context(), repo.Begin{Snapshot: running})
	if err != nil {
		t.Fatal(err)
	}
	if err := tt.putLog(t.Context(), s, running, "x"); !errors.Is(err, repo.ErrLocked) {
		t.Errorf("log of a running backup: %v", err)
	}
	if err := ses.Abort(); err != nil {
		t.Fatal(err)
	}
	if err := w.disk.Mkdir(running.GroupPath(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := w.disk.Mkdir(running.Path(), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range []names.Snapshot{running, snapshotAt("300", w.disk.Now())} {
		if err := tt.putLog(t.Context(), s, n, "x"); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("log of %s: %v", n, err)
		}
	}
	newer := older
	newer.Time += 1000
	if err := s.PutLog(t.Context(), newer, []byte("no blob at all")); err == nil || errors.Is(err, repo.ErrNotFound) {
		t.Errorf("bytes that are no blob: %v", err)
	}
}

func TestLogGoesWithItsSnapshotAndIsInNobodysWay(t *testing.T) {
	w, tt, older := logged(t)
	s := mustOpen(t, w.disk)
	rep, err := s.Verify(t.Context(), repo.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range rep.Snapshots {
		if len(v.Errors) > 0 {
			t.Fatal(v.Errors)
		}
	}
	if err := collect(s); err != nil {
		t.Fatal(err)
	}
	if _, err := tt.checkSnapshots(s, w); err != nil {
		t.Fatal(err)
	}
	results, err := s.Prune(t.Context(), repo.PruneOptions{Group: &older.Group, Keep: retention.Options{Last: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if _, err := w.disk.Lstat(older.Path()); err == nil {
		t.Fatalf("%s is left of a pruned snapshot with a log", older.Path())
	}
	delete(w.must, older)
	if _, err := tt.checkSnapshots(s, w); err != nil {
		t.Fatal(err)
	}
}
