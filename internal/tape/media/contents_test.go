package media

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

func (f fixture) contents(media ...Medium) *Contents {
	f.t.Helper()
	c, err := f.Contents(media)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	return c
}

func wantChunk(t *testing.T, c *Contents, store string, d digest.Digest, want At) {
	t.Helper()
	at, ok, err := c.Chunk(store, d)
	if err != nil || at != want || ok != (want != At{}) {
		t.Fatalf("chunk %s of %s is at %+v, %v, %v; want %+v", d, store, at, ok, err, want)
	}
}

func TestChunksOfASetAreFoundOnTheirMedium(t *testing.T) {
	f := newFixture(t)
	set := uuid.New()
	one, two := f.tape("tape1", set, 0), f.tape("tape2", set, 1)
	must(t,
		one.AddArchive(2, uuid.New(), "store1", chunks(0, 1000)),
		one.AddArchive(3, uuid.New(), "store2", chunks(500, 1500)),
		one.AddArchive(4, uuid.New(), "store1", nil),
		one.AddSnapshot(5, uuid.New(), "store1", snapshot(t, snap1)),
		two.AddArchive(9, uuid.New(), "store1", chunks(2000, 3000)),
		two.AddSnapshot(10, uuid.New(), "store2", snapshot(t, snap1)),
		one.Commit(), two.Commit())
	c := f.contents(one.Medium(), two.Medium())
	a, b := one.Medium().UUID(), two.Medium().UUID()
	for n := range uint64(3100) {
		var store1, store2 At
		switch {
		case n < 1000:
			store1 = At{a, 2}
		case n >= 2000 && n < 3000:
			store1 = At{b, 9}
		}
		if n >= 500 && n < 1500 {
			store2 = At{a, 3}
		}
		wantChunk(t, c, "store1", chunk(n), store1)
		wantChunk(t, c, "store2", chunk(n), store2)
		wantChunk(t, c, "store3", chunk(n), At{})
	}
	if at, ok, err := c.Snapshot("store2", snapshot(t, snap1)); at != (At{b, 10}) || !ok || err != nil {
		t.Fatal(at, ok, err)
	}
	if _, ok, err := c.Snapshot("store2", snapshot(t, snap2)); ok || err != nil {
		t.Fatal(ok, err)
	}
	var all []string
	for name := range c.Snapshots() {
		all = append(all, name)
	}
	if len(all) != 2 || all[0] != "store1:"+snap1 || all[1] != "store2:"+snap1 {
		t.Fatal(all)
	}
}

func TestContentsKnowWhatIsAddedToAFollowedCatalog(t *testing.T) {
	f := newFixture(t)
	set := uuid.New()
	one, two := f.tape("tape1", set, 0), f.tape("tape2", set, 1)
	must(t, one.AddArchive(2, uuid.New(), "store1", chunks(0, 10)), one.Commit())
	must(t, two.AddArchive(2, uuid.New(), "store1", chunks(10, 20)), two.Commit())
	c := f.contents(one.Medium())
	must(t, c.Follow(two))
	id := two.Medium().UUID()
	wantChunk(t, c, "store1", chunk(15), At{id, 2})
	wantChunk(t, c, "store1", chunk(5000), At{})
	must(t, two.AddArchive(3, uuid.New(), "store1", chunks(3000, 8000))) // more than fit at first
	wantChunk(t, c, "store1", chunk(5000), At{id, 3})
	must(t, two.AddSnapshot(4, uuid.New(), "store1", snapshot(t, snap1)))
	wantChunk(t, c, "store1", chunk(3000), At{id, 3})
	must(t, two.Commit())
	for n := range uint64(5000) {
		wantChunk(t, c, "store1", chunk(3000+n), At{id, 3})
	}
	wantChunk(t, c, "store1", chunk(9), At{one.Medium().UUID(), 2})
	must(t, two.AddArchive(5, uuid.New(), "store1", chunks(9000, 9001)))
	wantChunk(t, c, "store1", chunk(9000), At{id, 5})
	if at, ok, err := c.Snapshot("store1", snapshot(t, snap1)); at != (At{id, 4}) || !ok || err != nil {
		t.Fatal(at, ok, err)
	}
}

func TestChunksOfAnArchiveWithoutEndDoNotCount(t *testing.T) {
	f := newFixture(t)
	c := f.tape("tape1", uuid.New(), 0)
	must(t, c.AddArchive(2, uuid.New(), "store1", chunks(0, 10)), c.AddArchive(3, uuid.New(), "store1", chunks(10, 20)), c.Commit())
	must(t, c.f.Truncate(c.size-1))
	got := f.contents(c.Medium())
	if cuts := got.Cuts(); len(cuts) != 1 || cuts[0].Bytes == 0 || cuts[0].Err == nil {
		t.Fatalf("%+v", cuts)
	}
	wantChunk(t, got, "store1", chunk(3), At{c.Medium().UUID(), 2})
	wantChunk(t, got, "store1", chunk(13), At{})
}

func TestContentsNameTheMediumWithoutCatalog(t *testing.T) {
	f := newFixture(t)
	c := f.tape("tape1", uuid.New(), 0)
	must(t, f.removeCatalog(c.Medium().UUID()))
	if _, err := f.Contents([]Medium{c.Medium()}); !errors.Is(err, ErrNoCatalog) {
		t.Fatal(err)
	}
}

// bigSet is a set of two media with a million chunks of 100 archives.
func bigSet(b *testing.B) (fixture, []Medium) {
	f := newFixture(b)
	set := uuid.New()
	var media []Medium
	for tape := range uint64(2) {
		c := f.tape([]string{"tape1", "tape2"}[tape], set, tape)
		for i := range uint64(50) {
			from := (tape*50 + i) * 10_000
			must(b, c.AddArchive(2+2*i, uuid.New(), "store1", chunks(from, from+10_000)),
				c.AddSnapshot(3+2*i, uuid.New(), "store1", snapshot(b, snap1)))
		}
		must(b, c.Commit())
		media = append(media, c.Medium())
	}
	return f, media
}

func BenchmarkMillionChunks(b *testing.B) {
	f, media := bigSet(b)
	b.Run("load and find one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c, err := f.Contents(media)
			must(b, err)
			if _, ok, err := c.Chunk("store1", chunk(777_777)); !ok || err != nil {
				b.Fatal(ok, err)
			}
			must(b, c.Close())
		}
	})
	b.Run("find", func(b *testing.B) {
		c := f.contents(media...)
		n := uint64(0)
		for b.Loop() {
			if _, ok, err := c.Chunk("store1", chunk(n%1_000_000)); !ok || err != nil {
				b.Fatal(ok, err)
			}
			n++
		}
	})
	b.Run("miss", func(b *testing.B) {
		c := f.contents(media...)
		n := uint64(1 << 40)
		for b.Loop() {
			if _, ok, err := c.Chunk("store1", chunk(n)); ok || err != nil {
				b.Fatal(ok, err)
			}
			n++
		}
	})
}
