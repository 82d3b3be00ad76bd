package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/catalog"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"github.com/holdfast-backup/holdfast/internal/tree"
)

const root = names.Archive("root.pxar.didx")

// grove makes a directory with some files, the larger ones of several chunks.
func grove(t testing.TB, seed uint64) string {
	t.Helper()
	dir := t.TempDir()
	rnd := rng(seed)
	for i := range 60 {
		sub := filepath.Join(dir, fmt.Sprintf("d%d", i%7))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		n := rnd.IntN(4000)
		if i%9 == 0 {
			n = rnd.IntN(700 << 10)
		}
		b := make([]byte, n)
		fill(rnd, b)
		path := filepath.Join(sub, fmt.Sprintf("f%d", i))
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Unix(1_600_000_000+int64(i), 5)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func treeJob(n int64, sources ...backup.Source) backup.Job {
	return backup.Job{Snapshot: at(n), Sources: sources, Options: backup.Options{ChunkSize: 64 << 10, Workers: 3}}
}

func dir(path string, d backup.Detection) backup.Source {
	return backup.Source{Name: root, Tree: &backup.Tree{Path: path, Detection: d}}
}

func archives(r backup.Report) (all []string) {
	for _, a := range r.Archives {
		all = append(all, a.Archive.Filename)
	}
	return all
}

// wantTree compares the files of an archive with those of a directory.
func wantTree(t testing.TB, m *repotest.Memory, n int64, name string, k *chunkcrypt.Key, dir string) {
	t.Helper()
	s, err := m.Open(t.Context(), at(n))
	if err != nil {
		t.Fatal(err)
	}
	parts, err := filearchive.Find(s.Manifest(), name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := filearchive.OpenStream(t.Context(), s, parts, k, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	seen := 0
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != pxar.File {
			continue
		}
		seen++
		got, err := io.ReadAll(r)
		want, werr := os.ReadFile(dir + pxar.Join(r.Path()))
		if err != nil || werr != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: %d bytes, want %d: %v, %v", pxar.Join(r.Path()), len(got), len(want), err, werr)
		}
	}
	have := 0
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, _ error) error {
		if d.Type().IsRegular() {
			have++
		}
		return nil
	})
	if seen != have {
		t.Fatalf("%s has %d files, want %d", name, seen, have)
	}
}

func TestDirectoryBecomesOneArchiveWithACatalogOrTwoParts(t *testing.T) {
	d := grove(t, 1)
	for _, tc := range []struct {
		how  backup.Detection
		want []string
	}{
		{backup.DetectLegacy, []string{"root.pxar.didx", "catalog.pcat1.didx"}},
		{backup.DetectData, []string{"root.ppxar.didx", "root.mpxar.didx"}},
		{backup.DetectMetadata, []string{"root.ppxar.didx", "root.mpxar.didx"}},
		{backup.DetectAuto, []string{"root.ppxar.didx", "root.mpxar.didx"}},
	} {
		m := repotest.New()
		r := run(t, m, treeJob(1, dir(d, tc.how)))
		if got := archives(r); !slices.Equal(got, tc.want) {
			t.Errorf("%q: %q, want %q", tc.how, got, tc.want)
		}
		wantTree(t, m, 1, "root.pxar", nil, d)
		if r.Incomplete() {
			t.Errorf("%q: incomplete", tc.how)
		}
	}
}

func TestArchiveInTheRepositoryIsTheOneThatTheTreeMakes(t *testing.T) {
	d := grove(t, 2)
	var want, list bytes.Buffer
	c := catalog.NewWriter(&list)
	if err := c.StartDir(string(root)); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Archive(t.Context(), d, tree.Output{Meta: &want, Catalog: c}, tree.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.EndDir(), c.Close()); err != nil {
		t.Fatal(err)
	}
	m := repotest.New()
	run(t, m, treeJob(1, dir(d, backup.DetectLegacy)))
	wantContent(t, m, 1, root, nil, want.Bytes())
	wantContent(t, m, 1, "catalog.pcat1.didx", nil, list.Bytes())
}

