package didx_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
)

type vector struct {
	FileSize int64  `json:"file-size"`
	FileSHA  string `json:"file-sha256"`
	UUID     string
	Ctime    int64
	Size     int64
	Csum     digest.Digest
	Chunks   []struct {
		Start, End int64
		Digest     digest.Digest
	}
	Lookup []struct {
		Offset int64
		Index  *int
		Rel    *int64
	}
}

func golden(t testing.TB) (vector, []byte) {
	t.Helper()
	text, err := os.ReadFile("testdata/indexes.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Dynamic vector }
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("testdata/three-chunks.pxar.didx")
	if err != nil {
		t.Fatal(err)
	}
	return all.Dynamic, raw
}

func open(t testing.TB, raw []byte) *didx.Index {
	t.Helper()
	x, err := didx.Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// index makes an index with the given ends.
func index(ends ...uint64) []byte {
	raw := didx.Header{}.Append(nil)
	for i, end := range ends {
		raw = didx.Entry{End: end, Digest: digest.Of([]byte{byte(i), byte(i >> 8)})}.Append(raw)
	}
	return raw
}

func TestIndexReadsAsTheVectorSays(t *testing.T) {
	v, raw := golden(t)
	if s := sha256.Sum256(raw); hex.EncodeToString(s[:]) != v.FileSHA || int64(len(raw)) != v.FileSize {
		t.Fatal("testdata/three-chunks.pxar.didx is not the file of the vector")
	}
	x := open(t, raw)
	if hex.EncodeToString(x.UUID[:]) != v.UUID || x.Ctime != v.Ctime || x.Size() != v.Size || x.Header.Sum != v.Csum {
		t.Errorf("header %+v of %d bytes, want %+v", x.Header, x.Size(), v)
	}
	if x.Count() != len(v.Chunks) {
		t.Fatalf("%d chunks, want %d", x.Count(), len(v.Chunks))
	}
	if err := x.Validate(); err != nil {
		t.Error(err)
	}
	if sum, err := x.Sum(); err != nil || sum != v.Csum {
		t.Errorf("checksum %s, %v; want %s", sum, err, v.Csum)
	}
	bulk := make([]didx.Entry, x.Count())
	if err := x.Entries(0, bulk); err != nil {
		t.Fatal(err)
	}
	each := 0
	err := x.Each(func(i int, start, end int64, d digest.Digest) error {
		if c := v.Chunks[i]; i != each || start != c.Start || end != c.End || d != c.Digest {
			t.Errorf("Each: call %d has chunk %d [%d,%d) %s", each, i, start, end, d)
		}
		each++
		return nil
	})
	if err != nil || each != len(v.Chunks) {
		t.Errorf("Each: %d calls, %v", each, err)
	}
	for i, c := range v.Chunks {
		want := didx.Entry{End: uint64(c.End), Digest: c.Digest}
		if e, err := x.Entry(i); err != nil || e != want || bulk[i] != want {
			t.Errorf("chunk %d: %v and %v, %v; want %v", i, e, bulk[i], err, want)
		}
		if start, end, err := x.Bounds(i); err != nil || start != c.Start || end != c.End {
			t.Errorf("chunk %d covers [%d,%d), %v; want [%d,%d)", i, start, end, err, c.Start, c.End)
		}
	}
	for _, l := range v.Lookup {
		i, rel, ok, err := x.Find(l.Offset)
		if err != nil || ok != (l.Index != nil) || ok && (i != *l.Index || rel != *l.Rel) {
			t.Errorf("Find(%d) = %d, %d, %v, %v", l.Offset, i, rel, ok, err)
		}
	}
	if _, _, ok, err := x.Find(-1); ok || err != nil {
		t.Errorf("Find(-1): %v, %v", ok, err)
	}
}

func TestIndexIsWrittenAsTheVectorSays(t *testing.T) {
	v, raw := golden(t)
	uuid, err := hex.DecodeString(v.UUID)
	if err != nil {
		t.Fatal(err)
	}
	got := didx.Header{UUID: [16]byte(uuid), Ctime: v.Ctime, Sum: v.Csum}.Append(nil)
	for i, c := range v.Chunks {
		if didx.EntryOffset(i) != int64(len(got)) {
			t.Errorf("entry %d at %d, want %d", i, didx.EntryOffset(i), len(got))
		}
		got = didx.Entry{End: uint64(c.End), Digest: c.Digest}.Append(got)
	}
	if !bytes.Equal(got, raw) {
		t.Fatalf("got\n%x\nwant\n%x", got, raw)
	}
}

func TestMagicIsDerivedFromItsName(t *testing.T) {
	s := sha256.Sum256([]byte("Proxmox Backup dynamic sized chunk index v1.0"))
	if got := index()[:8]; !bytes.Equal(s[:8], got) {
		t.Fatalf("magic %x, want %x", got, s[:8])
	}
}

func TestReservedBytesAreIgnored(t *testing.T) {
	_, raw := golden(t)
	raw[64], raw[4095] = 1, 1
	open(t, raw)
}

func TestOpenRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		raw  []byte
	}{
		{"no bytes", nil},
		{"short header", index()[:4095]},
		{"no entries", index()},
		{"one byte more", append(index(1, 2), 0)},
		{"one byte less", index(1, 2)[:4096+79]},
		{"a fixed index table", append(index(), make([]byte, 64)...)},
		{"foreign magic", append([]byte{0x2f}, index(1)[1:]...)},
		{"last end zero", index(0)},
		{"last end 2^63", index(1 << 63)},
		{"last end 2^64-1", index(math.MaxUint64)},
		{"fewer bytes than chunks", index(1, 1, 2)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := didx.Open(bytes.NewReader(tc.raw), int64(len(tc.raw))); !errors.Is(err, didx.ErrFormat) {
				t.Fatalf("err = %v, want ErrFormat", err)
			}
		})
	}
}

func TestEndsThatDoNotGrowAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		raw  []byte
		bad  int // the chunk whose bounds are refused
	}{
		{"first end zero", index(0, 10), 0},
		{"equal ends", index(5, 5, 10), 1},
		{"falling ends", index(7, 3, 10), 1},
		{"end beyond the last", index(5, 11, 10), 1},
		{"end beyond the last, then last", index(5, 11, 10), 2},
		{"huge end", index(1<<63, 10), 0},
		{"huge end in the middle", index(1, math.MaxUint64, 10), 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := open(t, tc.raw)
			if err := x.Validate(); !errors.Is(err, didx.ErrFormat) {
				t.Errorf("Validate: %v", err)
			}
			if _, err := x.Sum(); !errors.Is(err, didx.ErrFormat) {
				t.Errorf("Sum: %v", err)
			}
			if start, end, err := x.Bounds(tc.bad); !errors.Is(err, didx.ErrFormat) {
				t.Errorf("Bounds(%d) = [%d,%d), %v", tc.bad, start, end, err)
			}
			for off := range int64(12) {
				i, rel, ok, err := x.Find(off)
				if err != nil && !errors.Is(err, didx.ErrFormat) {
					t.Errorf("Find(%d): %v", off, err)
				}
				if err != nil || !ok {
					continue
				}
				if start, end, err := x.Bounds(i); err != nil || start+rel != off || off >= end {
					t.Errorf("Find(%d) = %d+%d, which is [%d,%d), %v", off, i, rel, start, end, err)
				}
			}
		})
	}
}

func TestChunksOutsideTheIndexAreRefused(t *testing.T) {
	x := open(t, index(1, 2))
	for _, i := range []int{-1, 2, math.MaxInt, math.MinInt} {
		if e, err := x.Entry(i); err == nil {
			t.Errorf("Entry(%d) = %v", i, e)
		}
		if start, end, err := x.Bounds(i); err == nil {
			t.Errorf("Bounds(%d) = [%d,%d)", i, start, end)
		}
	}
	if err := x.Entries(1, make([]didx.Entry, 2)); err == nil {
		t.Error("Entries reads past the end")
	}
}

// watched counts the largest read, and fails those that touch an offset.
type watched struct {
	r       io.ReaderAt
	largest int
	fail    int64 // 0: nothing fails
	err     error
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	w.largest = max(w.largest, len(p))
	if w.fail > 0 && off <= w.fail && w.fail < off+int64(len(p)) {
		return 0, w.err
	}
	return w.r.ReadAt(p, off)
}

