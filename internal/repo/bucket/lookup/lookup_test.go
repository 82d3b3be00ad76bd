package lookup_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packindex"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog/catalogtest"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/lookup"
)

// bucket counts what is read of it.
type bucket struct {
	objstore.Store
	mu    sync.Mutex
	gets  int
	bytes int64
	err   error
}

func (b *bucket) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	b.mu.Lock()
	b.gets++
	b.bytes += n
	err := b.err
	b.mu.Unlock()
	if err != nil {
		return objstore.Object{}, err
	}
	return b.Store.Get(ctx, key, off, n)
}

func (b *bucket) asked() (gets int, bytes int64) {
	gets, bytes = b.gets, b.bytes
	b.gets, b.bytes = 0, 0
	return gets, bytes
}

func newBucket() *bucket { return &bucket{Store: mem.New(time.Now, false)} }

func name(session, i int) digest.Digest {
	return digest.Of(binary.LittleEndian.AppendUint64(nil, uint64(session)<<32|uint64(i)))
}

func place(session, i int) pack.Location {
	return pack.Location{Pack: pack.ID{Session: uint64(session), Number: uint32(i / 100)}, Off: uint32(i), Len: 7}
}

// put stores the index of a session with n chunks.
func put(t *testing.T, b *bucket, st catalogtest.State, session, n int) (key string) {
	t.Helper()
	var list []packindex.Entry
	for i := range n {
		list = append(list, packindex.Entry{Digest: name(session, i), Location: place(session, i)})
	}
	slices.SortFunc(list, func(a, b packindex.Entry) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	var out bytes.Buffer
	w := packindex.NewWriter(&out)
	for _, e := range list {
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	all, head, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	key = catalog.IndexKey(catalog.Number(session), 0)
	overwrite(t, b, key, out.Bytes())
	st[catalog.RunKey(catalog.Number(session), 0)] = fmt.Sprintf(`{"chunks":%d,"bytes":%d,"head":%d}`, n, all, head)
	return key
}

func overwrite(t *testing.T, b *bucket, key string, content []byte) {
	t.Helper()
	if _, err := b.Put(t.Context(), key, bytes.NewReader(content), objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, b *bucket, key string) []byte {
	t.Helper()
	all, _, err := objstore.ReadAll(t.Context(), b.Store, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func at(t *testing.T, x *lookup.Indexes, st catalogtest.State) *lookup.View {
	t.Helper()
	v, err := x.At(st)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func find(t *testing.T, v *lookup.View, d digest.Digest) (pack.Location, bool) {
	t.Helper()
	l, ok, err := v.Find(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return l, ok
}

func TestChunksAreFoundWithOneRequestAndOthersWithNone(t *testing.T) {
	b, st := newBucket(), catalogtest.State{}
	put(t, b, st, 1, 3000)
	put(t, b, st, 2, 50)
	x := lookup.New(b, lookup.Options{})
	v := at(t, x, st)
	if gets, _ := b.asked(); gets != 0 {
		t.Errorf("%d requests before the first question", gets)
	}
	for i := range 1000 {
		if l, ok := find(t, v, name(9, i)); ok {
			t.Fatalf("a chunk that is not there is found at %v", l)
		}
	}
	if gets, size := b.asked(); gets != 2 || size > 3000*4+16<<10 {
		t.Errorf("%d requests for %d bytes to find nothing, want the two heads", gets, size)
	}
	if l, ok := find(t, v, name(1, 77)); !ok || l != place(1, 77) {
		t.Errorf("found at %v, %v", l, ok)
	}
	if gets, size := b.asked(); gets != 1 || size != packindex.BlockSize {
		t.Errorf("%d requests for %d bytes to find one chunk", gets, size)
	}
	if l, ok := find(t, v, name(2, 3)); !ok || l != place(2, 3) {
		t.Errorf("found at %v, %v", l, ok)
	}
	if gets, _ := b.asked(); gets != 0 {
		t.Errorf("%d requests for a chunk of a small index", gets)
	}
	for i := range 3000 {
		if l, ok := find(t, v, name(1, i)); !ok || l != place(1, i) {
			t.Fatalf("found at %v, %v", l, ok)
		}
	}
	if gets, _ := b.asked(); gets > 12 {
		t.Errorf("%d requests for all 12 blocks", gets)
	}
	put(t, b, st, 3, 500)
	b.asked()
	if l, ok := find(t, at(t, x, st), name(3, 3)); !ok || l != place(3, 3) {
		t.Errorf("found at %v, %v", l, ok)
	}
	if gets, _ := b.asked(); gets != 2 {
		t.Errorf("%d requests to know one more index, and to look into it", gets)
	}
}

func TestIndexesInWhichMuchIsFoundAreReadInLargerPieces(t *testing.T) {
	b, st := newBucket(), catalogtest.State{}
	put(t, b, st, 1, 20_000) // 79 blocks
	v := at(t, lookup.New(b, lookup.Options{}), st)
	for i := range 20_000 {
		if _, ok := find(t, v, name(1, i)); !ok {
			t.Fatal("not found")
		}
	}
	if gets, _ := b.asked(); gets > 1+8+3 {
		t.Errorf("%d requests", gets)
	}
}

func TestPacksThatMayNotBeUsedAreNotFound(t *testing.T) {
	b, st := newBucket(), catalogtest.State{}
	put(t, b, st, 1, 500)
	id := func(i int) string { return place(1, i).Pack.String() }
	st["dead/00000000000000aa"] = fmt.Sprintf(`{"packs":[%q]}`, id(100))
	st["moved/"+id(200)] = `{"in":"s/x/m0"}`
	st["run/0000000000000002/00000000"] = fmt.Sprintf(`{"void":[%q]}`, id(300))
	v := at(t, lookup.New(b, lookup.Options{}), st)
	for i := range 500 {
		want := i < 100 || i >= 400
		if _, ok := find(t, v, name(1, i)); ok != want || v.May(place(1, i).Pack) != want {
			t.Fatalf("chunk %d: %v, want %v", i, ok, want)
		}
	}
}

func TestDamagedChunksAreWhereTheLogSays(t *testing.T) {
	b, st := newBucket(), catalogtest.State{}
	put(t, b, st, 1, 500)
	st[catalog.BadKey(name(1, 1))] = `{}`
	st[catalog.BadKey(name(1, 2))] = `{"pack":"000000000000000200000000","off":5,"len":6}`
	st[catalog.BadKey(name(1, 3))] = `{"pack":"000000000000000300000000","off":5,"len":6}`
	st["dead/00000000000000aa"] = `{"packs":["000000000000000300000000"]}`
	v := at(t, lookup.New(b, lookup.Options{}), st)
	if l, ok := find(t, v, name(1, 1)); ok {
		t.Errorf("one that is lost is found at %v", l)
	}
	if l, ok := find(t, v, name(1, 2)); !ok || l != (pack.Location{Pack: pack.ID{Session: 2}, Off: 5, Len: 6}) {
		t.Errorf("one that is elsewhere is found at %v, %v", l, ok)
	}
	if l, ok := find(t, v, name(1, 3)); ok {
		t.Errorf("one in a condemned pack is found at %v", l)
	}
}

func TestOldIndexesForWhichThereIsNoRoomAreLeftOut(t *testing.T) {
	b, st := newBucket(), catalogtest.State{}
	for s := 1; s <= 5; s++ {
		put(t, b, st, s, 1000) // heads of 3,148 bytes
	}
	v := at(t, lookup.New(b, lookup.Options{Heads: 10_000}), st)
	for s := 1; s <= 5; s++ {
		if _, ok := find(t, v, name(s, 0)); ok != (s >= 3) {
			t.Errorf("session %d: %v", s, ok)
		}
	}
}

func TestMergedIndexesCountAsTheNewestOfTheirSessions(t *testing.T) {
	b, st := newBucket(), catalogtest.State{}
	put(t, b, st, 1, 1000)
	put(t, b, st, 2, 1000)
	key := catalog.RunKey(1, 0)
	st[key] = strings.Replace(st[key], "{", `{"first":"0000000000000001","last":"0000000000000009",`, 1)
	v := at(t, lookup.New(b, lookup.Options{Heads: 4000}), st)
	if _, ok := find(t, v, name(1, 0)); !ok {
		t.Error("the merged one was left out")
	}
}

func TestDamagedIndexesHaveNothing(t *testing.T) {
	for what, spoil := range map[string]func(b []byte) []byte{
		"head":  func(b []byte) []byte { b[len(b)-30] ^= 1; return b },
		"short": func(b []byte) []byte { return b[:len(b)-1] },
		"block": func(b []byte) []byte {
			for i := range b[:packindex.BlockSize] {
				b[i] ^= 1
			}
			return b
		},
	} {
		b, st := newBucket(), catalogtest.State{}
		key := put(t, b, st, 1, 500)
		put(t, b, st, 2, 500)
		overwrite(t, b, key, spoil(read(t, b, key)))
		var warned []error
		v := at(t, lookup.New(b, lookup.Options{Warn: func(err error) { warned = append(warned, err) }}), st)
		missing := 0
		for range 2 {
			for i := range 500 {
				if _, ok := find(t, v, name(1, i)); !ok {
					missing++
				}
				if _, ok := find(t, v, name(2, i)); !ok {
					t.Fatal("the sound one is not searched")
				}
			}
		}
		want := 1000
		if what == "block" {
			want = 512 // that of the first block, twice
		}
		if missing != want || len(warned) != 1 || !strings.Contains(warned[0].Error(), key) {
			t.Errorf("%s: %d of 1000 are missing, %v", what, missing, warned)
		}
	}
}

func TestIndexesThatWereMergedMeanwhileHaveNothing(t *testing.T) {
	b, st := newBucket(), catalogtest.State{}
	key := put(t, b, st, 1, 500)
	v := at(t, lookup.New(b, lookup.Options{Warn: func(err error) { t.Error(err) }}), st)
	find(t, v, name(9, 9)) // the head is here
	w := at(t, lookup.New(b, lookup.Options{Warn: func(err error) { t.Error(err) }}), st)
	if err := b.Delete(t.Context(), []string{key}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, ok := find(t, v, name(1, 1)); ok {
			t.Error("found in what is not there")
		}
		if _, ok := find(t, w, name(1, 1)); ok {
			t.Error("found in what is not there")
		}
	}
}

func TestWhatCannotBeReadIsAnErrorAndAskedForAgain(t *testing.T) {
	b, st := newBucket(), catalogtest.State{}
	put(t, b, st, 1, 500)
	v := at(t, lookup.New(b, lookup.Options{}), st)
	for _, d := range []digest.Digest{name(9, 9), name(1, 1)} { // a head, a block
		b.err = errors.New("no route to host")
		if _, _, err := v.Find(t.Context(), d); !errors.Is(err, b.err) {
			t.Errorf("%v", err)
		}
		b.err = nil
		if _, ok := find(t, v, d); ok != (d == name(1, 1)) {
			t.Errorf("%s: %v", d, ok)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	b.err = context.Canceled
	if _, _, err := at(t, lookup.New(b, lookup.Options{}), st).Find(ctx, name(1, 1)); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

func TestManyAskAtOnce(t *testing.T) {
	b, st := newBucket(), catalogtest.State{}
	for s := 1; s <= 5; s++ {
		put(t, b, st, s, 1000)
	}
	x := lookup.New(b, lookup.Options{Blocks: 40_000}) // three blocks
	v := at(t, x, st)
	var wg sync.WaitGroup
	for s := 1; s <= 5; s++ {
		wg.Go(func() {
			for i := range 1000 {
				if l, ok, err := v.Find(t.Context(), name(s, i)); !ok || err != nil || l != place(s, i) {
					t.Errorf("%v, %v, %v", l, ok, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestRecordsThatAreNoneAreTold(t *testing.T) {
	for _, st := range []catalogtest.State{
		{"run/x": `{}`},
		{"run/0000000000000001/zz": `{}`},
		{"run/0000000000000001/00000000": `7`},
		{"dead/0000000000000001": `[]`},
		{"moved/12": `{}`},
	} {
		if _, err := lookup.New(newBucket(), lookup.Options{}).At(st); err == nil {
			t.Errorf("%v is taken", st)
		}
	}
}