func TestUnchangedFilesAreTakenOverUnread(t *testing.T) {
	d := grove(t, 3)
	k := key(t, 7)
	for _, crypt := range []func(backup.Job) backup.Job{
		func(j backup.Job) backup.Job { return j },
		func(j backup.Job) backup.Job { return encrypted(j, k) },
	} {
		m := repotest.New()
		run(t, m, crypt(treeJob(1, dir(d, backup.DetectMetadata))))
		if err := os.WriteFile(d+"/d3/new", []byte("new"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := run(t, m, crypt(treeJob(2, dir(d, backup.DetectAuto))))
		rep := r.Archives[1].Tree
		if rep.Files != rep.ReusedFiles+1 && rep.ReusedFiles < 50 {
			t.Errorf("%d of %d files were taken over", rep.ReusedFiles, rep.Files)
		}
		if p := r.Archives[0].Stats; p.Unchanged.Bytes < rep.ReusedBytes {
			t.Errorf("chunks of %d bytes were taken over for %d bytes of files", p.Unchanged.Bytes, rep.ReusedBytes)
		}
		wantTree(t, m, 2, "root.pxar", k, d)
		if err := os.Remove(d + "/d3/new"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestModeGoesOnAsItWasBefore(t *testing.T) {
	d := grove(t, 4)
	m := repotest.New()
	run(t, m, treeJob(1, dir(d, backup.DetectLegacy)))
	if got := archives(run(t, m, treeJob(2, dir(d, backup.DetectAuto)))); got[0] != "root.pxar.didx" {
		t.Errorf("after a whole archive comes %q", got)
	}
	run(t, m, treeJob(3, dir(d, backup.DetectData)))
	r := run(t, m, treeJob(4, dir(d, backup.DetectAuto)))
	if r.Archives[0].Archive.Filename != "root.ppxar.didx" || r.Archives[1].Tree.ReusedFiles == 0 {
		t.Errorf("after a split archive comes %q, %+v", archives(r), r.Archives[1].Tree)
	}
}

func TestOtherKeysAndModesMakeEverythingBeRead(t *testing.T) {
	d := grove(t, 5)
	sign := func(j backup.Job) backup.Job {
		j.Options.CryptMode, j.Options.Key = manifest.ModeSignOnly, key(t, 1)
		return j
	}
	plain := func(j backup.Job) backup.Job { return j }
	with := func(b byte) func(backup.Job) backup.Job {
		return func(j backup.Job) backup.Job { return encrypted(j, key(t, b)) }
	}
	for _, tc := range []struct {
		name          string
		before, after func(backup.Job) backup.Job
	}{
		{"encrypted now", plain, with(1)},
		{"encrypted before", with(1), plain},
		{"another key", with(1), with(2)},
		{"signed now", plain, sign},
		{"signed before", sign, with(1)},
	} {
		m := repotest.New()
		run(t, m, tc.before(treeJob(1, dir(d, backup.DetectMetadata))))
		r := run(t, m, tc.after(treeJob(2, dir(d, backup.DetectMetadata))))
		if n := r.Archives[1].Tree.ReusedFiles; n != 0 || r.Archives[0].NotReused == "" {
			t.Errorf("%s: %d files taken over, reason %q", tc.name, n, r.Archives[0].NotReused)
		}
	}
}

func TestImagesDirectoriesAndBlobsStandBesideEachOther(t *testing.T) {
	d, e := grove(t, 6), grove(t, 7)
	img := randomImage(rng(8), 40*chunk+100)
	m := repotest.New()
	etc := backup.Source{Name: "etc.pxar.didx", Tree: &backup.Tree{Path: e, Detection: backup.DetectLegacy}}
	r := run(t, m, treeJob(1,
		dir(d, backup.DetectLegacy), backup.Source{Name: disk, Image: img}, etc,
		backup.Source{Name: "pipe.img.fidx", Stream: image.NewStream(bytes.NewReader(img.b[:9*chunk]), image.SizeUnknown)},
		backup.Source{Name: "ct.conf.blob", Data: []byte("x")},
	))
	want := []string{"root.pxar.didx", string(disk), "etc.pxar.didx", "pipe.img.fidx", "ct.conf.blob", "catalog.pcat1.didx"}
	if got := archives(r); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	wantContent(t, m, 1, disk, nil, img.b)
	wantContent(t, m, 1, "pipe.img.fidx", nil, img.b[:9*chunk])
	wantTree(t, m, 1, "root.pxar", nil, d)
	wantTree(t, m, 1, "etc.pxar", nil, e)
}

func TestProblemsOfADirectoryMakeTheReportIncomplete(t *testing.T) {
	d := grove(t, 9)
	if err := os.WriteFile(d+"/.pxarexclude", []byte("[\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, repotest.New(), treeJob(1, dir(d, backup.DetectData)))
	if !r.Incomplete() || r.Archives[1].Tree.Problems != 1 {
		t.Errorf("%+v", r.Archives[1].Tree)
	}
}

func TestWrongSourcesAreRefusedBeforeAnythingIsWritten(t *testing.T) {
	d := t.TempDir()
	for name, j := range map[string]backup.Job{
		"name":         treeJob(1, backup.Source{Name: "root.mpxar.didx", Tree: &backup.Tree{Path: d}}),
		"chunk size":   func() backup.Job { j := treeJob(1, dir(d, "")); j.Options.ChunkSize = 16 << 20; return j }(),
		"no such path": treeJob(1, dir(d+"/none", "")),
	} {
		m := repotest.New()
		if _, err := backup.Run(t.Context(), m, j); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if m.Snapshots() != 0 {
			t.Errorf("%s: a snapshot is visible", name)
		}
		clean(t, m)
	}
}

// groveJob is a second backup of two directories, in both ways.
func groveJob(t *testing.T, d string) (m *repotest.Memory, j func(n int64) backup.Job, arm func(func(string) error)) {
	m = repotest.New()
	j = func(n int64) backup.Job {
		old := backup.Source{Name: "old.pxar.didx", Tree: &backup.Tree{Path: d, Detection: backup.DetectLegacy}}
		return treeJob(n, dir(d, backup.DetectMetadata), old)
	}
	if err := os.Remove(d + "/d1/new"); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	run(t, m, j(0))
	if err := os.WriteFile(d+"/d1/new", bytes.Repeat([]byte("new"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	var fail atomic.Pointer[func(string) error]
	m.Fail = func(op string) error {
		if f := fail.Load(); f != nil && *f != nil {
			return (*f)(op)
		}
		return nil
	}
	return m, j, func(f func(string) error) { fail.Store(&f) }
}

func TestEveryFailureEndsTheBackupOfDirectoriesCleanly(t *testing.T) {
	d := grove(t, 10)
	for _, op := range []string{
		repotest.OpBegin, repotest.OpHas, repotest.OpPut, repotest.OpCreate, repotest.OpAdd, repotest.OpClose, repotest.OpFinish,
		repotest.OpOpen, repotest.OpRead,
	} {
		for n := int64(1); ; n += 1 + n/8 {
			reached := false
			synctest.Test(t, func(t *testing.T) {
				m, j, arm := groveJob(t, d)
				var left atomic.Int64
				left.Store(n)
				arm(func(o string) error {
					if o == op && left.Add(-1) == 0 {
						return errInjected
					}
					return nil
				})
				_, err := backup.Run(t.Context(), m, j(1))
				if reached = left.Load() <= 0; !reached && err != nil {
					t.Fatal(err)
				}
				// The previous archive is a help and no more.
				if helps := op == repotest.OpOpen || op == repotest.OpRead; reached && !helps && !errors.Is(err, errInjected) {
					t.Fatalf("%s %d: got %v", op, n, err)
				}
				if err != nil && m.Snapshots() != 1 {
					t.Fatalf("%s %d: a snapshot is visible", op, n)
				}
				clean(t, m)
				arm(nil)
				run(t, m, j(2))
				wantTree(t, m, 2, "root.pxar", nil, d)
				wantTree(t, m, 2, "old.pxar", nil, d)
			})
			if !reached {
				if n == 1 {
					t.Fatalf("%s is never called", op)
				}
				break
			}
		}
	}
}

func TestCancellationEndsTheBackupOfDirectoriesCleanly(t *testing.T) {
	d := grove(t, 11)
	stop := errors.New("stop")
	for _, op := range []string{repotest.OpCreate, repotest.OpPut, repotest.OpAdd, repotest.OpRead, repotest.OpClose} {
		synctest.Test(t, func(t *testing.T) {
			m, j, arm := groveJob(t, d)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			arm(func(o string) error {
				if o == op {
					cancel(stop)
				}
				return nil
			})
			if _, err := backup.Run(ctx, m, j(1)); !errors.Is(err, stop) {
				t.Fatalf("%s: got %v", op, err)
			}
			if m.Snapshots() != 1 {
				t.Fatalf("%s: a snapshot is visible", op)
			}
			clean(t, m)
		})
	}
}

func TestWayToDetectChangesIsOneOfThree(t *testing.T) {
	if _, err := backup.ParseDetection("meta"); err == nil || !strings.Contains(err.Error(), "legacy, data or metadata") {
		t.Errorf("got %v", err)
	}
}
