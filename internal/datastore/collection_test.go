package datastore_test

import (
	"encoding/json"
	"errors"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// The situations of the golden decisions, one chunk each, made to happen.
func TestCollectionDecidesAsTheGoldenDecisions(t *testing.T) {
	b, err := os.ReadFile("sweep/testdata/gc.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Cutoff    int64 `json:"default-cutoff-seconds"`
		Decisions []struct {
			Name          string
			Atime         int64
			Start         int64  `json:"gc-start"`
			Oldest        int64  `json:"oldest-writer"`
			CutoffSeconds *int64 `json:"cutoff-seconds"`
			Result        string `json:"result-4"`
		}
	}
	if err := json.Unmarshal(b, &golden); err != nil || len(golden.Decisions) == 0 {
		t.Fatal(err)
	}
	for _, g := range golden.Decisions {
		t.Run(g.Name, func(t *testing.T) {
			atime := min(g.Atime, g.Start) // nothing happens after the collection
			d := simdisk.New(simdisk.Options{Start: time.Unix(min(atime, g.Oldest)-10, 0)})
			if err := datastore.Create(t.Context(), d, datastore.CreateOptions{Lazy: true}); err != nil {
				t.Fatal(err)
			}
			s := mustOpen(t, d)
			at := func(when int64) { d.Advance(time.Unix(when, 0).Sub(d.Now())) }
			chunk := func() {
				ses := begin(t, s, snapshotAt("1", d.Now()))
				if _, err := ses.Put(t.Context(), digest.Of([]byte("x")), 1, encoded(t, []byte("x"), nil, false)); err != nil {
					t.Fatal(err)
				}
				if err := ses.Abort(); err != nil {
					t.Fatal(err)
				}
			}
			var writer repo.Session
			if atime < g.Oldest {
				at(atime)
				chunk()
			}
			if g.Oldest < g.Start {
				at(g.Oldest)
				writer = begin(t, s, snapshotAt("2", d.Now()))
			}
			if atime >= g.Oldest {
				at(atime)
				chunk()
			}
			at(g.Start)
			cutoff := golden.Cutoff
			if g.CutoffSeconds != nil {
				cutoff = *g.CutoffSeconds
			}
			st, err := s.GC(t.Context(), repo.GCOptions{Cutoff: time.Duration(cutoff) * time.Second, SkipAtimeCheck: true})
			if err != nil {
				t.Fatal(err)
			}
			want := map[string][3]int64{"keep": {1, 0, 0}, "pending": {0, 1, 0}, "remove": {0, 0, 1}}[g.Result]
			if got := [3]int64{st.DiskChunks, st.PendingChunks, st.RemovedChunks}; got != want {
				t.Errorf("in use, pending, removed: %v, want %v", got, want)
			}
			if st.DiskBytes+st.PendingBytes+st.RemovedBytes != 13 {
				t.Errorf("%+v", st)
			}
			if writer != nil {
				if err := writer.Abort(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestStatusOfTheCollectionHasTheKeysOfPBS(t *testing.T) {
	r := newRace(t)
	s := r.plain()
	if err := collect(s); err != nil {
		t.Fatal(err)
	}
	b, err := r.w.disk.Content(".gc-status")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"upid":"UPID:localhost:UPID","index-file-count":3,"index-data-bytes":9016,"disk-bytes":7180,"disk-chunks":7,` +
		`"removed-bytes":3108,"removed-chunks":3,"pending-bytes":0,"pending-chunks":0,"removed-bad":0,"still-bad":0}`
	var got, expected map[string]any
	if err := errors.Join(json.Unmarshal(b, &got), json.Unmarshal([]byte(want), &expected)); err != nil {
		t.Fatal(err)
	}
	for key, v := range expected {
		g, ok := got[key]
		if !ok {
			t.Errorf("no %s", key)
		}
		if _, number := v.(float64); number {
			if _, number := g.(float64); !number {
				t.Errorf("%s is %v, want a number", key, g)
			}
		}
	}
	if len(got) != len(expected) {
		t.Errorf("%d keys, want %d: %s", len(got), len(expected), b)
	}
	if upid, _ := got["upid"].(string); !strings.HasPrefix(upid, "UPID:localhost:") || !strings.Contains(upid, ":garbage_collection:") {
		t.Errorf("upid %q", upid)
	}
	st, err := s.LastGC(t.Context())
	if err != nil || st.IndexFiles != 6 || st.RemovedChunks != 5 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := r.w.disk.Corrupt(".gc-status", func([]byte) []byte { return []byte("rubbish") }); err != nil {
		t.Fatal(err)
	}
	if st, err := s.LastGC(t.Context()); err != nil || st.IndexFiles != 0 {
		t.Errorf("unreadable state: %+v, %v", st, err)
	}
}

// forgetful is a file system that accepts touches and keeps none.
type forgetful struct{ vfs.FS }

func (f forgetful) Touch(name string) error {
	_, err := f.Lstat(name)
	return err
}

func TestCollectionRefusesAFileSystemThatDropsAccessTimes(t *testing.T) {
	r := newRace(t)
	s, err := open(forgetful{r.w.disk}, r.w.disk)
	if err != nil {
		t.Fatal(err)
	}
	before := count(r.w.disk, ".chunks/")
	_, err = s.GC(t.Context(), repo.GCOptions{})
	if err == nil || !strings.Contains(err.Error(), "does not keep access times") {
		t.Fatalf("err = %v", err)
	}
	if after := count(r.w.disk, ".chunks/"); after != before+1 { // the zero chunk that it tried with
		t.Errorf("%d chunks before, %d after", before, after)
	}
	if _, err := r.plain().GC(t.Context(), repo.GCOptions{}); err != nil {
		t.Errorf("with access times: %v", err)
	}
	r.finish()
}

func TestDamagedChunksStayAsLongAsTheyAreAllThereIs(t *testing.T) {
	r := newRace(t)
	d := digest.Of(r.w.must[r.cast.base].Image[:contract.ChunkSize])
	s := r.plain()
	damage := func() {
		if err := r.w.disk.Corrupt(names.ChunkPath(d), func(b []byte) []byte { b[50] ^= 1; return b }); err != nil {
			t.Fatal(err)
		}
		rep, err := s.Verify(t.Context(), repo.VerifyOptions{Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		bad := 0
		for _, v := range rep.Snapshots {
			bad += len(v.Errors)
		}
		if bad == 0 {
			t.Fatal("verify noticed nothing")
		}
	}
	damage()
	if _, err := r.w.disk.Content(names.BadChunkPath(d, 0)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.restore(t.Context(), s, r.cast.base); !errors.Is(err, repo.ErrChunkMissing) {
		t.Fatalf("restore: %v", err)
	}
	r.w.disk.Advance(48 * time.Hour)
	st, err := s.GC(t.Context(), repo.GCOptions{SkipAtimeCheck: true})
	if err != nil || st.StillBad != 1 || st.RemovedBad != 0 || len(st.Warnings) == 0 {
		t.Fatalf("%+v, %v", st, err)
	}
	// The next backup has no base and stores it again; then it is damaged again.
	r.backup(s, r.client, r.cast.base)
	if _, _, err := r.restore(t.Context(), s, r.cast.base); err != nil {
		t.Fatalf("repaired: %v", err)
	}
	damage()
	if _, err := r.w.disk.Content(names.BadChunkPath(d, 1)); err != nil {
		t.Fatal(err)
	}
	r.w.disk.Advance(48 * time.Hour)
	r.backup(s, r.client, r.cast.base)
	r.w.disk.Advance(48 * time.Hour)
	st, err = s.GC(t.Context(), repo.GCOptions{SkipAtimeCheck: true})
	if err != nil || st.StillBad != 0 || st.RemovedBad != 2 {
		t.Fatalf("%+v, %v", st, err)
	}
}

func TestOnlyStaleTemporaryChunksAreCleared(t *testing.T) {
	r := newRace(t)
	d := digest.Of(r.cast.orphan[:contract.ChunkSize])
	temp := func(n string) string {
		name := names.ChunkPath(d) + ".tmp_" + n
		f, err := r.w.disk.Create(name, 0o644)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	old := temp("aaaaaa")
	foreign, err := r.w.disk.Create(path.Dir(names.ChunkPath(d))+"/README", 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if err := foreign.Close(); err != nil {
		t.Fatal(err)
	}
	r.w.disk.Advance(25 * time.Hour)
	fresh := temp("bbbbbb")
	r.w.disk.Advance(23 * time.Hour)
	if err := collect(r.plain()); err != nil {
		t.Fatal(err)
	}
	for name, stays := range map[string]bool{old: false, fresh: true, path.Dir(names.ChunkPath(d)) + "/README": true} {
		if _, err := r.w.disk.Lstat(name); (err == nil) != stays {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A writer that has been at work for long may still need its own.
	ses := begin(t, r.plain(), snapshotAt("300", r.w.disk.Now()))
	own := temp("cccccc")
	r.w.disk.Advance(40 * time.Hour)
	if err := collect(r.plain()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.w.disk.Lstat(own); err != nil {
		t.Errorf("a live writer's file is gone: %v", err)
	}
	if err := ses.Abort(); err != nil {
		t.Error(err)
	}
}

func TestDryCollectionRemovesNothing(t *testing.T) {
	r := newRace(t)
	before := r.w.disk.Files()
	dry, err := r.plain().GC(t.Context(), repo.GCOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	after := slices.DeleteFunc(r.w.disk.Files(), func(f string) bool { return strings.HasPrefix(f, ".holdfast/") })
	before = slices.DeleteFunc(before, func(f string) bool { return strings.HasPrefix(f, ".holdfast/") })
	if !slices.Equal(before, after) {
		t.Errorf("files before %v\nafter %v", before, after)
	}
	wet, err := r.plain().GC(t.Context(), repo.GCOptions{SkipAtimeCheck: true})
	if err != nil || dry.RemovedChunks != wet.RemovedChunks || dry.RemovedBytes != wet.RemovedBytes || wet.RemovedChunks == 0 {
		t.Errorf("dry %+v\nwet %+v, %v", dry, wet, err)
	}
}

// An index of a finished snapshot that cannot be read stops the collection: it
// may name anything.
func TestCollectionStopsAtADamagedIndexAndSaysWhatToDo(t *testing.T) {
	for _, size := range []int{0, 100, 4096, 4096 + 31} {
		r := newRace(t)
		index := r.cast.base.Path() + "/disk.img.fidx"
		if err := r.w.disk.Corrupt(index, func(b []byte) []byte { return b[:size] }); err != nil {
			t.Fatal(err)
		}
		before := count(r.w.disk, ".chunks/")
		err := collect(r.plain())
		if _, corrupt := errors.AsType[*repo.CorruptError](err); !corrupt || !strings.Contains(err.Error(), index) || !strings.Contains(err.Error(), "forget") {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if after := count(r.w.disk, ".chunks/"); after != before {
			t.Errorf("%d bytes: %d chunks before, %d after", size, before, after)
		}
		r.forget(r.plain(), r.cast.base)
		r.finish()
	}
}
