package media

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/mediacatalog"
)

// pbsState is a copy of the state that a real server kept.
func pbsState(t *testing.T) fixture {
	t.Helper()
	f := newFixture(t)
	must(t, os.CopyFS(f.d.(osDisk).dir, os.DirFS("testdata/pbs-4.2.1")))
	return f
}

func TestInventoryOfPBSIsWrittenAsItWas(t *testing.T) {
	want, err := os.ReadFile("testdata/pbs-4.2.1/inventory.json")
	must(t, err)
	inv, err := ParseInventory(want)
	must(t, err)
	if got, err := inv.JSON(); err != nil || string(got) != string(want) {
		t.Fatalf("%v\n%s", err, got)
	}
}

func TestMediaSetOfPBSIsOpenedAndGoneOnWith(t *testing.T) {
	f := pbsState(t)
	inv := f.inventory()
	set, ok := inv.Current("daily")
	if !ok {
		t.Fatal("the pool has no current set")
	}
	media, err := inv.SetMedia(set)
	if err != nil || len(media) != 2 || media[0].Label.Text != "HF0001L8" || media[1].Label.Text != "HF0002L8" {
		t.Fatalf("%+v, %v", media, err)
	}
	v, err := NewView(inv, Pool{Name: "daily"}, time.Unix(1795991300, 0), time.UTC)
	must(t, err)
	if a, b := v.Status(media[0]), v.Status(media[1]); a != Full || b != Writable {
		t.Fatal(a, b)
	}
	if name := inv.SetName(set, "", time.UTC); name != "Sun Nov 29 22:27:16 2026" { // as PBS lists it
		t.Fatal(name)
	}
	c := f.contents(media...)
	var all []string
	for name, at := range c.Snapshots() {
		if at.Medium != media[1].UUID() {
			t.Errorf("%s is at %+v", name, at)
		}
		all = append(all, name)
	}
	if want := []string{"store1:host/one/2026-11-29T22:27:05Z", "store1:host/one/2026-11-29T22:27:10Z", "store1:ns/ns1/host/two/2026-11-29T22:27:08Z"}; !slices.Equal(all, want) {
		t.Errorf("%q", all)
	}
	found := 0
	for _, m := range media {
		_, err := f.Catalogued(m, func(r *Record) error {
			if r.Kind != mediacatalog.Chunk {
				return nil
			}
			found++
			wantChunk(t, c, "store1", r.Digest, At{m.UUID(), r.File})
			return nil
		})
		must(t, err)
	}
	if found != 24 {
		t.Errorf("%d chunks", found)
	}
	cat, cut, err := f.OpenCatalog(media[1])
	if err != nil || cut.Bytes != 0 || cat.NextFile() != 8 {
		t.Fatal(cut, err)
	}
	must(t, cat.AddSnapshot(9, uuid.New(), "store1", snapshot(t, snap1)), cat.Commit(), cat.Close())
}

func TestSnapshotListOfPBSIsUsedAsItIs(t *testing.T) {
	f := pbsState(t)
	m, err := f.inventory().FindLabel("HF0011L8")
	must(t, err)
	info, err := f.d.Stat(logName(m.UUID()))
	must(t, err)
	b, err := os.ReadFile(f.path(indexName(m.UUID())))
	must(t, err)
	// The copy of the catalog is another file than the one the list is of.
	const width = len("00000000009D80FB-000000000000015F-000000006B0CA700")
	kept := append([]byte(cacheID(info)), b[width:]...)
	must(t, os.WriteFile(f.path(indexName(m.UUID())), kept, 0o600))
	list, ok := f.cached(m, cacheID(info))
	if !ok || !slices.Equal(list, []string{"store2:host/tiny/2026-11-29T22:28:00Z", "store2:ns/ns1/host/tiny/2026-11-29T22:28:01Z"}) {
		t.Fatal(list, ok)
	}
	must(t, os.Remove(f.path(indexName(m.UUID()))))
	if again, err := f.Snapshots(m); err != nil || !slices.Equal(again, list) {
		t.Fatal(again, err)
	}
	if made, err := os.ReadFile(f.path(indexName(m.UUID()))); err != nil || string(made) != string(kept) {
		t.Fatalf("%v: made\n%s\nand PBS\n%s", err, made, kept)
	}
}
