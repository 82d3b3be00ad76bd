package amend_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/backup/amend"
	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/image/overlay"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const (
	chunk  = 16 << 10
	chunks = 40
	size   = chunks*chunk - 1000 // the last one is short

	system = names.Archive("system.img.fidx")
	data   = names.Archive("data.img.fidx")
	conf   = names.Archive("vm.conf.blob")
)

// memory makes a repository of one in memory.
type memory struct{ *repotest.Memory }

func (m memory) Open(ctx context.Context, s names.Snapshot) (repo.Snapshot, error) {
	return m.Memory.Open(ctx, s)
}

// at is the n-th snapshot of a group.
func at(n int64) names.Snapshot {
	return names.Snapshot{NS: "tests", Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000 + n}
}

// disk is an image in memory.
type disk []byte

func (d disk) Size() int64 { return int64(len(d)) }

func (d disk) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(d).ReadAt(p, off) }

// filled is a disk without two equal chunks; its second half is zeros.
func filled(seed uint64) disk {
	d := make(disk, size)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range size / 2 {
		d[i] = byte(r.Uint32())
	}
	return d
}

// site is a repository with what was put into it.
type site struct {
	t    *testing.T
	r    amend.Repository
	key  *chunkcrypt.Key
	mode manifest.CryptMode
}

// backup makes the n-th snapshot.
func (s *site) backup(n int64, disks map[names.Archive]disk) {
	s.t.Helper()
	job := backup.Job{
		Snapshot: at(n), Owner: "root@pam", Notes: "the base's notes\nof two lines",
		Options: backup.Options{ChunkSize: chunk, Workers: 2, Key: s.key, CryptMode: s.mode},
	}
	for _, name := range []names.Archive{system, data} {
		if d := disks[name]; d != nil {
			job.Sources = append(job.Sources, backup.Source{Name: name, Image: d})
		}
	}
	job.Sources = append(job.Sources, backup.Source{Name: conf, Data: []byte("name: web\ncores: 2\n")})
	if _, err := backup.Run(s.t.Context(), s.r, job); err != nil {
		s.t.Fatal(err)
	}
}

// over opens an overlay over an archive of the n-th snapshot.
func (s *site) over(n int64, name names.Archive) *overlay.Overlay {
	s.t.Helper()
	snap, err := s.r.Open(s.t.Context(), at(n))
	if err != nil {
		s.t.Fatal(err)
	}
	img, err := archive.Open(s.t.Context(), snap, name, s.key, archive.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	f, _ := snap.Manifest().File(string(name))
	ov, err := overlay.Create(filepath.Join(s.t.TempDir(), "ov"), img, overlay.Meta{
		Repository: "memory", Snapshot: at(n), Archive: name, Size: img.Size(), IndexSum: f.Csum, Created: 1,
	}, overlay.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := errors.Join(ov.Close(), img.Close(), snap.Close()); err != nil {
			s.t.Error(err)
		}
	})
	return ov
}

func (s *site) plan(base, n int64, disks ...amend.Disk) amend.Plan {
	return amend.Plan{
		Base: at(base), Time: at(n).Time, Owner: "root@pam", Disks: disks,
		Options: backup.Options{Workers: 2, Key: s.key},
	}
}

func (s *site) run(p amend.Plan) backup.Report {
	s.t.Helper()
	report, err := amend.Run(s.t.Context(), s.r, p)
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}

// content restores an archive of the n-th snapshot.
func (s *site) content(n int64, name names.Archive) []byte {
	s.t.Helper()
	snap, err := s.r.Open(s.t.Context(), at(n))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = snap.Close() }()
	if name.Kind() == names.Blob {
		b, err := fetch.Blob(snap, name, s.key)
		if err != nil {
			s.t.Fatal(err)
		}
		return b
	}
	if name.Kind() == names.Didx {
		return s.stream(snap, name)
	}
	img, err := archive.Open(s.t.Context(), snap, name, s.key, archive.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = img.Close() }()
	b := make([]byte, img.Size())
	if n, _ := img.ReadAt(b, 0); n != len(b) {
		s.t.Fatalf("read %d bytes of %d", n, len(b))
	}
	return b
}

