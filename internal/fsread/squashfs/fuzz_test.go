package squashfs

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// fixture is an image of one small tree: mksquashfs -b 4K, and for plain with -noI -noD
// -noF -noX.
func fixture(t testing.TB, name string) fsreadtest.Mem {
	t.Helper()
	return fsreadtest.Unpack(t, filepath.Join("testdata", name+".gz"))
}

// A change of bytes anywhere may change what is read; it may not end in a panic, a
// loop or a broken contract.
func FuzzOpen(f *testing.F) {
	for i := range uint64(8) {
		f.Add(i, uint16(1<<i), i%4 != 0)
	}
	plain, packed := fixture(f, "plain"), fixture(f, "gzip")
	f.Fuzz(func(t *testing.T, seed uint64, flips uint16, asPlain bool) {
		img := bytes.Clone(packed)
		if asPlain {
			img = bytes.Clone(plain)
		}
		img = img[:le.Uint64(img[40:])]
		r := rand.New(rand.NewPCG(seed, 0))
		for range flips {
			at := r.IntN(len(img))
			if r.IntN(4) == 0 { // the head of all
				at = r.IntN(superSize)
			}
			img[at] = byte(r.Uint32() >> (8 * r.IntN(4)))
		}
		if fs, err := Open(fsreadtest.Mem(img)); err == nil {
			fsreadtest.Exhaust(t, fs, fsreadtest.Budget{Files: 400, Bytes: 64 << 10})
		}
	})
}

// packedNumbers is how the numbers from 1 on begin in each compression, by mksquashfs.
var packedNumbers = map[uint16]string{
	1: "78da330200003300", // a zlib stream that is not whole
	2: "5d000002004536000000000000001882828f224ef8a655f7f099a5250d",
	3: "45310a320a330a340a350a360a370a380a390a31300a31310a",
	4: "fd377a585a0000016922de3603c0bc09c56c21010a0000008695f675e0364404b45d",
	5: "f1ff3b310a320a330a340a350a360a370a380a390a31300a",
	6: "28b52ffd6045350d84006a6b2e4109b0eb24498870529875fb03060421044293",
}

