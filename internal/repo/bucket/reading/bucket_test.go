package reading_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkmap"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/moves"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog/catalogtest"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/lookup"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/reading"
)

const (
	image  = names.Archive("disk.img.fidx")
	tree   = names.Archive("root.pxar.didx")
	config = names.Archive("vm.conf.blob")
	slot   = 64 << 10 // bytes of a chunk, plain
)

var snapshot = names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000}

// chunk is one that was stored.
type chunk struct {
	d   digest.Digest
	raw []byte
	at  pack.Location
}

// world is a bucket with one snapshot in it.
type world struct {
	t      testing.TB
	store  *far
	chunks []chunk // in the order of the image
	rec    catalog.Snapshot

	mu        sync.Mutex
	seen, now catalogtest.State
	refreshed int
}

// build stores a snapshot of n chunks of random lengths, in packs of 1 MiB.
func build(t testing.TB, n int) *world {
	t.Helper()
	w := &world{t: t, store: &far{Store: mem.New(time.Now, false)}, seen: catalogtest.State{}, now: catalogtest.State{}}
	t.Cleanup(func() { // when all snapshots are closed
		if w.store.open != 0 {
			t.Errorf("%d objects are still open", w.store.open)
		}
		if n := pagebuf.Outstanding(); n != 0 {
			t.Errorf("%d buffers were not freed", n)
		}
	})
	rng := rand.New(rand.NewPCG(1, 2))
	noise := rand.NewChaCha8([32]byte{1})
	var p []byte
	var table []pack.Entry
	id := pack.ID{Session: 7}
	sizes := map[pack.ID]uint32{}
	flush := func() {
		p = pack.AppendTable(p, table)
		sizes[id] = uint32(len(p))
		w.put(id.Key(), p)
		p, table = nil, nil
		id.Number++
	}
	for i := range n {
		raw := make([]byte, 100+rng.IntN(slot))
		noise.Read(raw)
		binary.LittleEndian.PutUint64(raw, uint64(i))
		c := chunk{digest.Of(raw), raw, pack.Location{Pack: id, Off: uint32(len(p)), Len: uint32(len(raw))}}
		w.chunks = append(w.chunks, c)
		p = append(p, raw...)
		table = append(table, pack.Entry{Digest: c.d, Len: c.at.Len})
		if len(p) >= 1<<20 || i == n-1 {
			flush()
		}
	}
	w.object(sizes)
	return w
}

// object stores the files of the snapshot.
func (w *world) object(sizes map[pack.ID]uint32) {
	w.t.Helper()
	m := manifest.New(snapshot)
	var obj bytes.Buffer
	add := func(name names.Archive, raw []byte, size uint64, sum digest.Digest) {
		if err := m.Add(manifest.File{Filename: name.String(), CryptMode: manifest.ModeNone, Size: size, Csum: sum}); err != nil {
			w.t.Fatal(err)
		}
		w.rec.Files = append(w.rec.Files, catalog.File{Name: name, Span: catalog.Span{Off: int64(obj.Len()), Len: int64(len(raw))}})
		obj.Write(raw)
	}
	var table []byte
	for _, c := range w.chunks {
		table = append(table, c.d[:]...)
	}
	h := fidx.Header{Sum: digest.Of(table), Size: uint64(len(w.chunks)) * slot, ChunkSize: slot}
	add(image, append(h.Append(nil), table...), h.Size, h.Sum)
	table = nil
	for i, c := range w.chunks {
		table = didx.Entry{End: uint64(i+1) * slot, Digest: c.d}.Append(table)
	}
	dh := didx.Header{Sum: digest.Of(table)}
	add(tree, append(dh.Append(nil), table...), h.Size, dh.Sum)
	enc, err := blob.NewEncoder(nil, nil, true)
	if err != nil {
		w.t.Fatal(err)
	}
	defer enc.Close()
	raw, err := enc.Append(nil, []byte("memory: 2048"))
	if err != nil {
		w.t.Fatal(err)
	}
	add(config, raw, uint64(len(raw)), digest.Of(raw))

	at := int64(obj.Len())
	cm := chunkmap.NewWriter(&obj)
	sorted := slices.Clone(w.chunks)
	slices.SortFunc(sorted, func(a, b chunk) int { return bytes.Compare(a.d[:], b.d[:]) })
	for _, c := range sorted {
		if err := cm.Add(c.d, c.at); err != nil {
			w.t.Fatal(err)
		}
	}
	n, err := cm.Close(func(id pack.ID) (uint32, error) { return sizes[id], nil })
	if err != nil {
		w.t.Fatal(err)
	}
	w.rec.Session = 7
	w.rec.Map = catalog.Span{Off: at, Len: n}
	if w.rec.Manifest, err = m.Marshal(); err != nil {
		w.t.Fatal(err)
	}
	w.put(catalog.SnapshotObject(7), obj.Bytes())
	w.record()
}

