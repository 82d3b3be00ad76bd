package chunkmap_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkmap"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
)

type chunk struct {
	d digest.Digest
	l pack.Location
}

// chunks are n of them in ascending order, in packs of 10.
func chunks(n int) []chunk {
	var list []chunk
	for i := range n {
		d := digest.Of(binary.LittleEndian.AppendUint32(nil, uint32(i)))
		list = append(list, chunk{d, pack.Location{Pack: pack.ID{Session: 7, Number: uint32(i / 10)}, Off: uint32(i % 10 * 100), Len: uint32(i%10 + 1)}})
	}
	slices.SortFunc(list, func(a, b chunk) int { return bytes.Compare(a.d[:], b.d[:]) })
	return list
}

const packSize = 2000

func sizes(pack.ID) (uint32, error) { return packSize, nil }

func write(t testing.TB, list []chunk) []byte {
	t.Helper()
	var b bytes.Buffer
	w := chunkmap.NewWriter(&b)
	for _, c := range list {
		if err := w.Add(c.d, c.l); err != nil {
			t.Fatal(err)
		}
	}
	n, err := w.Close(sizes)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("it says %d, %v; %d bytes were written", n, err, b.Len())
	}
	return b.Bytes()
}

func open(b []byte) (*chunkmap.Map, error) { return chunkmap.Open(bytes.NewReader(b), int64(len(b))) }

const golden = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + "00000000" + "05000000" + "09000000" + // chunk in pack 0 at 5, 9 bytes
	"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" + "01000000" + "00000000" + "01000000" +
	"0000000000000102" + "00000003" + "d0070000" + // pack 0: session 258, number 3, 2000 bytes
	"0000000000000001" + "00000000" + "d0070000" +
	"0200000000000000" + "02000000" + // two chunks, two packs
	"158c1c6b2264493fd27183164414f29b3dabf0c3956175c2ed952402e1036900" + "4846434d41503031" // checksum, HFCMAP01

func TestAMapOfTwoChunksHasTheseBytes(t *testing.T) {
	list := []chunk{
		{digest.Digest(bytes.Repeat([]byte{0xaa}, 32)), pack.Location{Pack: pack.ID{Session: 258, Number: 3}, Off: 5, Len: 9}},
		{digest.Digest(bytes.Repeat([]byte{0xbb}, 32)), pack.Location{Pack: pack.ID{Session: 1}, Len: 1}},
	}
	if got := hex.EncodeToString(write(t, list)); got != golden {
		t.Errorf("got  %s\nwant %s", got, golden)
	}
}

func TestEveryChunkIsFoundAndNoOther(t *testing.T) {
	for _, n := range []int{0, 1, 145, 146, 147, 5000} {
		list := chunks(n)
		m, err := open(write(t, list))
		if err != nil {
			t.Fatal(err)
		}
		if m.Chunks() != int64(n) || len(m.Packs()) != (n+9)/10 {
			t.Errorf("%d chunks, %d packs; want %d and %d", m.Chunks(), len(m.Packs()), n, (n+9)/10)
		}
		for _, c := range list {
			if l, ok, err := m.Find(c.d); l != c.l || !ok || err != nil {
				t.Fatalf("chunk %s: %v, %v, %v; want %v", c.d, l, ok, err, c.l)
			}
			c.d[15]++
			if _, ok, err := m.Find(c.d); ok || err != nil {
				t.Fatalf("chunk %s, which is not there: %v, %v", c.d, ok, err)
			}
		}
		i := 0
		err = m.Each(func(prefix [16]byte, l pack.Location) error {
			if prefix != [16]byte(list[i].d[:]) || l != list[i].l {
				t.Fatalf("entry %d: %x %v", i, prefix, l)
			}
			i++
			return nil
		})
		if err != nil || i != n {
			t.Errorf("%d of %d entries, %v", i, n, err)
		}
	}
}

