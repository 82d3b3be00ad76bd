package fidx_test

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
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
)

type vector struct {
	FileSize  int64  `json:"file-size"`
	FileSHA   string `json:"file-sha256"`
	UUID      string
	Ctime     int64
	Size      uint64
	ChunkSize uint64 `json:"chunk-size"`
	Csum      digest.Digest
	Chunks    []struct {
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
	var all struct{ Fixed vector }
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("testdata/two-chunks.img.fidx")
	if err != nil {
		t.Fatal(err)
	}
	return all.Fixed, raw
}

func open(t testing.TB, raw []byte) *fidx.Index {
	t.Helper()
	x, err := fidx.Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestIndexReadsAsTheVectorSays(t *testing.T) {
	v, raw := golden(t)
	if s := sha256.Sum256(raw); hex.EncodeToString(s[:]) != v.FileSHA || int64(len(raw)) != v.FileSize {
		t.Fatal("testdata/two-chunks.img.fidx is not the file of the vector")
	}
	x := open(t, raw)
	if hex.EncodeToString(x.UUID[:]) != v.UUID || x.Ctime != v.Ctime || x.Size != v.Size || x.ChunkSize != v.ChunkSize || x.Header.Sum != v.Csum {
		t.Errorf("header %+v, want %+v", x.Header, v)
	}
	if x.Count() != len(v.Chunks) || x.FileSize() != v.FileSize {
		t.Fatalf("%d chunks in %d bytes", x.Count(), x.FileSize())
	}
	if sum, err := x.Sum(); err != nil || sum != v.Csum {
		t.Errorf("checksum %s, %v; want %s", sum, err, v.Csum)
	}
	bulk := make([]digest.Digest, x.Count())
	if err := x.Digests(0, bulk); err != nil {
		t.Fatal(err)
	}
	each := 0
	err := x.Each(func(i int, d digest.Digest) error {
		if i != each || d != v.Chunks[i].Digest {
			t.Errorf("Each: call %d has chunk %d, %s", each, i, d)
		}
		each++
		return nil
	})
	if err != nil || each != len(v.Chunks) {
		t.Errorf("Each: %d calls, %v", each, err)
	}
	for i, c := range v.Chunks {
		d, err := x.Digest(i)
		if err != nil || d != c.Digest || bulk[i] != c.Digest {
			t.Errorf("chunk %d: %s, %v; want %s", i, d, err, c.Digest)
		}
		if start, end := x.Bounds(i); start != c.Start || end != c.End {
			t.Errorf("chunk %d covers [%d,%d), want [%d,%d)", i, start, end, c.Start, c.End)
		}
	}
	for _, l := range v.Lookup {
		i, rel, ok := x.Find(l.Offset)
		if ok != (l.Index != nil) || ok && (i != *l.Index || rel != *l.Rel) {
			t.Errorf("Find(%d) = %d, %d, %v", l.Offset, i, rel, ok)
		}
	}
	if _, _, ok := x.Find(-1); ok {
		t.Error("Find(-1) finds something")
	}
}

func TestIndexIsWrittenAsTheVectorSays(t *testing.T) {
	v, raw := golden(t)
	uuid, err := hex.DecodeString(v.UUID)
	if err != nil {
		t.Fatal(err)
	}
	h := fidx.Header{UUID: [16]byte(uuid), Ctime: v.Ctime, Sum: v.Csum, Size: v.Size, ChunkSize: v.ChunkSize}
	got := h.Append(nil)
	for i, c := range v.Chunks {
		if fidx.SlotOffset(i) != int64(len(got)) {
			t.Errorf("slot %d at %d, want %d", i, fidx.SlotOffset(i), len(got))
		}
		got = append(got, c.Digest[:]...)
	}
	if !bytes.Equal(got, raw) {
		t.Fatalf("got\n%x\nwant\n%x", got, raw)
	}
}

func TestMagicIsDerivedFromItsName(t *testing.T) {
	s := sha256.Sum256([]byte("Proxmox Backup fixed sized chunk index v1.0"))
	h := fidx.Header{Size: 1, ChunkSize: 1}
	if got := h.Append(nil)[:8]; !bytes.Equal(s[:8], got) {
		t.Fatalf("magic %x, want %x", got, s[:8])
	}
}

func TestReservedBytesAreIgnored(t *testing.T) {
	_, raw := golden(t)
	raw[100], raw[4095] = 1, 1
	open(t, raw)
}

func TestOpenRefuses(t *testing.T) {
	set := func(off int, v uint64) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint64(b[off:], v); return b }
	}
	both := func(size, chunk uint64) func([]byte) []byte {
		return func(b []byte) []byte { return set(72, chunk)(set(64, size)(b)) }
	}
	for _, tc := range []struct {
		name  string
		spoil func([]byte) []byte
	}{
		{"no bytes", func([]byte) []byte { return nil }},
		{"short header", func(b []byte) []byte { return b[:4095] }},
		{"header alone", func(b []byte) []byte { return b[:4096] }},
		{"one byte more", func(b []byte) []byte { return append(b, 0) }},
		{"one byte less", func(b []byte) []byte { return b[:len(b)-1] }},
		{"one digest more", func(b []byte) []byte { return append(b, make([]byte, 32)...) }},
		{"size of one chunk", set(64, 65536)},
		{"size zero", set(64, 0)},
		{"no chunks at all", func(b []byte) []byte { return set(64, 0)(b)[:4096] }},
		{"size 2^63", both(1<<63, 1<<62)},
		{"size 2^64-1 in chunks of one byte", both(math.MaxUint64, 1)},
		{"size 2^64-1 in huge chunks", both(math.MaxUint64, 1<<63)},
		{"count whose table length wraps to two digests", both(1<<59+2, 1)},
		{"foreign magic", func(b []byte) []byte { b[0] ^= 1; return b }},
		{"zero chunk size", set(72, 0)},
		{"odd chunk size", set(72, 65537)},
		{"chunk size 3 << 15", set(72, 3<<15)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, raw := golden(t)
			raw = tc.spoil(raw)
			if _, err := fidx.Open(bytes.NewReader(raw), int64(len(raw))); !errors.Is(err, fidx.ErrFormat) {
				t.Fatalf("err = %v, want ErrFormat", err)
			}
		})
	}
}

