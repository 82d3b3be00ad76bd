package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/mediacatalog"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

func snapshot(t testing.TB, path string) names.Snapshot {
	t.Helper()
	s, err := names.ParseSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func chunk(n uint64) digest.Digest {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	return digest.Of(b[:])
}

func chunks(from, to uint64) []digest.Digest {
	list := make([]digest.Digest, 0, to-from)
	for ; from < to; from++ {
		list = append(list, chunk(from))
	}
	return list
}

// tape is a medium of a set with an open catalog.
func (f fixture) tape(text string, set uuid.UUID, seq uint64) *Catalog {
	f.t.Helper()
	id := f.medium(text, "p1", setLabel("p1", set, seq, int64(seq)), 0)
	c, err := f.NewCatalog(f.find(id))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	return c
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func (f fixture) path(name string) string { return filepath.Join(f.d.(osDisk).dir, name) }

const snap1, snap2 = "vm/100/2023-11-14T22:13:20Z", "ns/a/ct/7/2024-01-01T00:00:00Z"

func TestCatalogKeepsWhatWasCommitted(t *testing.T) {
	f := newFixture(t)
	c := f.tape("tape1", uuid.New(), 0)
	must(t,
		c.AddArchive(2, uuid.New(), "store1", chunks(0, 10)),
		c.AddSnapshot(3, uuid.New(), "store1", snapshot(t, snap1)),
		c.Commit(),
		c.AddSnapshot(4, uuid.New(), "store1", snapshot(t, snap2)),
		c.Close())
	list, err := f.Snapshots(c.Medium())
	if err != nil || len(list) != 1 || list[0] != "store1:"+snap1 {
		t.Fatal(list, err)
	}
	c, cut, err := f.OpenCatalog(c.Medium())
	if err != nil || cut.Bytes != 0 || c.NextFile() != 4 {
		t.Fatal(cut, err)
	}
	must(t, c.AddSnapshot(4, uuid.New(), "store1", snapshot(t, snap2)), c.Commit(), c.Close())
	if list, err = f.Snapshots(c.Medium()); err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
}

func TestLongCatalogIsAppendedTo(t *testing.T) {
	f := newFixture(t)
	f.replaced = 0
	c := f.tape("tape1", uuid.New(), 0)
	before, err := f.d.Stat(logName(c.Medium().UUID()))
	must(t, err)
	for i := range uint64(3) {
		path := snapshot(t, snap1)
		path.Time += int64(i)
		must(t, c.AddArchive(2+2*i, uuid.New(), "store1", chunks(10*i, 10*i+10)), c.AddSnapshot(3+2*i, uuid.New(), "store1", path), c.Commit())
	}
	after, err := f.d.Stat(logName(c.Medium().UUID()))
	must(t, err)
	if before.Inode != after.Inode {
		t.Error("the file was replaced")
	}
	if list, err := f.Snapshots(c.Medium()); err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	wantChunk(t, f.contents(c.Medium()), "store1", chunk(25), At{c.Medium().UUID(), 6})
}

func TestTornEndOfACatalogIsCutOff(t *testing.T) {
	f := newFixture(t)
	c := f.tape("tape1", uuid.New(), 0)
	must(t, c.AddSnapshot(2, uuid.New(), "store1", snapshot(t, snap1)), c.Commit(), c.Close())
	name := f.path(logName(c.Medium().UUID()))
	good, err := os.ReadFile(name)
	must(t, err)
	for what, tail := range map[string][]byte{
		"half a record": {'S', 1, 2, 3}, "zeros": make([]byte, 5000), "something else": bytes.Repeat([]byte{0x5a}, 600),
	} {
		must(t, os.WriteFile(name, append(bytes.Clone(good), tail...), 0o600))
		if list, err := f.Snapshots(c.Medium()); err != nil || len(list) != 1 {
			t.Errorf("%s: the reader finds %v, %v", what, list, err)
		}
		c, cut, err := f.OpenCatalog(c.Medium())
		if err != nil || cut.Bytes != int64(len(tail)) || cut.Err == nil || c.NextFile() != 3 {
			t.Errorf("%s: %+v, %v", what, cut, err)
			continue
		}
		must(t, c.AddSnapshot(3, uuid.New(), "store1", snapshot(t, snap2)), c.Commit(), c.Close())
		if list, err := f.Snapshots(c.Medium()); err != nil || len(list) != 2 {
			t.Errorf("%s: then the reader finds %v, %v", what, list, err)
		}
	}
}

func TestCatalogThatIsDamagedElsewhereIsRefused(t *testing.T) {
	f := newFixture(t)
	c := f.tape("tape1", uuid.New(), 0)
	must(t, c.AddArchive(2, uuid.New(), "store1", chunks(0, 1000)), c.Commit(), c.Close())
	name := f.path(logName(c.Medium().UUID()))
	b, err := os.ReadFile(name)
	must(t, err)
	clear(b[200:400]) // far from the end, where no crash reaches
	must(t, os.WriteFile(name, append(b, make([]byte, maxUnsynced)...), 0o600))
	for what, err := range map[string]error{
		"appending": func() error { _, _, err := f.OpenCatalog(c.Medium()); return err }(),
		"reading":   func() error { _, err := f.Snapshots(c.Medium()); return err }(),
		"contents":  func() error { _, err := f.Contents([]Medium{c.Medium()}); return err }(),
	} {
		if !errors.Is(err, mediacatalog.ErrCorrupt) || !strings.Contains(err.Error(), "tape1") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestCatalogOfAnotherMediumOrSetIsRefused(t *testing.T) {
	f := newFixture(t)
	c := f.tape("tape1", uuid.New(), 0)
	must(t, c.Close())
	m := c.Medium()
	elsewhere := m
	elsewhere.Set = setLabel("p1", uuid.New(), 0, 0)
	number := m
	number.Set = setLabel("p1", m.Set.UUID, 1, 0)
	free := m
	free.Set = nil
	for what, m := range map[string]Medium{"another set": elsewhere, "another number": number, "no set": free} {
		if _, _, err := f.OpenCatalog(m); !errors.Is(err, ErrOtherCatalog) {
			t.Errorf("%s: %v", what, err)
		}
		if ok, err := f.HasCatalog(m); ok || err != nil {
			t.Errorf("%s: %v, %v", what, ok, err)
		}
	}
	if ok, err := f.HasCatalog(m); !ok || err != nil {
		t.Error(ok, err)
	}
	other := m
	other.Label.UUID = uuid.New()
	must(t, os.Rename(f.path(logName(m.UUID())), f.path(logName(other.UUID()))))
	if _, _, err := f.OpenCatalog(other); !errors.Is(err, ErrOtherCatalog) {
		t.Errorf("another medium: %v", err)
	}
	if _, _, err := f.OpenCatalog(m); !errors.Is(err, ErrNoCatalog) {
		t.Errorf("no catalog: %v", err)
	}
	must(t, os.WriteFile(f.path(logName(m.UUID())), nil, 0o600))
	if _, _, err := f.OpenCatalog(m); !errors.Is(err, ErrOtherCatalog) {
		t.Errorf("an empty catalog: %v", err)
	}
}

func TestRebuiltCatalogCountsWhenItIsFinished(t *testing.T) {
	f := newFixture(t)
	c := f.tape("tape1", uuid.New(), 0)
	must(t, c.AddSnapshot(2, uuid.New(), "store1", snapshot(t, snap1)), c.Commit(), c.Close())
	m := c.Medium()
	given, err := f.Rebuild(m)
	must(t, err)
	must(t, given.AddSnapshot(2, uuid.New(), "store1", snapshot(t, snap2)), given.Commit(), given.Close())
	if list, err := f.Snapshots(m); err != nil || list[0] != "store1:"+snap1 {
		t.Fatal("a rebuild that was given up changed the catalog", list, err)
	}
	if _, err := os.Stat(f.path(tmpName(m.UUID()))); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("it left its file", err)
	}
	done, err := f.Rebuild(m)
	must(t, err)
	must(t, done.AddSnapshot(2, uuid.New(), "store1", snapshot(t, snap2)), done.Finish(), done.Close())
	if list, err := f.Snapshots(m); err != nil || len(list) != 1 || list[0] != "store1:"+snap2 {
		t.Fatal(list, err)
	}
}

func TestCatalogGoesToATapeAndComesBack(t *testing.T) {
	f, g := newFixture(t), newFixture(t)
	c := f.tape("tape1", uuid.New(), 0)
	must(t, c.AddArchive(2, uuid.New(), "store1", chunks(0, 10)), c.AddSnapshot(3, uuid.New(), "store1", snapshot(t, snap1)), c.Commit(), c.Close())
	m := c.Medium()
	r, size, err := f.Log(m)
	must(t, err)
	b, err := io.ReadAll(r)
	must(t, err, r.Close())
	if int64(len(b)) != size {
		t.Fatalf("%d of %d bytes", len(b), size)
	}
	must(t, g.Import(m, bytes.NewReader(b)))
	if list, err := g.Snapshots(m); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	other := m
	other.Set = setLabel("p1", uuid.New(), 0, 0)
	for what, err := range map[string]error{
		"half a catalog":           g.Import(m, bytes.NewReader(b[:len(b)-1])),
		"that of another set":      g.Import(other, bytes.NewReader(b)),
		"something else":           g.Import(m, strings.NewReader("hello")),
		"a tape that does not end": g.Import(m, io.MultiReader(bytes.NewReader(b), errorReader{})),
	} {
		if err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if list, err := g.Snapshots(m); err != nil || len(list) != 1 {
		t.Fatal("what was refused changed the catalog", list, err)
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errors.New("drive gone") }

func TestTwoWritersOfACatalogAreToldApart(t *testing.T) {
	f := newFixture(t)
	c := f.tape("tape1", uuid.New(), 0)
	other, _, err := f.OpenCatalog(c.Medium())
	must(t, err)
	must(t, c.AddSnapshot(2, uuid.New(), "store1", snapshot(t, snap1)), c.Commit())
	must(t, other.AddSnapshot(2, uuid.New(), "store1", snapshot(t, snap2)))
	if err := other.Commit(); err == nil {
		t.Fatal("it wrote over the other's records")
	}
	if err := other.Commit(); err == nil {
		t.Fatal("it tried again")
	}
	must(t, other.Close())
	if list, err := f.Snapshots(c.Medium()); err != nil || len(list) != 1 || list[0] != "store1:"+snap1 {
		t.Fatal(list, err)
	}
}

func TestSnapshotListIsKeptBesideTheCatalog(t *testing.T) {
	f := newFixture(t)
	c := f.tape("tape1", uuid.New(), 0)
	must(t, c.AddSnapshot(2, uuid.New(), "store1", snapshot(t, snap2)), c.AddSnapshot(3, uuid.New(), "store1", snapshot(t, snap1)), c.Commit())
	m := c.Medium()
	_, err := f.Snapshots(m)
	must(t, err)
	info, err := f.d.Stat(logName(m.UUID()))
	must(t, err)
	name := f.path(indexName(m.UUID()))
	b, err := os.ReadFile(name)
	if want := cacheID(info) + "\nstore1:" + snap2 + "\nstore1:" + snap1 + "\n"; err != nil || string(b) != want {
		t.Fatalf("%q, %v; want %q", b, err, want)
	}
	// It is believed as long as it is of this catalog, and not longer.
	must(t, os.WriteFile(name, []byte(cacheID(info)+"\nstore9:"+snap1+"\n"), 0o600))
	if list, err := f.Snapshots(m); err != nil || len(list) != 1 || list[0] != "store9:"+snap1 {
		t.Fatal(list, err)
	}
	for what, text := range map[string]string{"another": "0000\nstore9:x\n", "half": cacheID(info) + "\nstore9:" + snap1, "none": "", "foreign": cacheID(info) + "\nx\n"} {
		must(t, os.WriteFile(name, []byte(text), 0o600))
		if list, err := f.Snapshots(m); err != nil || len(list) != 2 {
			t.Fatal(what, list, err)
		}
	}
	must(t, c.AddSnapshot(4, uuid.New(), "store2", snapshot(t, snap1)), c.Commit())
	if list, err := f.Snapshots(m); err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
}
