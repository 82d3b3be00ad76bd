package datastore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// race is a cast on a disk of its own, with processes that can be stopped.
type race struct {
	*tester
	t    *testing.T
	cast *cast
	w    *world
}

func newRace(t *testing.T) *race {
	tt := newTester(t)
	c := newCast(t, tt)
	return &race{tt, t, c, c.start.clone()}
}

// process opens the store as another process; at is called before the first
// call that begins with prefix.
func (r *race) process(prefix string, at func()) *datastore.Store {
	var once sync.Once
	return r.processWith(&hooked{r.w.disk.Process(), func(call string) {
		if strings.HasPrefix(call, prefix) {
			once.Do(at)
		}
	}}, func(time.Duration) {})
}

func (r *race) processWith(fsys *hooked, asleep func(time.Duration)) *datastore.Store {
	r.t.Helper()
	s, err := r.openProcess(fsys, rand.Uint64(), func(ctx context.Context, dt time.Duration) error {
		r.w.disk.Advance(dt)
		asleep(dt)
		return context.Cause(ctx)
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *race) plain() *datastore.Store { return r.process("-", nil) }

// backs up a guest and expects that to work.
func (r *race) backup(s *datastore.Store, cl *client, base names.Snapshot) names.Snapshot {
	n := snapshotAt(base.ID, r.w.disk.Now())
	c := r.cast.next(base)
	if err := cl.backup(context.Background(), s, n, c.Image, c.Conf); err != nil {
		r.t.Errorf("backup: %v", err)
	}
	r.w.must[n] = c
	return n
}

func (r *race) forget(s *datastore.Store, n names.Snapshot) {
	if err := s.Forget(context.Background(), n); err != nil {
		r.t.Errorf("forget: %v", err)
	}
	delete(r.w.must, n)
}

func (r *race) finish() {
	r.t.Helper()
	r.w.disk.Advance(time.Hour)
	if err := r.check(r.w, rand.New(rand.NewPCG(1, 1))); err != nil {
		r.t.Fatal(err)
	}
}

// A backup takes over chunks of its base without touching them, and the base is
// removed while the collection is on its way to it. (An advisory of PBS,
// PSA-2025-00019-1, was about this.)
func TestCollectionFindsChunksTakenOverFromASnapshotRemovedMeanwhile(t *testing.T) {
	for _, tc := range []struct{ name, at string }{
		{"before the namespace is listed", "readdir ."},
		{"before the group is listed", "readdir vm/100"},
		{"before the base is listed", "readdir vm/100/BASE"},
		{"before the base's index is opened", "open vm/100/BASE/disk.img.fidx"},
		{"before the sweep", "readdir .chunks"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRace(t)
			base := r.cast.base
			happened := false
			gc := r.process(strings.ReplaceAll(tc.at, "BASE", names.FormatTime(base.Time)), func() {
				happened = true
				r.backup(r.plain(), r.client, base)
				r.forget(r.plain(), base)
			})
			if err := collect(gc); err != nil {
				t.Fatal(err)
			}
			if !happened {
				t.Fatal("the collection did not come by")
			}
			r.finish()
		})
	}
}

// The same, but the removal is under way: the base's directory is there, its
// index is not.
func TestCollectionFindsChunksTakenOverFromASnapshotBeingRemoved(t *testing.T) {
	r := newRace(t)
	base := r.cast.base
	first := snapshotBefore(r.w, base) // the only other one of the group
	r.forget(r.plain(), first)
	r.forget(r.plain(), r.cast.other) // so that nothing else makes the collection look again
	stopped, resume, gone := make(chan struct{}), make(chan struct{}), make(chan struct{})
	gc := r.process("readdir "+base.Path(), func() {
		r.backup(r.plain(), r.client, base)
		go func() {
			defer close(gone)
			r.forget(r.process("remove "+base.Path()+"/vm.conf.blob", func() { close(stopped); <-resume }), base)
		}()
		<-stopped
	})
	err := collect(gc)
	close(resume)
	<-gone
	if err != nil {
		t.Fatal(err)
	}
	r.finish()
}

func snapshotBefore(w *world, n names.Snapshot) names.Snapshot {
	for o := range w.must {
		if o.Group == n.Group && o.Time < n.Time {
			return o
		}
	}
	return n
}

// A chunk that nobody needs is about to be unlinked when a writer finds it and
// wants to rely on it: the writer waits, and stores it again.
func TestWriterDoesNotRelyOnAChunkThatIsBeingSwept(t *testing.T) {
	r := newRace(t)
	orphan := digest.Of(r.cast.orphan[:contract.ChunkSize])
	swept, done := make(chan struct{}), make(chan struct{})
	waits := make(chan struct{})
	var once sync.Once
	writer := r.processWith(&hooked{r.w.disk.Process(), func(string) {}}, func(time.Duration) {
		once.Do(func() { close(waits) })
		<-swept
	})
	cl := newClient(t)
	gc := r.process("remove "+names.ChunkPath(orphan), func() {
		go func() { defer close(done); r.backup(writer, cl, r.cast.other) }()
		select {
		case <-waits: // for the directory
		case <-done: // it must not come so far
		}
	})
	err := collect(gc)
	close(swept)
	<-done
	if err != nil {
		t.Fatal(err)
	}
	r.finish()
}

// The other way round: a writer has found the chunk and is about to touch it
// when the collection comes to the directory.
func TestCollectionWaitsForAWriterThatFoundAChunk(t *testing.T) {
	r := newRace(t)
	orphan := digest.Of(r.cast.orphan[:contract.ChunkSize])
	waits, done, touched := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var once sync.Once
	gc := r.processWith(&hooked{r.w.disk.Process(), func(string) {}}, func(time.Duration) {
		once.Do(func() { close(waits) })
		<-touched
	})
	writer := r.process("open "+names.ChunkPath(orphan), func() {
		go func() {
			defer close(done)
			if err := collect(gc); err != nil {
				t.Error(err)
			}
		}()
		select {
		case <-waits:
		case <-done:
		}
	})
	n := snapshotAt("200", r.w.disk.Now())
	ses, err := writer.Begin(t.Context(), repo.Begin{Snapshot: n})
	if err != nil {
		t.Fatal(err)
	}
	has, err := ses.Has(t.Context(), orphan)
	close(touched)
	<-done
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.w.disk.Content(names.ChunkPath(orphan)); has != (err == nil) {
		t.Fatalf("the writer was told %v, but the chunk: %v", has, err)
	}
	if err := ses.Abort(); err != nil {
		t.Fatal(err)
	}
	r.backup(r.plain(), r.client, r.cast.other)
	r.finish()
}

// A writer that began before the collection keeps what it touched, even if it
// goes on after the collection has looked at all indexes.
func TestCollectionKeepsWhatAWriterOfBeforeTouched(t *testing.T) {
	r := newRace(t)
	ses, err := r.plain().Begin(t.Context(), repo.Begin{Snapshot: snapshotAt("200", r.w.disk.Now())})
	if err != nil {
		t.Fatal(err)
	}
	orphan := digest.Of(r.cast.orphan[:contract.ChunkSize])
	if has, err := ses.Has(t.Context(), orphan); err != nil || !has {
		t.Fatalf("%v, %v", has, err)
	}
	r.w.disk.Advance(30 * time.Hour) // a slow backup
	if err := collect(r.plain()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.w.disk.Content(names.ChunkPath(orphan)); err != nil {
		t.Fatalf("a chunk that a writer relies on is gone: %v", err)
	}
	if err := ses.Abort(); err != nil {
		t.Fatal(err)
	}
	r.w.disk.Advance(time.Hour)
	if err := collect(r.plain()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.w.disk.Content(names.ChunkPath(orphan)); err == nil {
		t.Fatal("it stays for ever")
	}
}

// A verification sees a damaged chunk, and before it can set it aside a backup
// stores that chunk again.
func TestVerifyDoesNotSetAsideAChunkThatWasRepairedMeanwhile(t *testing.T) {
	r := newRace(t)
	shared := r.w.must[r.cast.base].Image[:contract.ChunkSize]
	d := digest.Of(shared)
	if err := r.w.disk.Corrupt(names.ChunkPath(d), func(b []byte) []byte { b[100] ^= 4; return b }); err != nil {
		t.Fatal(err)
	}
	n := snapshotAt("200", r.w.disk.Now())
	img := bytes.Clone(r.w.must[r.cast.other].Image)
	copy(img[contract.ChunkSize:], shared)
	lock := "lock .holdfast/locks " + strconv.Itoa(int(binary.BigEndian.Uint16(d[:])))
	verify := r.process(lock, func() {
		if err := newClient(t).backup(context.Background(), r.plain(), n, img, []byte("conf")); err != nil {
			t.Error(err)
		}
	})
	if _, err := verify.Verify(t.Context(), repo.VerifyOptions{Group: &r.cast.base.Group, Workers: 1}); err != nil {
		t.Fatal(err)
	}
	got, _, err := r.restore(t.Context(), r.plain(), n)
	if err != nil || !bytes.Equal(got, img) {
		t.Fatalf("the backup that repaired the chunk does not restore: %v", err)
	}
}

// A verification finds the base damaged while a backup takes its chunks over:
// the backup must not count.
func TestBackupOnABaseThatIsFoundDamagedMeanwhileFails(t *testing.T) {
	r := newRace(t)
	base := r.cast.base
	d := digest.Of(r.w.must[base].Image[:contract.ChunkSize])
	n := snapshotAt("100", r.w.disk.Now())
	c := r.cast.next(base)
	s := r.process("rename to "+n.Path()+"/vm.conf.blob", func() {
		if err := r.w.disk.Corrupt(names.ChunkPath(d), func(b []byte) []byte { b[100] ^= 4; return b }); err != nil {
			t.Error(err)
		}
		if _, err := r.plain().Verify(context.Background(), repo.VerifyOptions{Workers: 1}); err != nil {
			t.Error(err)
		}
	})
	err := r.client.backup(t.Context(), s, n, c.Image, c.Conf)
	if err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("err = %v", err)
	}
	// The next one has no base, stores everything, and so repairs the chunk.
	r.w.disk.Advance(time.Hour)
	if err := r.client.backup(t.Context(), r.plain(), snapshotAt("100", r.w.disk.Now()), c.Image, c.Conf); err != nil {
		t.Fatal(err)
	}
	for _, n := range []names.Snapshot{base, snapshotAt("100", r.w.disk.Now())} {
		if _, _, err := r.restore(t.Context(), r.plain(), n); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
}

// An unfinished snapshot with a later time, left by a computer whose clock was
// wrong, makes prune mark the running backup as one to remove; the backup ends
// before prune comes to it.
func TestPruneKeepsABackupThatIsFinishedMeanwhile(t *testing.T) {
	r := newRace(t)
	if err := r.w.disk.Mkdir(snapshotAt("100", r.w.disk.Now().Add(100*time.Hour)).Path(), 0o755); err != nil {
		t.Fatal(err)
	}
	stopped, resume, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	n := snapshotAt("100", r.w.disk.Now())
	writer := r.process("rename to "+n.Path()+"/index.json.blob", func() { close(stopped); <-resume })
	cl := newClient(t)
	go func() { defer close(done); r.backup(writer, cl, r.cast.base) }()
	<-stopped
	var once sync.Once
	prune := r.process("lock .holdfast/locks", func() {
		once.Do(func() { close(resume); <-done })
	})
	results, err := prune.Prune(t.Context(), repo.PruneOptions{Group: &n.Group, Keep: retention.Options{Last: 5}})
	if err != nil {
		t.Fatal(err)
	}
	for _, res := range results {
		if res.Snapshot == n && !errors.Is(res.Err, repo.ErrLocked) {
			t.Errorf("%+v", res)
		}
	}
	r.finish()
}

// What a killed process held is free at once, and its unfinished snapshot
// stands in nobody's way.
func TestKilledWriterLeavesNoLocks(t *testing.T) {
	r := newRace(t)
	p := r.w.disk.Process()
	s := r.processWith(&hooked{p, func(string) {}}, func(time.Duration) {})
	if _, err := s.Begin(t.Context(), repo.Begin{Snapshot: snapshotAt("100", r.w.disk.Now())}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.plain().Begin(t.Context(), repo.Begin{Snapshot: snapshotAt("100", r.w.disk.Now().Add(time.Second))}); !errors.Is(err, repo.ErrLocked) {
		t.Fatalf("a second backup of the group: %v", err)
	}
	if err := r.plain().Forget(t.Context(), r.cast.base); !errors.Is(err, repo.ErrLocked) {
		t.Fatalf("removal of the base: %v", err)
	}
	p.Kill()
	r.w.disk.Advance(time.Minute)
	r.backup(r.plain(), r.client, r.cast.base)
	if err := collect(r.plain()); err != nil {
		t.Fatal(err)
	}
	if left := count(r.w.disk, ".holdfast/writers/"); left != 0 {
		t.Errorf("%d entries of dead writers are left", left)
	}
	r.finish()
}

// count is the number of files whose name contains part.
func count(d *simdisk.Disk, part string) int {
	n := 0
	for _, f := range d.Files() {
		if strings.Contains(f, part) {
			n++
		}
	}
	return n
}

// An index of an unfinished snapshot, torn in the middle of a digest, names
// what looks like the beginning of another chunk.
func TestTornIndexDoesNotMakeTheCollectionOverlookAChunk(t *testing.T) {
	r := newRace(t)
	index := r.cast.base.Path() + "/disk.img.fidx"
	b, err := r.w.disk.Content(index)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[4096+16 : 4096+32])
	dead := "ct/1/2000-01-01T00:00:00Z" // looked at first
	for _, dir := range []string{"ct", "ct/1", dead} {
		if err := r.w.disk.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f, err := r.w.disk.Create(dead+"/disk.img.fidx", 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := collect(r.plain()); err != nil {
		t.Fatal(err)
	}
	r.finish()
}