// record puts the snapshot's record into the state.
func (w *world) record() {
	tx := &tx{catalogtest.State{}}
	if err := catalog.Set(tx, catalog.SnapshotKey(snapshot), w.rec); err != nil {
		w.t.Fatal(err)
	}
	maps.Copy(w.seen, tx.State)
	maps.Copy(w.now, tx.State)
}

type tx struct{ catalogtest.State }

func (t *tx) Set(key string, value []byte) { t.State[key] = string(value) }
func (t *tx) Delete(key string)            { delete(t.State, key) }
func (t *tx) Seq() uint64                  { return 1 }

func (w *world) put(key string, content []byte) {
	w.t.Helper()
	if _, err := w.store.Put(context.Background(), key, bytes.NewReader(content), objstore.PutOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) remove(key string) {
	w.t.Helper()
	if err := w.store.Delete(context.Background(), []string{key}); err != nil {
		w.t.Fatal(err)
	}
}

// move writes a pack anew and removes the old one, of which the state says that it
// is gone. Only who asks anew is told.
func (w *world) move(from, to uint32) { w.moved(from, to, true) }

func (w *world) moved(from, to uint32, void bool) {
	w.t.Helper()
	old, _, err := objstore.ReadAll(context.Background(), w.store.Store, pack.ID{Session: 7, Number: from}.Key(), 1<<30)
	if err != nil {
		w.t.Fatal(err)
	}
	id := pack.ID{Session: 9, Number: to}
	w.put(id.Key(), append([]byte("12345"), old...))
	var list bytes.Buffer
	m := moves.NewWriter(&list)
	for _, c := range w.chunks {
		if c.at.Pack == (pack.ID{Session: 7, Number: from}) {
			if err := m.Add(moves.Place{Pack: c.at.Pack, Off: c.at.Off}, moves.Place{Pack: id, Off: c.at.Off + 5}); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	n, err := m.Close()
	if err != nil {
		w.t.Fatal(err)
	}
	key := fmt.Sprintf("s/%016x/m%08x", 9, from)
	w.put(key, list.Bytes())
	w.now[catalog.MovedKey(pack.ID{Session: 7, Number: from})] = fmt.Sprintf(`{"in":%q,"len":%d,"void":%v}`, key, n, void)
	w.remove(pack.ID{Session: 7, Number: from}.Key())
}

// open opens the snapshot, until the test ends.
func (w *world) open(budget int64) *reading.Snapshot {
	w.t.Helper()
	p, err := reading.Open(w.t.Context(), snapshot, w.rec, reading.Options{
		Store: w.store, Moves: lookup.NewMoves(w.store, 1<<20), Budget: budget,
		Seen: func() catalog.Reader {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.seen
		},
		Refresh: func(context.Context) (catalog.Reader, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.refreshed++
			w.seen = w.now
			return w.now, nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := p.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return p
}

func (w *world) digests() []digest.Digest {
	var ds []digest.Digest
	for _, c := range w.chunks {
		ds = append(ds, c.d)
	}
	return ds
}

// far is a store whose answers take their time.
type far struct {
	objstore.Store
	latency time.Duration
	rate    int64 // bytes a second of one request; 0: any

	mu               sync.Mutex
	gets, open, most int
	bytes            int64
	breakAt          int   // each body ends after so many bytes; 0: no
	err              error // of each Get
	keys             []string
}

func (s *far) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	s.mu.Lock()
	s.gets++
	s.open++
	s.most = max(s.most, s.open)
	s.bytes += n
	s.keys = append(s.keys, fmt.Sprintf("%s [%d,+%d)", key, off, n))
	err := s.err
	s.mu.Unlock()
	if s.latency > 0 {
		select {
		case <-time.After(s.latency):
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	var o objstore.Object
	if err == nil {
		o, err = s.Store.Get(ctx, key, off, n)
	}
	if err != nil {
		s.closed()
		return objstore.Object{}, err
	}
	o.ReadCloser = &slow{o, s, 0}
	return o, nil
}

func (s *far) fail(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
}

func (s *far) closed() {
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
}

func (s *far) asked() (gets int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gets = s.gets
	s.gets, s.bytes, s.keys, s.most = 0, 0, nil, s.open
	return gets
}

type slow struct {
	objstore.Object
	s *far
	n int
}

var errLine = errors.New("connection reset by peer")

func (b *slow) Read(p []byte) (int, error) {
	if at := b.s.breakAt; at > 0 {
		if b.n == at {
			return 0, errLine
		}
		p = p[:min(len(p), at-b.n)]
	}
	n, err := b.Object.Read(p)
	b.n += n
	if b.s.rate > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(b.s.rate))
	}
	return n, err
}

func (b *slow) Close() error {
	b.s.closed()
	return b.Object.Close()
}
