package reading_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog/catalogtest"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/reading"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// same reads a chunk and compares it.
func same(t *testing.T, p *reading.Snapshot, c chunk) {
	t.Helper()
	raw, err := p.ReadChunk(t.Context(), c.d, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, c.raw) {
		t.Fatalf("chunk %s: %d bytes, want %d others", c.d, len(raw), len(c.raw))
	}
}

func TestFilesAreWhatTheManifestSays(t *testing.T) {
	w := build(t, 300)
	p := w.open(0)
	if p.Name() != snapshot || len(p.Manifest().Files) != 3 {
		t.Errorf("%s with %d files", p.Name(), len(p.Manifest().Files))
	}
	if gets := w.store.asked(); gets != 0 {
		t.Errorf("%d requests to open it", gets)
	}
	x, c, err := p.OpenFixed(image)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := x.Digest(123); err != nil || d != w.chunks[123].d {
		t.Errorf("%s, %v", d, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	y, c, err := p.OpenDynamic(tree)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := y.Entry(123); err != nil || e.Digest != w.chunks[123].d {
		t.Errorf("%v, %v", e, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if raw, err := p.Blob(config); err != nil || len(raw) == 0 {
		t.Errorf("%x, %v", raw, err)
	}
	raw, err := p.Blob(names.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := spool.Manifest(raw, snapshot); err != nil || len(m.Files) != 3 {
		t.Errorf("%v, %v", m, err)
	}
	for _, name := range []names.Archive{"other.img.fidx", names.ClientLog} {
		if _, err := p.Blob(name); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := p.OpenFixed("other.img.fidx"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestTheClientsLogMayComeLater(t *testing.T) {
	w := build(t, 1)
	p := w.open(0)
	w.put(catalog.LogObject(7), []byte("what happened"))
	if _, err := p.Blob(names.ClientLog); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("nobody has said that it is there: %v", err)
	}
	w.rec.Log = 1
	w.record()
	if raw, err := p.Blob(names.ClientLog); err != nil || string(raw) != "what happened" {
		t.Errorf("%q, %v", raw, err)
	}
}

func TestDamagedFilesAreCorrupt(t *testing.T) {
	w := build(t, 20)
	key := catalog.SnapshotObject(7)
	good, _, err := objstore.ReadAll(t.Context(), w.store.Store, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range append(w.rec.Files, catalog.File{Name: "chunk map", Span: w.rec.Map}) {
		for what, spoil := range map[string]func() []byte{
			"changed": func() []byte {
				b := bytes.Clone(good)
				b[f.Off+f.Len-1] ^= 1
				return b
			},
			"cut": func() []byte { return good[:f.Off+f.Len-1] },
		} {
			w.put(key, spoil())
			p := w.open(0)
			switch i {
			case 0:
				_, _, err = p.OpenFixed(f.Name)
			case 1:
				_, _, err = p.OpenDynamic(f.Name)
			case 2:
				_, err = p.Blob(f.Name)
			default:
				_, err = p.ReadChunk(t.Context(), w.chunks[0].d, nil)
			}
			if c, ok := errors.AsType[*repo.CorruptError](err); !ok || !strings.Contains(c.What, string(f.Name)) {
				t.Errorf("%s %s: %v", f.Name, what, err)
			}
		}
	}
}

func TestAnObjectThatIsGoneIsDamageOrARemovedSnapshot(t *testing.T) {
	w := build(t, 20)
	w.remove(catalog.SnapshotObject(7))
	_, _, err := w.open(0).OpenFixed(image)
	if _, ok := errors.AsType[*repo.CorruptError](err); !ok {
		t.Errorf("the snapshot is listed: %v", err)
	}
	w.mu.Lock()
	w.now = catalogtest.State{}
	w.mu.Unlock()
	if _, _, err := w.open(0).OpenFixed(image); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("the snapshot was removed: %v", err)
	}
}

func TestEveryChunkIsRead(t *testing.T) {
	w := build(t, 300)
	p := w.open(0)
	for _, c := range w.chunks {
		same(t, p, c)
	}
	if _, err := p.ReadChunk(t.Context(), digest.Digest{1}, nil); !errors.Is(err, repo.ErrChunkMissing) {
		t.Errorf("one that no index names: %v", err)
	}
	raw, back, err := p.LendChunk(t.Context(), w.chunks[5].d)
	if err != nil || !bytes.Equal(raw, w.chunks[5].raw) {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	back()
	r, n, err := p.OpenChunk(t.Context(), w.chunks[6].d)
	if err != nil || n != int64(len(w.chunks[6].raw)) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if raw, err := io.ReadAll(r); err != nil || !bytes.Equal(raw, w.chunks[6].raw) {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// A reader who announces far enough waits for nothing but the line, and takes few
// requests.
func TestAnnouncedChunksComeTogetherAndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 1000) // 32 MiB in 32 packs
		w.store.latency = 30 * time.Millisecond
		p := w.open(0)
		same(t, p, w.chunks[0])
		w.store.asked()
		start := time.Now()
		p.Prefetch(w.digests()[1:])
		for _, c := range w.chunks[1:] {
			same(t, p, c)
		}
		gets := w.store.asked()
		if took := time.Since(start); took > 300*time.Millisecond {
			t.Errorf("it took %v with %d requests", took, gets)
		}
		if gets > 70 {
			t.Errorf("%d requests for 1,000 chunks in 32 packs", gets)
		}
	})
}

// Chunks that lie far from each other take a request each, and the more at once the
// longer the reader waits.
func TestMoreRequestsAreOnTheirWayWhenTheReaderWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 4000) // 128 MiB
		w.store.latency = 30 * time.Millisecond
		p := w.open(0)
		var far []chunk
		for i := 0; i < len(w.chunks); i += 5 {
			far = append(far, w.chunks[i])
		}
		var ds []digest.Digest
		for _, c := range far {
			ds = append(ds, c.d)
		}
		p.Prefetch(ds)
		most := 0
		for _, c := range far {
			same(t, p, c)
			w.store.mu.Lock()
			most = max(most, w.store.most)
			w.store.mu.Unlock()
		}
		if most < 64 || most > 130 {
			t.Errorf("%d requests at once", most)
		}
	})
}

func TestWhatIsFetchedAheadStaysWithinTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 400)
		const budget = 1 << 20
		p := w.open(budget)
		same(t, p, w.chunks[0])
		w.store.asked()
		p.Prefetch(w.digests()[1:])
		synctest.Wait()
		if w.store.bytes > budget+1<<20 || w.store.bytes < budget/2 { // gaps are none
			t.Errorf("%d bytes were asked for with a budget of %d", w.store.bytes, budget)
		}
		for _, c := range w.chunks[1:] {
			same(t, p, c)
		}
	})
}