func TestLongTableIsReadInBlocks(t *testing.T) {
	const n = 5000
	ends := make([]uint64, n)
	for i := range ends {
		ends[i] = uint64(i+1) * 7
	}
	raw := index(ends...)
	r := &watched{r: bytes.NewReader(raw)}
	x, err := didx.Open(r, int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if x.Size() != 7*n {
		t.Errorf("size %d", x.Size())
	}
	if sum, err := x.Sum(); err != nil || sum != digest.Of(raw[didx.HeaderSize:]) {
		t.Errorf("checksum %s, %v", sum, err)
	}
	all := make([]didx.Entry, n)
	if err := x.Entries(0, all); err != nil {
		t.Fatal(err)
	}
	for i, e := range all {
		if one, err := x.Entry(i); err != nil || one != e || e.End != ends[i] {
			t.Fatalf("chunk %d: %v and %v, %v", i, e, one, err)
		}
		if j, rel, ok, err := x.Find(int64(i)*7 + 3); j != i || rel != 3 || !ok || err != nil {
			t.Fatalf("Find in chunk %d = %d+%d, %v, %v", i, j, rel, ok, err)
		}
	}
	if r.largest > 64<<10 {
		t.Errorf("a read of %d bytes", r.largest)
	}
}

func TestReadErrorsAreNotFormatErrors(t *testing.T) {
	_, raw := golden(t)
	broken := errors.New("disk gone")
	w := &watched{r: bytes.NewReader(raw), fail: 1, err: broken}
	for _, at := range []int64{1, didx.EntryOffset(2)} {
		w.fail = at
		if _, err := didx.Open(w, int64(len(raw))); !errors.Is(err, broken) || errors.Is(err, didx.ErrFormat) {
			t.Errorf("Open, fault at %d: %v", at, err)
		}
	}
	w.fail = 0
	x, err := didx.Open(w, int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	if err := x.Each(func(int, int64, int64, digest.Digest) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Each: %v", err)
	}
	w.fail = didx.EntryOffset(1)
	for name, f := range map[string]func() error{
		"Entry":    func() error { _, err := x.Entry(1); return err },
		"Bounds":   func() error { _, _, err := x.Bounds(2); return err },
		"Find":     func() error { _, _, _, err := x.Find(66000); return err },
		"Sum":      func() error { _, err := x.Sum(); return err },
		"Validate": x.Validate,
	} {
		if err := f(); !errors.Is(err, broken) || errors.Is(err, didx.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := didx.Open(bytes.NewReader(raw[:4200]), 4216); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("file shorter than its stated size: %v", err)
	}
}

// fold leaves out the reserved bytes of the header, so that the fuzzer spends
// its time on those that matter.
func fold(raw []byte) []byte { return slices.Concat(raw[:64], raw[didx.HeaderSize:]) }

func unfold(b []byte) []byte {
	n := min(len(b), 64)
	return slices.Concat(b[:n], make([]byte, didx.HeaderSize-n), b[n:])
}

func FuzzOpen(f *testing.F) {
	_, raw := golden(f)
	f.Add(fold(raw))
	f.Add(fold(index(5, 5, 10)))
	f.Add(fold(index(5, 11, 10)))
	f.Add(fold(index(math.MaxUint64, 10)))
	f.Fuzz(func(t *testing.T, folded []byte) {
		b := unfold(folded)
		x, err := didx.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, didx.ErrFormat) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		again := x.Append(nil)
		last := int64(0)
		err = x.Each(func(i int, start, end int64, d digest.Digest) error {
			if start != last || end <= start || end > x.Size() {
				t.Fatalf("chunk %d [%d,%d) after %d", i, start, end, last)
			}
			last = end
			again = didx.Entry{End: uint64(end), Digest: d}.Append(again)
			return nil
		})
		if err != nil {
			if !errors.Is(err, didx.ErrFormat) {
				t.Fatalf("refused with %v", err)
			}
			// Whatever a look-up in it answers, it is consistent.
			for _, off := range []int64{0, x.Size() / 2, x.Size() - 1} {
				if i, rel, ok, err := x.Find(off); err == nil && ok {
					if start, end, err := x.Bounds(i); err != nil || start+rel != off || off >= end {
						t.Fatalf("Find(%d) = %d+%d", off, i, rel)
					}
				}
			}
			return
		}
		if last != x.Size() || !bytes.Equal(again[:64], b[:64]) || !bytes.Equal(again[didx.HeaderSize:], b[didx.HeaderSize:]) {
			t.Fatal("what was read is not what was there")
		}
		for i := range x.Count() {
			start, end, err := x.Bounds(i)
			if err != nil {
				t.Fatal(err)
			}
			for _, off := range []int64{start, end - 1} {
				if j, rel, ok, err := x.Find(off); j != i || rel != off-start || !ok || err != nil {
					t.Fatalf("Find(%d) = %d+%d, %v, %v; want chunk %d at %d", off, j, rel, ok, err, i, start)
				}
			}
		}
		if sum, err := x.Sum(); err != nil || sum != digest.Of(b[didx.HeaderSize:]) {
			t.Fatalf("checksum %s, %v", sum, err)
		}
	})
}

// TestFixedAndDynamicIndexesAreNotMixedUp: both have the same header size.
func TestFixedAndDynamicIndexesAreNotMixedUp(t *testing.T) {
	raw := index(1)
	binary.BigEndian.PutUint64(raw, 0x2f7f41ed91fd0fcd)
	if _, err := didx.Open(bytes.NewReader(raw), int64(len(raw))); !errors.Is(err, didx.ErrFormat) {
		t.Fatalf("err = %v", err)
	}
}

func TestWholeFileIsWrittenAsItWasRead(t *testing.T) {
	_, raw := golden(t)
	var b bytes.Buffer
	n, err := open(t, raw).WriteTo(&b)
	if err != nil || n != int64(len(raw)) || !bytes.Equal(b.Bytes(), raw) {
		t.Fatalf("%d bytes of %d, %v; equal: %v", n, len(raw), err, bytes.Equal(b.Bytes(), raw))
	}
}