// Whatever is decompressed, it ends, and in the room that it has.
func FuzzUnpack(f *testing.F) {
	for kind, text := range packedNumbers {
		b, err := hex.DecodeString(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(kind, b)
	}
	f.Add(uint16(5), []byte{0x42, 'a', 'b', 'c', 'd', 2, 0, 0x10, 'e'})
	f.Fuzz(func(t *testing.T, kind uint16, b []byte) {
		unpack, err := newUnpacker(kind, minBlock)
		if err != nil {
			return
		}
		dst := make([]byte, metaSize)
		for range 2 { // a decoder that failed serves once more
			if n, err := unpack(dst, b); n < 0 || n > len(dst) || err != nil && n > 0 && kind == 1 {
				t.Fatalf("kind %d: %d bytes, %v", kind, n, err)
			}
		}
	})
}

func TestLZ4CopiesLiteralsAndMatches(t *testing.T) {
	packed := []byte{0x42, 'a', 'b', 'c', 'd', 2, 0, 0x10, 'e'}
	for room, want := range map[int]string{16: "abcdcdcdcde", 11: "abcdcdcdcde", 10: ""} {
		dst := make([]byte, room)
		n, ok := unlz4(dst, packed)
		if string(dst[:n]) != want || ok != (want != "") {
			t.Errorf("into %d bytes: %q, %v", room, dst[:n], ok)
		}
	}
	for end := range packed {
		if n, ok := unlz4(make([]byte, 16), packed[:end]); ok && end != 5 {
			t.Errorf("the first %d bytes: %d bytes", end, n)
		}
	}
}

func TestImagesAreReadOnEverySystem(t *testing.T) {
	for _, name := range []string{"plain", "gzip"} {
		f, err := Open(fixture(t, name))
		if err != nil {
			t.Fatal(err)
		}
		e, err := f.Lookup(f.Root(), "numbers")
		if err != nil {
			t.Fatal(err)
		}
		img, err := f.Open(e.ID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(img, 0, img.Size()))
		var want strings.Builder
		for i := range 3000 {
			want.WriteString(strconv.Itoa(i+1) + "\n")
		}
		if err != nil || string(got) != want.String() {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		attrs, err := f.Xattrs(e.ID)
		if err != nil || len(attrs) != 1 || attrs[0].Name != "user.a" || string(attrs[0].Value) != strings.Repeat("v", 300) {
			t.Errorf("%s: %q, %v", name, attrs, err)
		}
	}
}

func TestWhatIsNotUnderstoodIsRefusedByName(t *testing.T) {
	for what, spoil := range map[string]func([]byte){
		"version 3.1":            func(b []byte) { b[28], b[30] = 3, 1 },
		"big-endian":             func(b []byte) { copy(b, "sqsh") },
		"compression of kind 77": func(b []byte) { b[20] = 77 },
	} {
		b := bytes.Clone(fixture(t, "plain"))
		spoil(b)
		u := &fsread.UnsupportedError{}
		if _, err := Open(fsreadtest.Mem(b)); !errors.As(err, &u) || !strings.Contains(u.What, what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Open(make(fsreadtest.Mem, 4096)); !errors.Is(err, fsread.ErrOther) {
		t.Errorf("zeros: %v", err)
	}
}

func TestDamageIsSaidToBeSome(t *testing.T) {
	for what, spoil := range map[string]func([]byte) []byte{
		"cut":                     func(b []byte) []byte { return b[:20_000] },
		"an odd block":            func(b []byte) []byte { b[13] = 0x11; return b },
		"a root behind the end":   func(b []byte) []byte { b[36] = 1; return b },
		"inodes behind the end":   func(b []byte) []byte { b[67] = 1; return b },
		"owners at the start":     func(b []byte) []byte { clear(b[48:56]); return b },
		"a file for the root":     func(b []byte) []byte { clear(b[32:40]); return b },
		"attributes nowhere":      func(b []byte) []byte { b[61] = 7; return b },
		"more bytes than it has":  func(b []byte) []byte { b[43] = 7; return b },
		"metadata of 32768 bytes": func(b []byte) []byte { clear(b[le.Uint64(b[64:])+le.Uint64(b[32:])>>16:][:2]); return b },
	} {
		if _, err := Open(fsreadtest.Mem(spoil(bytes.Clone(fixture(t, "plain"))))); !fsread.IsCorrupt(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// An error of the image means that nothing is known, and not that there is damage.
func TestImageThatCannotBeReadIsNotDamaged(t *testing.T) {
	b := fixture(t, "plain")
	for at := int64(0); at < b.Size(); at += 512 {
		f, err := Open(image.Faulty{Image: b, Bad: at, Length: 512, Err: syscall.EIO})
		if err == nil {
			err = fsreadtest.List(f, io.Discard)
		}
		if err != nil && !errors.Is(err, syscall.EIO) {
			t.Fatalf("at %d: %v", at, err)
		}
	}
}

// The places that are remembered stay few, whatever is sought for in which order.
func TestBlocksOfALongFileAreFoundInAnyOrder(t *testing.T) {
	// Lengths that tell which block they are of, in metadata that is not compressed.
	const blocks = 60_000
	img := make([]byte, superSize)
	for at := 0; at < blocks; at += metaSize / 4 {
		img = le.AppendUint16(img, 0x8000|metaSize)
		for i := range metaSize / 4 {
			img = le.AppendUint32(img, uint32((at+i)%1000))
		}
	}
	f := &FS{img: fsreadtest.Mem(img), meta: map[int64]*metaBlock{}}
	l := newBlockList(cursor{f: f, at: superSize}, 7)
	l.stride = 8 // so close that there are too many to be kept
	want := func(block int64) int64 { return 7 + block/1000*499_500 + (block%1000)*(block%1000-1)/2 }
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 3000 {
		block := r.Int64N(blocks)
		if i%3 == 0 {
			block = min(blocks-1, l.here.block+1)
		}
		at, stored, err := l.find(block)
		if err != nil || at != want(block) || stored != uint32(block%1000) {
			t.Fatalf("block %d: at %d with %d bytes, %v, want %d with %d", block, at, stored, err, want(block), block%1000)
		}
		if len(l.marks) > maxMarks+1 {
			t.Fatalf("%d places", len(l.marks))
		}
	}
	if l.stride == 8 {
		t.Error("no place was given up")
	}
}
