package datastore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

const (
	manyGroups = 50
	manyEach   = 200
)

// newManySnapshots makes a store of 10,000 small snapshots in 50 groups on the
// real file system. It writes the files itself, for the sake of speed.
func newManySnapshots(t testing.TB) *datastore.Store {
	t.Helper()
	dir := t.TempDir()
	fsys, err := vfs.OpenOS(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := datastore.Create(t.Context(), fsys, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	s, err := datastore.Open(fsys, datastore.Options{Location: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	c := newClient(t)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for g := range manyGroups {
		for i := range manyEach {
			n := snapshotAt(fmt.Sprint(100+g), start.Add(time.Duration(i)*time.Hour))
			m := manifest.New(n)
			m.SetNotes(fmt.Sprintf("backup %d of guest %d", i, g))
			if err := m.Add(manifest.File{Filename: contract.ImageName.String(), CryptMode: manifest.ModeNone, Size: uint64(32<<30 + i), Csum: digest.Of([]byte(n.String()))}); err != nil {
				t.Fatal(err)
			}
			text, err := m.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			raw, err := c.Encode(text)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(dir, n.Path()), 0o755); err != nil {
				t.Fatal(err)
			}
			write(n.Path()+"/index.json.blob", raw)
		}
		write(names.GroupPath(names.Root, names.Group{Type: names.VM, ID: fmt.Sprint(100 + g)})+"/owner", []byte("root@pam\n"))
	}
	return s
}

func TestTenThousandSnapshotsAreListedInOrder(t *testing.T) {
	t.Parallel() // it waits for the disk
	s := newManySnapshots(t)
	start := time.Now()
	infos, err := s.Snapshots(t.Context(), names.Root, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d snapshots in %v", len(infos), time.Since(start).Round(time.Millisecond))
	if len(infos) != manyGroups*manyEach {
		t.Fatalf("%d snapshots", len(infos))
	}
	for i, info := range infos {
		if i > 0 && infos[i-1].Snapshot.Compare(info.Snapshot) >= 0 {
			t.Fatalf("%s is listed before %s", infos[i-1].Snapshot, info.Snapshot)
		}
		want := fmt.Sprintf("backup %d of guest %d", i%manyEach, i/manyEach)
		if !info.Finished || info.Problem != nil || info.Notes != want || info.Size != int64(32<<30+i%manyEach) || info.Owner != "root@pam" {
			t.Fatalf("%+v, want %s", info, want)
		}
	}
	groups, err := s.Groups(t.Context(), names.Root)
	if err != nil || len(groups) != manyGroups {
		t.Fatalf("%d groups, %v", len(groups), err)
	}
	for _, g := range groups {
		if g.Count != manyEach {
			t.Fatalf("%+v", g)
		}
	}
}

// BenchmarkListOfTenThousandSnapshots reads a store that is in the page cache.
func BenchmarkListOfTenThousandSnapshots(b *testing.B) {
	s := newManySnapshots(b)
	b.ReportAllocs()
	var infos []repo.SnapshotInfo
	for b.Loop() {
		var err error
		if infos, err = s.Snapshots(b.Context(), names.Root, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/list")
	if len(infos) != manyGroups*manyEach {
		b.Fatal(len(infos))
	}
}