func TestBoundsDoNotOverflow(t *testing.T) {
	h := fidx.Header{Size: math.MaxInt64, ChunkSize: 1 << 62}
	if err := h.Validate(); err != nil || h.Count() != 2 {
		t.Fatalf("%d chunks, %v", h.Count(), err)
	}
	if start, end := h.Bounds(1); start != 1<<62 || end != math.MaxInt64 {
		t.Errorf("[%d,%d)", start, end)
	}
	h.ChunkSize = 1 << 63
	if start, end := h.Bounds(0); h.Count() != 1 || start != 0 || end != math.MaxInt64 {
		t.Errorf("[%d,%d)", start, end)
	}
	if i, rel, ok := h.Find(math.MaxInt64 - 1); i != 0 || rel != math.MaxInt64-1 || !ok {
		t.Errorf("Find: %d %d %v", i, rel, ok)
	}
}

func TestChunksOutsideTheIndexAreRefused(t *testing.T) {
	_, raw := golden(t)
	x := open(t, raw)
	for _, i := range []int{-1, 2, math.MaxInt, math.MinInt} {
		if d, err := x.Digest(i); err == nil {
			t.Errorf("chunk %d: %s", i, d)
		}
	}
	if err := x.Digests(1, make([]digest.Digest, 2)); err == nil {
		t.Error("Digests reads past the end")
	}
	if err := x.Digests(2, nil); err != nil {
		t.Errorf("reading nothing at the end: %v", err)
	}
}

