package packindex_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packindex"
)

func entries(n int) []packindex.Entry {
	var list []packindex.Entry
	for i := range n {
		list = append(list, packindex.Entry{
			Digest:   digest.Of(binary.LittleEndian.AppendUint32(nil, uint32(i))),
			Location: pack.Location{Pack: pack.ID{Session: 9, Number: uint32(i / 10)}, Off: uint32(i % 10), Len: uint32(i + 1)},
		})
	}
	slices.SortFunc(list, func(a, b packindex.Entry) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	return list
}

func write(t testing.TB, list []packindex.Entry) (all, head []byte) {
	t.Helper()
	var b bytes.Buffer
	w := packindex.NewWriter(&b)
	for _, e := range list {
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	n, h, err := w.Close()
	if err != nil || n != int64(b.Len()) || w.Chunks() != int64(len(list)) {
		t.Fatalf("%d chunks: it says %d bytes, %v; %d were written", w.Chunks(), n, err, b.Len())
	}
	all = b.Bytes()
	return all, all[n-h:]
}

func scan(b []byte, chunks int) ([]packindex.Entry, error) {
	var list []packindex.Entry
	for e, err := range packindex.Scan(bytes.NewReader(b), int64(chunks)) {
		if err != nil {
			return list, err
		}
		list = append(list, e)
	}
	return list, nil
}

const golden = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + // digest
	"0000000000000102" + "00000003" + "05000000" + "09000000" + // session 258, pack 3, at 5, 9 bytes
	"8d94585a" + // of the block
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + // the first digest of block 0
	"aaaaaa" + // of chunk 0
	"0100000000000000" + // one chunk
	"ab24a401" +
	"4846494e44455831" // HFINDEX1

func TestAnIndexOfOneChunkHasTheseBytes(t *testing.T) {
	all, _ := write(t, []packindex.Entry{{
		Digest:   digest.Digest(bytes.Repeat([]byte{0xaa}, 32)),
		Location: pack.Location{Pack: pack.ID{Session: 258, Number: 3}, Off: 5, Len: 9},
	}})
	if got := hex.EncodeToString(all); got != golden {
		t.Errorf("got  %s\nwant %s", got, golden)
	}
}

func TestEveryChunkIsFoundAndNoOther(t *testing.T) {
	for _, n := range []int{1, 255, 256, 257, 5000} {
		list := entries(n)
		all, raw := write(t, list)
		h, err := packindex.ParseHead(raw, int64(len(all)))
		if err != nil {
			t.Fatal(err)
		}
		if h.Chunks() != int64(n) || h.Blocks() != (n+255)/256 {
			t.Errorf("%d chunks in %d blocks, want %d", h.Chunks(), h.Blocks(), n)
		}
		find := func(d digest.Digest) (pack.Location, bool) {
			i, ok := h.Find(d)
			if !ok {
				return pack.Location{}, false
			}
			off, size := h.Range(i)
			l, ok, err := packindex.FindIn(all[off:off+size], d)
			if err != nil {
				t.Fatal(err)
			}
			return l, ok
		}
		for _, e := range list {
			if l, ok := find(e.Digest); !ok || l != e.Location {
				t.Fatalf("chunk %s: %v, %v; want %v", e.Digest, l, ok, e.Location)
			}
			e.Digest[20]++ // the mark is the same
			if l, ok := find(e.Digest); ok {
				t.Fatalf("chunk %s, which is not there, is found at %v", e.Digest, l)
			}
		}
		if got, err := scan(all, n); err != nil || !slices.Equal(got, list) {
			t.Errorf("%d of %d entries, %v", len(got), n, err)
		}
	}
}

func TestTheHeadAloneSaysThatAChunkIsNotThere(t *testing.T) {
	all, raw := write(t, entries(5000))
	h, err := packindex.ParseHead(raw, int64(len(all)))
	if err != nil {
		t.Fatal(err)
	}
	wrong := 0
	for i := range 100_000 {
		if _, ok := h.Find(digest.Of(binary.LittleEndian.AppendUint32([]byte("other"), uint32(i)))); ok {
			wrong++
		}
	}
	if wrong > 20 { // 1.5 are expected
		t.Errorf("%d of 100,000 chunks would be looked for in vain", wrong)
	}
}

func TestChunksOutOfOrderAreRefused(t *testing.T) {
	w := packindex.NewWriter(io.Discard)
	if _, _, err := w.Close(); !errors.Is(err, packindex.ErrFormat) {
		t.Errorf("an index of no chunks: %v", err)
	}
	at := pack.Location{Len: 1}
	if err := w.Add(packindex.Entry{Digest: digest.Digest{5}, Location: at}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []digest.Digest{{4}, {5}} {
		if err := w.Add(packindex.Entry{Digest: d, Location: at}); !errors.Is(err, packindex.ErrOrder) {
			t.Errorf("%s behind 05…: %v", d, err)
		}
	}
	if err := w.Add(packindex.Entry{Digest: digest.Digest{6}}); !errors.Is(err, pack.ErrFormat) {
		t.Errorf("a chunk of no bytes: %v", err)
	}
}

// Behind the length of the head every byte counts, and every one of a block.
func TestDamageIsNoticed(t *testing.T) {
	list := entries(300)
	all, raw := write(t, list)
	for at := range raw {
		b := bytes.Clone(raw)
		b[at] ^= 1
		if _, err := packindex.ParseHead(b, int64(len(all))); !errors.Is(err, packindex.ErrFormat) {
			t.Errorf("byte %d of the head changed: %v", at, err)
		}
	}
	for n := range raw {
		if _, err := packindex.ParseHead(raw[len(raw)-n:], int64(len(all))); !errors.Is(err, packindex.ErrFormat) {
			t.Errorf("a head cut to %d bytes: %v", n, err)
		}
	}
	block := all[:packindex.BlockSize]
	for at := range block {
		b := bytes.Clone(block)
		b[at] ^= 1
		if _, _, err := packindex.FindIn(b, list[0].Digest); !errors.Is(err, packindex.ErrFormat) {
			t.Errorf("byte %d of a block changed: %v", at, err)
		}
		if _, err := scan(b, 256); !errors.Is(err, packindex.ErrFormat) {
			t.Errorf("byte %d of a block changed: %v", at, err)
		}
	}
	for _, n := range []int{0, 3, 4, 55, 57, packindex.BlockSize - 1} {
		if _, _, err := packindex.FindIn(block[:n], list[0].Digest); !errors.Is(err, packindex.ErrFormat) {
			t.Errorf("a block of %d bytes: %v", n, err)
		}
	}
	if _, err := scan(all[:packindex.BlockSize+3], 300); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, packindex.ErrFormat) {
		t.Errorf("an index that ends early: %v", err)
	}
}

// A checksum only says that nobody changed it.
func TestSoundBlocksWithWrongContentAreRefused(t *testing.T) {
	all, _ := write(t, entries(3))
	for name, change := range map[string]func(b []byte){
		"a chunk of no bytes":  func(b []byte) { clear(b[48:52]) },
		"the same chunk twice": func(b []byte) { copy(b[52:84], b[:32]) },
	} {
		b := bytes.Clone(all[:3*52+4])
		change(b)
		seal(b)
		if _, err := scan(b, 3); !errors.Is(err, packindex.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func seal(b []byte) {
	if n := len(b) - 4; n >= 0 {
		binary.LittleEndian.PutUint32(b[n:], crc32.Checksum(b[:n], crc32.MakeTable(crc32.Castagnoli)))
	}
}

// A block in which all can be read can be searched, and is written with the same
// bytes.
func FuzzBlock(f *testing.F) {
	for _, n := range []int{1, 3, 256} {
		all, _ := write(f, entries(n))
		f.Add(all[:n*52+4], false)
	}
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if sealed {
			seal(b)
		}
		n := (len(b) - 4) / 52
		list, err := scan(b, n)
		if n < 1 || n > packindex.PerBlock || (len(b)-4)%52 != 0 {
			return
		}
		if err != nil {
			if !errors.Is(err, packindex.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		for _, e := range list {
			if l, ok, err := packindex.FindIn(b, e.Digest); !ok || err != nil || l != e.Location {
				t.Fatalf("chunk %s: %v, %v, %v; want %v", e.Digest, l, ok, err, e.Location)
			}
		}
		if all, _ := write(t, list); !bytes.Equal(all[:len(b)], b) {
			t.Fatalf("%v does not survive a round trip", list)
		}
	})
}

// A head that is taken leads to blocks that the index has.
func FuzzHead(f *testing.F) {
	for _, n := range []int{1, 257} {
		all, head := write(f, entries(n))
		f.Add(head, int64(len(all)), false, []byte{3})
	}
	f.Fuzz(func(t *testing.T, b []byte, all int64, sealed bool, name []byte) {
		if n := len(b) - 8; sealed && n > 0 {
			seal(b[:n])
		}
		h, err := packindex.ParseHead(b, all)
		if err != nil {
			if !errors.Is(err, packindex.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		var d digest.Digest
		copy(d[:], name)
		if i, ok := h.Find(d); ok {
			if off, n := h.Range(i); off < 0 || n < 56 || off+n > all-int64(len(b)) {
				t.Fatalf("block %d is [%d,+%d) of %d", i, off, n, all-int64(len(b)))
			}
		}
	})
}

func BenchmarkFind(b *testing.B) {
	all, raw := write(b, entries(1<<20))
	h, err := packindex.ParseHead(raw, int64(len(all)))
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		var d digest.Digest
		for i := range 4 {
			binary.LittleEndian.PutUint64(d[8*i:], rng.Uint64())
		}
		h.Find(d)
	}
}