// What was announced and is not what is read must not stop what is.
func TestWrongGuessesMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 800)
		p := w.open(1 << 20)
		p.Prefetch(w.digests()[:60]) // more than there is room for
		synctest.Wait()
		p.Prefetch(w.digests()[60:100])
		for _, c := range w.chunks[60:400] { // in the line behind them, and not announced
			same(t, p, c)
		}
		synctest.Wait()
		w.store.asked()
		p.Prefetch(w.digests()[400:430])
		synctest.Wait()
		if gets := w.store.asked(); gets == 0 {
			t.Error("nothing is fetched ahead any more")
		}
		for _, c := range w.chunks[400:420] {
			same(t, p, c)
		}
		if gets := w.store.asked(); gets > 1 {
			t.Errorf("%d requests for what was fetched ahead", gets)
		}
	})
}

func TestPacksThatMovedAreReadWhereTheyAre(t *testing.T) {
	for _, announced := range []bool{false, true} {
		w := build(t, 200)
		p := w.open(0)
		w.move(1, 0)
		w.move(3, 5)
		if announced {
			p.Prefetch(w.digests())
		}
		for _, c := range w.chunks {
			same(t, p, c)
		}
		if w.refreshed == 0 || w.refreshed > 200 {
			t.Errorf("the state was asked for %d times", w.refreshed)
		}
	}
}

// A pack goes a little before the state says that it is gone.
func TestAMovedChunkIsFoundWhileItsPackIsBeingRemoved(t *testing.T) {
	for _, announced := range []bool{false, true} {
		w := build(t, 100)
		p := w.open(0)
		w.moved(1, 0, false)
		if announced {
			p.Prefetch(w.digests())
		}
		for _, c := range w.chunks {
			same(t, p, c)
		}
	}
}