func (s *site) want(n int64, name names.Archive, want []byte) {
	s.t.Helper()
	if got := s.content(n, name); !bytes.Equal(got, want) {
		s.t.Fatalf("%s of %s: %d bytes that differ, want %d", name, at(n), len(got), len(want))
	}
}

// change writes into an overlay and into what it should show.
func change(t *testing.T, ov *overlay.Overlay, d disk, off int64, p []byte) {
	t.Helper()
	copy(d[off:], p)
	if _, err := ov.WriteAt(p, off); err != nil {
		t.Fatal(err)
	}
}

// sites are the kinds of repositories and encryption.
func sites(t *testing.T, test func(t *testing.T, s *site)) {
	key, err := chunkcrypt.New([32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []manifest.CryptMode{manifest.ModeNone, manifest.ModeEncrypt, manifest.ModeSignOnly} {
		k := key
		if mode == manifest.ModeNone {
			k = nil
		}
		t.Run("memory, "+string(mode), func(t *testing.T) {
			m := repotest.New()
			t.Cleanup(func() {
				if pagebuf.Outstanding() != 0 || m.InUse() != 0 {
					t.Errorf("%d buffers, %d sessions or indexes are left over", pagebuf.Outstanding(), m.InUse())
				}
			})
			test(t, &site{t, memory{m}, k, mode})
		})
		t.Run("directory, "+string(mode), func(t *testing.T) {
			test(t, &site{t, directory(t), k, mode})
		})
	}
}

// directory is a real repository.
func directory(t *testing.T) *datastore.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store")
	if err := dir.Create(t.Context(), path, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	store, err := dir.Open(path, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := store.CreateNamespace(t.Context(), "tests"); err != nil {
		t.Fatal(err)
	}
	return store
}

func TestNewSnapshotShowsTheOverlayAndReadsChangedChunksOnly(t *testing.T) {
	sites(t, func(t *testing.T, s *site) {
		sys, dat := filled(1), filled(2)
		s.backup(0, map[names.Archive]disk{system: sys, data: dat})
		ov := s.over(0, system)
		want := disk(bytes.Clone(sys))
		change(t, ov, want, 3*chunk+100, []byte("changed")) // chunk 3
		change(t, ov, want, 6*chunk-2, []byte("two"))       // 5 and 6
		change(t, ov, want, size-5, []byte("last!"))        // 39
		change(t, ov, want, 30*chunk, make([]byte, 3))      // 30: zeros over zeros
		if err := ov.Zero(8*chunk, 2*chunk); err != nil {   // 8 and 9
			t.Fatal(err)
		}
		clear(want[8*chunk : 10*chunk])
		if err := ov.Flush(); err != nil {
			t.Fatal(err)
		}
		report := s.run(s.plan(0, 1, amend.Disk{Name: system, Content: ov}))

		s.want(1, system, want)
		s.want(1, data, dat)
		s.want(1, conf, s.content(0, conf))
		s.want(0, system, sys)
		got := report.Archives[0].Stats
		if got.Stored.Chunks != 4 || got.Unchanged.Chunks != chunks-7 || got.Zero.Chunks != 3 {
			t.Errorf("chunks: %+v", got)
		}
		if most := int64(5 * chunk); got.Read > most {
			t.Errorf("%d bytes were read, at most %d have changed", got.Read, most)
		}
		if got := report.Archives[1].Stats; got.Unchanged.Chunks != chunks || got.Read != 0 {
			t.Errorf("the untouched disk: %+v", got)
		}
		if report.Previous != at(0).Path() || report.Archives[0].NotReused != "" {
			t.Errorf("previous %q, not reused: %q", report.Previous, report.Archives[0].NotReused)
		}
		s.wantLike(0, 1)
	})
}

// wantLike compares manifests: the same archives in the same order, modes,
// notes, and signed by the same key.
func (s *site) wantLike(base, n int64) {
	s.t.Helper()
	var ms [2]*manifest.Manifest
	for i, k := range []int64{base, n} {
		snap, err := s.r.Open(s.t.Context(), at(k))
		if err != nil {
			s.t.Fatal(err)
		}
		ms[i] = snap.Manifest()
		defer func() { _ = snap.Close() }()
	}
	if len(ms[0].Files) != len(ms[1].Files) || ms[0].Signed() != ms[1].Signed() || ms[0].Notes() != ms[1].Notes() {
		s.t.Fatalf("files %v and %v, signed %v and %v, notes %q and %q",
			ms[0].Files, ms[1].Files, ms[0].Signed(), ms[1].Signed(), ms[0].Notes(), ms[1].Notes())
	}
	for i, f := range ms[0].Files {
		if g := ms[1].Files[i]; f.Filename != g.Filename || f.CryptMode != g.CryptMode {
			s.t.Errorf("file %d: %+v and %+v", i, f, g)
		}
	}
	if s.key != nil {
		if err := ms[1].Verify(s.key); err != nil {
			s.t.Error(err)
		}
	}
}

func TestBaseThatIsNotTheNewestIsReadWhereTheyDiffer(t *testing.T) {
	sites(t, func(t *testing.T, s *site) {
		sys, dat := filled(1), filled(2)
		s.backup(0, map[names.Archive]disk{system: sys, data: dat})
		later, laterData := disk(bytes.Clone(sys)), disk(bytes.Clone(dat))
		copy(later[2*chunk:], "the guest went on")     // chunk 2
		copy(later[10*chunk:], "and on")               // chunk 10
		copy(later[35*chunk:], "into what was zeros")  // chunk 35
		copy(laterData[4*chunk:], "on both its disks") // chunk 4
		s.backup(1, map[names.Archive]disk{system: later, data: laterData})

		ov := s.over(0, system)
		want := disk(bytes.Clone(sys))
		change(t, ov, want, 10*chunk+5000, []byte("changed in the overlay"))
		change(t, ov, want, 11*chunk, []byte("too"))
		report := s.run(s.plan(0, 2, amend.Disk{Name: system, Content: ov}))

		s.want(2, system, want)
		s.want(2, data, dat)
		got := report.Archives[0].Stats
		if got.Unchanged.Chunks != chunks-4 || got.Stored.Chunks != 2 || got.Known.Chunks != 1 || got.Zero.Chunks != 1 {
			t.Errorf("changed disk: %+v", got)
		}
		got = report.Archives[1].Stats
		if got.Unchanged.Chunks != chunks-1 || got.Known.Chunks != 1 || got.Stored.Chunks != 0 || got.Read != chunk {
			t.Errorf("carried disk: %+v", got)
		}
	})
}

func TestPreviousWithOtherChunksIsNotUsed(t *testing.T) {
	s := &site{t, memory{repotest.New()}, nil, manifest.ModeNone}
	sys := filled(1)
	s.backup(0, map[names.Archive]disk{system: sys})
	job := backup.Job{
		Snapshot: at(1), Sources: []backup.Source{{Name: system, Image: filled(3)}},
		Options: backup.Options{ChunkSize: 2 * chunk, Workers: 1},
	}
	if _, err := backup.Run(t.Context(), s.r, job); err != nil {
		t.Fatal(err)
	}
	ov := s.over(0, system)
	want := disk(bytes.Clone(sys))
	change(t, ov, want, 7, []byte("x"))
	report := s.run(s.plan(0, 2, amend.Disk{Name: system, Content: ov}))
	s.want(2, system, want)
	if r := report.Archives[0]; r.Stats.Unchanged.Chunks != 0 || !strings.Contains(r.NotReused, "chunks") {
		t.Errorf("%+v", r)
	}
}

func TestNotesMayBeOthers(t *testing.T) {
	s := &site{t, memory{repotest.New()}, nil, manifest.ModeNone}
	s.backup(0, map[names.Archive]disk{system: filled(1)})
	p := s.plan(0, 1, amend.Disk{Name: system, Content: s.over(0, system)})
	notes := "after the repair"
	p.Notes = &notes
	s.run(p)
	snap, err := s.r.Open(t.Context(), at(1))
	if err != nil {
		t.Fatal(err)
	}
	if got := snap.Manifest().Notes(); got != notes {
		t.Errorf("notes %q", got)
	}
}

func TestImpossiblePlansAreRefusedBeforeAnythingIsWritten(t *testing.T) {
	key, err := chunkcrypt.New([32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	m := repotest.New()
	s := &site{t, memory{m}, key, manifest.ModeEncrypt}
	s.backup(0, map[names.Archive]disk{system: filled(1), data: filled(2)})
	s.backup(5, map[names.Archive]disk{system: filled(5)})
	ov := s.over(0, system)
	good := amend.Disk{Name: system, Content: ov}
	for _, tc := range []struct {
		name, want string
		spoil      func(p *amend.Plan)
	}{
		{"no disks", "nothing to replace", func(p *amend.Plan) { p.Disks = nil }},
		{"a disk twice", "named twice", func(p *amend.Plan) { p.Disks = append(p.Disks, good) }},
		{"an archive that is not there", "no archive", func(p *amend.Plan) { p.Disks[0].Name = "other.img.fidx" }},
		{"a small file", "no disk image", func(p *amend.Plan) { p.Disks[0].Name = conf }},
		{"another archive's overlay", "not the same image", func(p *amend.Plan) { p.Disks[0].Name = data }},
		{"another snapshot's overlay", "not the same image", func(p *amend.Plan) { p.Base = at(5) }},
		{"no key", "name the key file", func(p *amend.Plan) { p.Options.Key = nil }},
		{"no such base", "not found", func(p *amend.Plan) { p.Base = at(9) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m.Reset()
			p := s.plan(0, 9, good)
			tc.spoil(&p)
			if _, err := amend.Run(t.Context(), s.r, p); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v, want one that says %q", err, tc.want)
			}
			if m.Calls(repotest.OpBegin) != 0 {
				t.Error("it began")
			}
		})
	}
}

func TestAnyFailureLeavesNothingVisibleAndTheNextRunWorks(t *testing.T) {
	m := repotest.New()
	s := &site{t, memory{m}, nil, manifest.ModeNone}
	sys, dat := filled(1), filled(2)
	s.backup(0, map[names.Archive]disk{system: sys, data: dat})
	s.backup(1, map[names.Archive]disk{system: filled(3), data: dat})
	ov := s.over(0, system)
	want := disk(bytes.Clone(sys))
	change(t, ov, want, 5*chunk, []byte("x"))
	broken := errors.New("broken")
	for n := int64(1); ; n++ {
		var calls atomic.Int64 // the base is read by several goroutines
		m.Fail = func(op string) error {
			if calls.Add(1) == n {
				return fmt.Errorf("%s: %w", op, broken)
			}
			return nil
		}
		p := s.plan(0, 2, amend.Disk{Name: system, Content: ov})
		p.Options.Workers = 1
		_, err := amend.Run(t.Context(), s.r, p)
		m.Fail = nil
		if err == nil {
			if m.Snapshots() != 3 {
				t.Fatalf("%d snapshots", m.Snapshots())
			}
			// An index that does not open only makes it read more.
			if calls.Load() >= n && n > 300 {
				t.Fatal("failures are ignored")
			}
			s.want(2, system, want)
			if calls.Load() < n {
				return
			}
			m = repotest.New() // once more, from the start
			s.r = memory{m}
			s.backup(0, map[names.Archive]disk{system: sys, data: dat})
			s.backup(1, map[names.Archive]disk{system: filled(3), data: dat})
			continue
		}
		if !errors.Is(err, broken) || m.Snapshots() != 2 {
			t.Fatalf("call %d: %v, %d snapshots", n, err, m.Snapshots())
		}
	}
}

func TestCancelledRunSaysWhy(t *testing.T) {
	s := &site{t, directory(t), nil, manifest.ModeNone}
	s.backup(0, map[names.Archive]disk{system: filled(1)})
	ov := s.over(0, system)
	why := errors.New("the user went home")
	ctx, cancel := context.WithCancelCause(t.Context())
	p := s.plan(0, 1, amend.Disk{Name: system, Content: ov})
	p.Started = func(names.Archive, int64) { cancel(why) }
	if _, err := amend.Run(ctx, s.r, p); !errors.Is(err, why) {
		t.Errorf("err = %v", err)
	}
	if _, err := s.r.Open(t.Context(), at(1)); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("the snapshot: %v", err)
	}
}

var _ image.Image = disk(nil)