// TestLongTableIsReadInBlocks crosses block borders and counts the largest
// read, which bounds the memory.
func TestLongTableIsReadInBlocks(t *testing.T) {
	const n = 5000
	raw := fidx.Header{Size: n<<12 - 5, ChunkSize: 1 << 12}.Append(nil)
	for i := range n {
		d := digest.Of([]byte{byte(i), byte(i >> 8)})
		raw = append(raw, d[:]...)
	}
	r := &watched{r: bytes.NewReader(raw)}
	x, err := fidx.Open(r, int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	all := make([]digest.Digest, n)
	if err := x.Digests(0, all); err != nil {
		t.Fatal(err)
	}
	for i, d := range all {
		if one, err := x.Digest(i); err != nil || one != d || d != digest.Of([]byte{byte(i), byte(i >> 8)}) {
			t.Fatalf("chunk %d: %s and %s, %v", i, d, one, err)
		}
	}
	if sum, err := x.Sum(); err != nil || sum != digest.Of(raw[fidx.HeaderSize:]) {
		t.Errorf("checksum %s, %v", sum, err)
	}
	if r.largest > 64<<10 {
		t.Errorf("a read of %d bytes", r.largest)
	}
}

type watched struct {
	r       io.ReaderAt
	largest int
	fail    int64 // reads that touch this offset fail, if not 0
	err     error
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	w.largest = max(w.largest, len(p))
	if w.fail > 0 && off <= w.fail && w.fail < off+int64(len(p)) {
		return 0, w.err
	}
	return w.r.ReadAt(p, off)
}

func TestReadErrorsAreNotFormatErrors(t *testing.T) {
	_, raw := golden(t)
	broken := errors.New("disk gone")
	w := &watched{r: bytes.NewReader(raw), fail: 1, err: broken}
	if _, err := fidx.Open(w, int64(len(raw))); !errors.Is(err, broken) || errors.Is(err, fidx.ErrFormat) {
		t.Errorf("Open: %v", err)
	}
	w.fail = 4096 + 40
	x, err := fidx.Open(w, int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Digest(0); err != nil {
		t.Errorf("the sound slot: %v", err)
	}
	stop := errors.New("stop")
	w.fail = 0
	if err := x.Each(func(int, digest.Digest) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Each: %v", err)
	}
	w.fail = 4096 + 40
	if _, err := x.Digest(1); !errors.Is(err, broken) {
		t.Errorf("Digest: %v", err)
	}
	if _, err := x.Sum(); !errors.Is(err, broken) {
		t.Errorf("Sum: %v", err)
	}
	if _, err := fidx.Open(bytes.NewReader(raw[:4090]), 4160); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, fidx.ErrFormat) {
		t.Errorf("file shorter than its stated size: %v", err)
	}
}

// fold leaves out the reserved bytes of the header, so that the fuzzer spends
// its time on those that matter.
func fold(raw []byte) []byte { return slices.Concat(raw[:80], raw[fidx.HeaderSize:]) }

func unfold(b []byte) []byte {
	n := min(len(b), 80)
	return slices.Concat(b[:n], make([]byte, fidx.HeaderSize-n), b[n:])
}

func FuzzOpen(f *testing.F) {
	_, raw := golden(f)
	f.Add(fold(raw))
	f.Add(fold(fidx.Header{Size: math.MaxUint64, ChunkSize: 1}.Append(nil)))
	f.Fuzz(func(t *testing.T, folded []byte) {
		b := unfold(folded)
		x, err := fidx.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, fidx.ErrFormat) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		again := x.Append(nil)
		if h, err := fidx.ParseHeader(again); err != nil || h != x.Header {
			t.Fatalf("%+v does not survive a round trip: %+v, %v", x.Header, h, err)
		}
		last := int64(0)
		err = x.Each(func(i int, d digest.Digest) error {
			start, end := x.Bounds(i)
			j, rel, ok := x.Find(end - 1)
			if start != last || end <= start || !ok || j != i || rel != end-1-start {
				t.Fatalf("chunk %d [%d,%d) after %d, found as %d+%d", i, start, end, last, j, rel)
			}
			last = end
			again = append(again, d[:]...)
			return nil
		})
		if err != nil || uint64(last) != x.Size {
			t.Fatalf("chunks end at %d of %d: %v", last, x.Size, err)
		}
		if !bytes.Equal(again[:80], b[:80]) || !bytes.Equal(again[4096:], b[4096:]) {
			t.Fatal("what was read is not what was there")
		}
	})
}

func TestWholeFileIsWrittenAsItWasRead(t *testing.T) {
	_, raw := golden(t)
	var b bytes.Buffer
	n, err := open(t, raw).WriteTo(&b)
	if err != nil || n != int64(len(raw)) || !bytes.Equal(b.Bytes(), raw) {
		t.Fatalf("%d bytes of %d, %v; equal: %v", n, len(raw), err, bytes.Equal(b.Bytes(), raw))
	}
}
