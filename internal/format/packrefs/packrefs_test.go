package packrefs_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
	"github.com/holdfast-backup/holdfast/internal/zstd"
)

func write(t testing.TB, packs []packrefs.Pack) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := packrefs.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range packs {
		if err := w.Add(&packs[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(r io.Reader) (packs []packrefs.Pack, err error) {
	for p, err := range packrefs.Scan(r) {
		if err != nil {
			return nil, err
		}
		packs = append(packs, *p)
	}
	return packs, nil
}

func few() []packrefs.Pack {
	return []packrefs.Pack{
		{ID: pack.ID{Session: 5, Number: 1}, Size: 1000, Until: 20000, Named: 3, Chunks: []packrefs.Chunk{{Off: 0, Len: 10, Count: 2}, {Off: 10, Len: 20}, {Off: 100, Len: 300, Count: 1}}},
		{ID: pack.ID{Session: 5, Number: 2}, Size: 33, Removed: true, Named: 1, Chunks: []packrefs.Chunk{}},
		{ID: pack.ID{Session: 9}, Size: math.MaxUint32, Until: math.MaxUint32, Named: math.MaxUint32, Chunks: []packrefs.Chunk{{Off: math.MaxUint32 - 1, Len: 1, Count: math.MaxUint32}}},
	}
}

// many has enough for several blocks.
func many() (packs []packrefs.Pack) {
	rng := rand.New(rand.NewPCG(1, 2))
	id := pack.ID{}
	for range 300 {
		if id.Number++; rng.IntN(3) == 0 {
			id = pack.ID{Session: id.Session + 1 + rng.Uint64N(1e6), Number: rng.Uint32N(4)}
		}
		p := packrefs.Pack{ID: id, Size: rng.Uint32(), Chunks: make([]packrefs.Chunk, rng.IntN(2000))}
		at := uint32(0)
		for i := range p.Chunks {
			p.Chunks[i] = packrefs.Chunk{Off: at, Len: 1 + rng.Uint32N(100000), Count: rng.Uint32N(5)}
			at += p.Chunks[i].Len + rng.Uint32N(2)*rng.Uint32N(100000)
		}
		packs = append(packs, p)
	}
	return packs
}

func TestPacksComeBackAsTheyWere(t *testing.T) {
	for _, packs := range [][]packrefs.Pack{nil, few(), many()} {
		b := write(t, packs)
		got, err := read(bytes.NewReader(b))
		if err != nil || !reflect.DeepEqual(got, packs) {
			t.Fatalf("%d packs in %d bytes: %d came back, %v", len(packs), len(b), len(got), err)
		}
	}
}

// goldenShard is few as a pure-Go encoder compressed it; other encoders write other frames.
const goldenShard = "3f00000036000000661ec6ea28b52ffd2036b101000501e807a09c010603000a0200140046ac02010000210003000400ffffffff0fffffffff0ffeff" +
	"ffff1f01feffffff0f01ffffffff0f00000000000000000000000003000000000000000400000000000000747895704846524546533031"

func TestAShardOfTheLayoutIsRead(t *testing.T) {
	b, err := hex.DecodeString(goldenShard)
	if err != nil {
		t.Fatal(err)
	}
	got, err := read(bytes.NewReader(b))
	if err != nil || !reflect.DeepEqual(got, few()) {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestADamagedShardIsNoShard(t *testing.T) {
	good := write(t, few())
	for i := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if got, err := read(bytes.NewReader(bad)); err == nil && !reflect.DeepEqual(got, few()) {
			t.Fatalf("bit %d changed: %+v", i, got)
		}
	}
	for n := range good {
		if _, err := read(bytes.NewReader(good[:n])); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, packrefs.ErrFormat) {
			t.Fatalf("%d of %d bytes: %v", n, len(good), err)
		}
	}
	if _, err := read(bytes.NewReader(append(good, 0))); !errors.Is(err, packrefs.ErrFormat) {
		t.Fatalf("one byte more: %v", err)
	}
}

func TestPacksOutOfOrderAreNotWritten(t *testing.T) {
	for _, tc := range []struct {
		name  string
		packs []packrefs.Pack
	}{
		{"twice the same", []packrefs.Pack{{ID: pack.ID{Session: 1}}, {ID: pack.ID{Session: 1}}}},
		{"an older one", []packrefs.Pack{{ID: pack.ID{Session: 2}}, {ID: pack.ID{Session: 1, Number: 7}}}},
		{"chunks over each other", []packrefs.Pack{{Chunks: []packrefs.Chunk{{Off: 0, Len: 2}, {Off: 1, Len: 2}}}}},
		{"an empty chunk", []packrefs.Pack{{Chunks: []packrefs.Chunk{{Off: 5}}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, err := packrefs.NewWriter(io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Drop()
			for i := range tc.packs {
				err = w.Add(&tc.packs[i])
			}
			if err == nil {
				t.Fatal("it was taken")
			}
		})
	}
}

func root() *packrefs.Root {
	return &packrefs.Root{
		Locked:    30,
		Left:      2,
		Snapshots: []packrefs.Counted{{Session: 3, Until: 20000}, {Session: 300}, {Session: math.MaxUint64, Until: 1}},
		Indexed:   []uint64{3, 17},
		Sound:     []packrefs.Sound{{Digest: digest.Of([]byte("x")), Location: pack.Location{Pack: pack.ID{Session: 3, Number: 4}, Off: 5, Len: 6}}},
		Objects:   []packrefs.Locked{{Key: "s/0000000000000003/i00000000", Until: 7}},
		Shards: []packrefs.Shard{
			{Last: pack.ID{Session: 5, Number: 6}, Key: "s/0000000000000009/r00000001", Packs: 1, Bytes: 2, Chunks: 3, Needed: 4, Idle: 5, IdleBytes: 6, IdleChunks: 7, Sparse: 8, Until: 9},
			{Last: pack.ID{Session: 5, Number: 7}, Key: "s/0000000000000011/r00000001"},
		},
	}
}

const goldenRoot = "ad000000f139e07128b52ffd20adc5030054061e020303a09c01a90200d3fdffffffffffffff010102030e012d711642b726b04401627ca9fbac32f5" +
	"c8530fb1903cc4db02258717921a488103040506011c732f303030332f6907020506392f723101020304050607080905073131000000000000000000" +
	"060060c34bcd04dc419427308921e49c194846524f4f543031"

func TestARootOfTheLayoutIsRead(t *testing.T) {
	b, err := hex.DecodeString(goldenRoot)
	if err != nil {
		t.Fatal(err)
	}
	got, err := packrefs.ParseRoot(b)
	if err != nil || !reflect.DeepEqual(got, root()) {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestARootComesBackAsItWas(t *testing.T) {
	for _, r := range []*packrefs.Root{{}, root()} {
		b, err := packrefs.AppendRoot(nil, r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := packrefs.ParseRoot(b); err != nil || !reflect.DeepEqual(got, r) {
			t.Fatalf("%+v becomes %+v, %v", r, got, err)
		}
	}
	r := root()
	for session, want := range map[uint64]bool{3: true, 300: true, math.MaxUint64: true, 0: false, 4: false, 301: false} {
		if r.Counts(session) != want {
			t.Errorf("session %d: %v", session, !want)
		}
	}
}

func TestADamagedRootIsNoRoot(t *testing.T) {
	good, err := packrefs.AppendRoot(nil, root())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if got, err := packrefs.ParseRoot(bad); err == nil && !reflect.DeepEqual(got, root()) || err != nil && !errors.Is(err, packrefs.ErrFormat) {
			t.Fatalf("bit %d changed: %+v, %v", i, got, err)
		}
	}
	for n := range good {
		if _, err := packrefs.ParseRoot(good[:n]); !errors.Is(err, packrefs.ErrFormat) {
			t.Fatalf("%d of %d bytes: %v", n, len(good), err)
		}
	}
	for _, spoil := range []func(*packrefs.Root){
		func(r *packrefs.Root) { r.Shards[1].Last = r.Shards[0].Last },
		func(r *packrefs.Root) { r.Sound[0].Len = 0 },
		func(r *packrefs.Root) { r.Objects = append(r.Objects, r.Objects[0]) },
		func(r *packrefs.Root) { r.Indexed[1] = r.Indexed[0] },
	} {
		r := root()
		spoil(r)
		b, err := packrefs.AppendRoot(nil, r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := packrefs.ParseRoot(b); !errors.Is(err, packrefs.ErrFormat) {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func TestDaysAreThoseOfUTC(t *testing.T) {
	at := time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC)
	d := packrefs.DayOf(at)
	if got, want := d.Time(), time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if packrefs.DayOf(at.Add(time.Second)) != d+1 {
		t.Error("the next second is the same day")
	}
}

// What is read is written, and read again, as it is.
func FuzzScan(f *testing.F) {
	f.Add(write(f, nil))
	f.Add(write(f, few()))
	f.Add(write(f, many()[:20]))
	f.Fuzz(func(t *testing.T, b []byte) {
		packs, err := read(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := read(bytes.NewReader(write(t, packs)))
		if err != nil || !reflect.DeepEqual(again, packs) {
			t.Fatalf("%+v becomes %+v, %v", packs, again, err)
		}
	})
}

func FuzzParseRoot(f *testing.F) {
	for _, r := range []*packrefs.Root{{}, root()} {
		b, err := packrefs.AppendRoot(nil, r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[8+4 : len(b)-8]) // not a plain form, but of its kind
	}
	f.Add([]byte{0, 0, 1, 3, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, plain []byte) {
		b := binary.LittleEndian.AppendUint32(nil, uint32(len(plain)))
		b = append(append(binary.LittleEndian.AppendUint32(b, sum(plain)), frame(t, plain)...), "HFROOT01"...)
		r, err := packrefs.ParseRoot(b)
		if err != nil {
			if !errors.Is(err, packrefs.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again, err := packrefs.AppendRoot(nil, r)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%+v has other bytes than it was read from", r)
		}
	})
}

func sum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func frame(t testing.TB, plain []byte) []byte {
	t.Helper()
	enc, err := zstd.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	b := make([]byte, zstd.Bound(len(plain)))
	n, ok := enc.Compress(b, plain)
	if !ok {
		t.Fatal("a frame is larger than its bound")
	}
	return b[:n]
}

// One block is read, and then has the same bytes when it is written.
func FuzzBlock(f *testing.F) {
	f.Add([]byte{5, 1, 10, 0, 2, 1, 0, 4, 1})
	f.Add([]byte{5, 1, 10, 0, 2, 0, 0, 0, 10, 0, 3, 1, 7, 4, 0, 1, 2, 3, 4, 5, 0})
	f.Fuzz(func(t *testing.T, plain []byte) {
		if len(plain) == 0 || len(plain) > 4096 {
			return
		}
		le := binary.LittleEndian
		z := frame(t, plain)
		b := le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, uint32(len(z))), uint32(len(plain))), sum(plain))
		b = append(append(b, z...), make([]byte, 12)...)
		packs, chunks := []packrefs.Pack(nil), 0
		for p, err := range packrefs.Scan(bytes.NewReader(b)) {
			if errors.Is(err, packrefs.ErrFormat) {
				return
			}
			if err != nil {
				break // the end is not there
			}
			packs = append(packs, *p)
			chunks += len(p.Chunks)
		}
		end := le.AppendUint64(le.AppendUint64(nil, uint64(len(packs))), uint64(chunks))
		b = append(append(b, le.AppendUint32(end, sum(end))...), "HFREFS01"...)
		if again := write(t, packs); !bytes.Equal(again, b) {
			t.Fatalf("%+v has other bytes than it was read from", packs)
		}
	})
}