// A pack may be written anew once more, and the list that was made of it before is removed.
func TestAnOlderListOfMovedChunksMayBeGone(t *testing.T) {
	w := build(t, 100)
	p := w.open(0)
	c := w.chunks[99]
	w.moved(c.at.Pack.Number, 0, true)
	key := catalog.MovedKey(c.at.Pack)
	old := func() {
		w.seen = maps.Clone(w.now)
		w.seen[key] = `{"in":"s/0000000000000008/m00000000","len":80,"void":true}`
	}
	old()
	l, err := p.Locate(t.Context(), c.d)
	if want := (pack.Location{Pack: pack.ID{Session: 9}, Off: c.at.Off + 5, Len: c.at.Len}); err != nil || l != want || w.refreshed != 1 {
		t.Errorf("it lies at %v, %v, want %v; the state was asked for %d times", l, err, want, w.refreshed)
	}
	old()
	same(t, p, c)
	old()
	w.now = w.seen
	if _, err := p.Locate(t.Context(), c.d); !errors.Is(err, objstore.ErrNotFound) || w.refreshed != 3 {
		t.Errorf("one that is lost: %v; the state was asked for %d times", err, w.refreshed)
	}
}

func TestDamagedChunksAreReadWhereASoundOneLies(t *testing.T) {
	w := build(t, 200)
	p := w.open(0)
	good := w.chunks[9]
	sound := []byte("another encoding of the same data")
	w.put(pack.ID{Session: 9}.Key(), append([]byte("xyz"), sound...))
	w.seen[catalog.BadKey(good.d)] = `{"pack":"000000000000000900000000","off":3,"len":33}`
	if raw, err := p.ReadChunk(t.Context(), good.d, nil); err != nil || !bytes.Equal(raw, sound) {
		t.Errorf("%q, %v", raw, err)
	}
	w.seen[catalog.BadKey(good.d)] = `{}` // nobody has one: what is there may be of use
	same(t, p, good)
}

func TestChunksThatAreNowhereAreMissing(t *testing.T) {
	w := build(t, 200)
	p := w.open(0)
	w.remove(pack.ID{Session: 7, Number: 1}.Key())
	p.Prefetch(w.digests())
	missing := 0
	for _, c := range w.chunks {
		if _, err := p.ReadChunk(t.Context(), c.d, nil); errors.Is(err, repo.ErrChunkMissing) {
			missing++
			if c.at.Pack.Number != 1 {
				t.Errorf("chunk %s of pack %s: %v", c.d, c.at.Pack, err)
			}
		} else if err != nil {
			t.Error(err)
		}
	}
	if missing == 0 {
		t.Error("all are there")
	}
}

// Who reads a snapshot for so long that others have removed it and what it needs must not take
// that for damage.
func TestChunksOfARemovedSnapshotAreNotMissing(t *testing.T) {
	for _, announced := range []bool{false, true} {
		w := build(t, 100)
		p := w.open(0)
		w.now = maps.Clone(w.now)
		delete(w.now, catalog.SnapshotKey(snapshot))
		c := w.chunks[0]
		w.remove(c.at.Pack.Key())
		if announced {
			p.Prefetch(w.digests())
		}
		_, err := p.ReadChunk(t.Context(), c.d, nil)
		if !errors.Is(err, repo.ErrNotFound) || errors.Is(err, repo.ErrChunkMissing) || !strings.Contains(err.Error(), "was removed") {
			t.Errorf("%v", err)
		}
		if _, err := w.open(0).ReadChunk(t.Context(), c.d, nil); !errors.Is(err, repo.ErrChunkMissing) { // it is of the past
			t.Errorf("one that was removed before it was opened: %v", err)
		}
	}
}