func TestChunksOutOfOrderAreRefused(t *testing.T) {
	w := chunkmap.NewWriter(io.Discard)
	at := pack.Location{Len: 1}
	if err := w.Add(digest.Digest{5}, at); err != nil {
		t.Fatal(err)
	}
	same16 := digest.Digest{5}
	same16[20] = 1
	for _, d := range []digest.Digest{{4}, {5}, same16} {
		if err := w.Add(d, at); !errors.Is(err, chunkmap.ErrOrder) {
			t.Errorf("%s behind 05…: %v", d, err)
		}
	}
	if err := w.Add(digest.Digest{6}, pack.Location{}); !errors.Is(err, pack.ErrFormat) {
		t.Errorf("a chunk of no bytes: %v", err)
	}
}

func TestDamagedMapsAreRefused(t *testing.T) {
	good := write(t, chunks(150))
	for at := range good {
		b := bytes.Clone(good)
		b[at] ^= 1
		if _, err := open(b); !errors.Is(err, chunkmap.ErrFormat) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
	for n := range good {
		if _, err := open(good[:n]); !errors.Is(err, chunkmap.ErrFormat) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := chunkmap.Open(bytes.NewReader(good), int64(len(good))+1); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, chunkmap.ErrFormat) {
		t.Errorf("shorter than was told: %v", err)
	}
}

// A checksum only says that nobody changed it.
func TestSoundBytesWithWrongContentAreRefused(t *testing.T) {
	good := write(t, chunks(30))
	for name, change := range map[string]func(b []byte){
		"a pack that is not listed":      func(b []byte) { b[16] = 3 },
		"a chunk behind the pack's end":  func(b []byte) { binary.LittleEndian.PutUint32(b[20:], packSize) },
		"a chunk of no bytes":            func(b []byte) { clear(b[24:28]) },
		"the same chunk twice":           func(b []byte) { copy(b[28:44], b[:16]) },
		"a digest before the one before": func(b []byte) { clear(b[28:44]) },
	} {
		b := bytes.Clone(good)
		change(b)
		seal(b)
		if _, err := open(b); !errors.Is(err, chunkmap.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func seal(b []byte) {
	if len(b) >= chunkmap.FooterSize {
		sum := sha256.Sum256(b[:len(b)-40])
		copy(b[len(b)-40:], sum[:])
	}
}

type fails struct{ after int }

var errDisk = errors.New("disk full")

func (f *fails) Write(p []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

func TestAWriteThatFailsIsTold(t *testing.T) {
	list := chunks(5000)
	for after := range 4 {
		w := chunkmap.NewWriter(&fails{after})
		var err error
		for _, c := range list {
			if err = w.Add(c.d, c.l); err != nil {
				break
			}
		}
		if _, cerr := w.Close(sizes); !errors.Is(cerr, errDisk) || err != nil && !errors.Is(err, errDisk) {
			t.Errorf("after %d writes: %v, %v", after, err, cerr)
		}
	}
	w := chunkmap.NewWriter(io.Discard)
	if err := w.Add(list[0].d, list[0].l); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(func(pack.ID) (uint32, error) { return 0, errDisk }); !errors.Is(err, errDisk) {
		t.Errorf("a pack of unknown size: %v", err)
	}
}

// What opens can be written anew with the same bytes.
func FuzzOpen(f *testing.F) {
	for _, n := range []int{0, 1, 20} {
		f.Add(write(f, chunks(n)), false)
	}
	b, err := hex.DecodeString(golden)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, true)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if sealed {
			seal(b)
		}
		m, err := open(b)
		if err != nil {
			if !errors.Is(err, chunkmap.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		seen := int64(0)
		var last [16]byte
		err = m.Each(func(prefix [16]byte, l pack.Location) error {
			var d digest.Digest
			copy(d[:], prefix[:])
			if got, ok, err := m.Find(d); got != l || !ok || err != nil {
				t.Fatalf("%x is found at %v, %v, %v; it is at %v", prefix, got, ok, err, l)
			}
			if seen > 0 && bytes.Compare(last[:], prefix[:]) >= 0 {
				t.Fatal("out of order")
			}
			last = prefix
			seen++
			return nil
		})
		if err != nil || seen != m.Chunks() {
			t.Fatalf("%d of %d, %v", seen, m.Chunks(), err)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	list := chunks(1 << 18) // an image of 1 TiB
	m, err := open(write(b, list))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, err := m.Find(list[rand.IntN(len(list))].d); !ok || err != nil {
			b.Fatal(err)
		}
	}
}