func TestACutPackIsDamage(t *testing.T) {
	w := build(t, 200)
	id := pack.ID{Session: 7, Number: 1}
	b, _, err := objstore.ReadAll(t.Context(), w.store.Store, id.Key(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	w.put(id.Key(), b[:len(b)/2])
	p := w.open(0)
	p.Prefetch(w.digests())
	damaged := 0
	for _, c := range w.chunks {
		raw, err := p.ReadChunk(t.Context(), c.d, nil)
		_, damage := errors.AsType[*repo.CorruptError](err)
		switch {
		case damage || errors.Is(err, repo.ErrChunkMissing):
			damaged++
			if c.at.Pack != id || int(c.at.Off+c.at.Len) <= len(b)/2 {
				t.Errorf("chunk %s at %v: %v", c.d, c.at, err)
			}
		case err != nil || !bytes.Equal(raw, c.raw):
			t.Errorf("chunk %s: %v", c.d, err)
		}
	}
	if damaged == 0 {
		t.Error("all are there")
	}
}

func TestConnectionsThatBreakAreTakenUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 100)
		w.store.breakAt = 50_001
		p := w.open(0)
		p.Prefetch(w.digests()[:70])
		for _, c := range w.chunks {
			same(t, p, c)
		}
	})
}

func TestTroubleIsToldAndNotKept(t *testing.T) {
	w := build(t, 100)
	p := w.open(0)
	trouble := errors.New("no route to host")
	w.store.fail(trouble)
	read := func(want error) {
		t.Helper()
		p.Prefetch(w.digests()[:50])
		for _, c := range w.chunks {
			if _, err := p.ReadChunk(t.Context(), c.d, nil); !errors.Is(err, want) {
				t.Fatalf("%v, want %v", err, want)
			}
		}
	}
	read(trouble) // the chunk map
	w.store.fail(nil)
	read(nil)
	w.store.fail(trouble)
	read(trouble) // the chunks
	w.store.fail(nil)
	read(nil)
}

func TestAReaderMayStopWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 100)
		p := w.open(0)
		same(t, p, w.chunks[0])
		w.store.latency = time.Hour
		why := errors.New("enough")
		for _, announced := range []bool{false, true} {
			if announced {
				p.Prefetch(w.digests())
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
			if _, err := p.ReadChunk(ctx, w.chunks[50].d, nil); !errors.Is(err, why) {
				t.Errorf("%v", err)
			}
			cancel()
		}
	})
}

func TestClosingEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 500)
		w.store.latency = time.Hour
		p := w.open(0)
		var wg sync.WaitGroup
		wg.Go(func() { // the chunk map
			if _, err := p.ReadChunk(t.Context(), w.chunks[1].d, nil); err == nil {
				t.Error("a chunk is read from a closed snapshot")
			}
		})
		p.Prefetch(w.digests())
		synctest.Wait()
		start := time.Now()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %v", took)
		}

		w.store.latency = 0
		p = w.open(0)
		same(t, p, w.chunks[0])
		w.store.latency = time.Hour
		p.Prefetch(w.digests())
		synctest.Wait()
		start = time.Now()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %v", took)
		}
		p.Prefetch(w.digests())
	})
}

func TestManyReadAtOnce(t *testing.T) {
	w := build(t, 500)
	p := w.open(4 << 20)
	ds := w.digests()
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			for i := 0; i < len(ds); i++ {
				if i%20 == 0 {
					next := ds[i:min(i+40, len(ds))]
					if k%2 == 1 {
						next = slices.Clone(next)
						slices.Reverse(next)
					}
					p.Prefetch(next)
				}
				raw, back, err := p.LendChunk(t.Context(), ds[i])
				if err != nil || !bytes.Equal(raw, w.chunks[i].raw) {
					t.Errorf("chunk %d: %d bytes, %v", i, len(raw), err)
					return
				}
				clear(raw) // it is ours
				back()
			}
		})
	}
	wg.Wait()
}

func TestRecordsThatCannotBeAreRefused(t *testing.T) {
	w := build(t, 3)
	w.rec.Manifest = []byte(`{}`)
	if _, err := reading.Open(t.Context(), snapshot, w.rec, reading.Options{}); err == nil {
		t.Error("a record without a manifest is opened")
	}
	w = build(t, 3)
	w.rec.Map.Len = -1
	if _, err := w.open(0).ReadChunk(t.Context(), w.chunks[0].d, nil); err == nil {
		t.Error("a map of negative length is read")
	}
	w = build(t, 3)
	w.rec.Files[2].Len = 1 << 60
	if _, err := w.open(0).Blob(config); err == nil {
		t.Error("a blob of an exabyte is read")
	}
	w.rec.Files = w.rec.Files[:2]
	if _, err := w.open(0).Blob(config); err == nil {
		t.Error("a blob without a place is read")
	}
}
