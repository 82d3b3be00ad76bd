package zstd_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/zstd"
)

func encoder(t testing.TB) *zstd.Encoder {
	t.Helper()
	e, err := zstd.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func decoder(t testing.TB) *zstd.Decoder {
	t.Helper()
	d, err := zstd.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func random(n int) []byte {
	b := make([]byte, n)
	c := rand.NewChaCha8([32]byte{7})
	_, _ = c.Read(b)
	return b
}

func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "line %d: %s %x\n", b.Len(), strings.Repeat("ab", r.IntN(9)), r.Uint32())
	}
	return b.Bytes()[:n]
}

func TestEveryLengthSurvivesARoundTrip(t *testing.T) {
	e, d := encoder(t), decoder(t)
	for _, n := range []int{0, 1, 2, 100, 128<<10 - 1, 128 << 10, 128<<10 + 1, 4<<20 - 1, 4 << 20, 9<<20 + 5} {
		for name, plain := range map[string][]byte{"random": random(n), "text": text(n), "zeros": make([]byte, n)} {
			dst := make([]byte, zstd.Bound(n))
			k, ok := e.Compress(dst, plain)
			if !ok {
				t.Fatalf("%s, %d bytes: does not fit into Bound", name, n)
			}
			back := make([]byte, n)
			got, err := d.Decompress(back, dst[:k])
			if err != nil || !bytes.Equal(back[:got], plain) {
				t.Fatalf("%s, %d bytes: %d come back, %v", name, n, got, err)
			}
		}
	}
}

func TestFrameCarriesItsSizeAndNoChecksum(t *testing.T) {
	e := encoder(t)
	dst := make([]byte, zstd.Bound(4<<20))
	if _, ok := e.Compress(dst, text(4<<20)); !ok {
		t.Fatal("text does not compress")
	}
	const singleSegment, checksum = 1 << 5, 1 << 2
	switch fhd := dst[4]; {
	case fhd>>6 == 0 && fhd&singleSegment == 0:
		t.Errorf("descriptor %08b: no content size", fhd)
	case fhd&checksum != 0:
		t.Errorf("descriptor %08b: has a checksum", fhd)
	case fhd&3 != 0:
		t.Errorf("descriptor %08b: names a dictionary", fhd)
	}
}

func TestCompressSaysWhenItDoesNotPay(t *testing.T) {
	e := encoder(t)
	for _, n := range []int{1, 100, 5000, 1 << 20} {
		plain := random(n)
		dst := make([]byte, n-1, zstd.Bound(n))
		if k, ok := e.Compress(dst, plain); ok {
			t.Errorf("%d random bytes shrink to %d", n, k)
		}
		// The same without room behind the limit.
		if k, ok := e.Compress(dst[:n-1:n-1], plain); ok {
			t.Errorf("%d random bytes shrink to %d", n, k)
		}
	}
	if _, ok := e.Compress(nil, nil); ok {
		t.Error("an empty frame fits into nothing")
	}
}

func TestCompressFillsExactlyTheRoomItNeeds(t *testing.T) {
	e, d := encoder(t), decoder(t)
	plain := text(300 << 10)
	dst := make([]byte, zstd.Bound(len(plain)))
	k, _ := e.Compress(dst, plain)
	tight := make([]byte, k, zstd.Bound(len(plain)))
	if n, ok := e.Compress(tight, plain); !ok || n != k {
		t.Fatalf("%d bytes, %v; want %d", n, ok, k)
	}
	if n, err := d.Decompress(make([]byte, len(plain)), tight); err != nil || n != len(plain) {
		t.Fatalf("%d, %v", n, err)
	}
	if _, ok := e.Compress(tight[:k-1], plain); ok {
		t.Error("fits into one byte less")
	}
}

// Frames made by the zstd command line tool 1.5.4, level 1.
const (
	quick    = "The quick brown fox jumps over the lazy dog. " // forty times
	sized    = "28b52ffd600806b50100d40254686520717569636b2062726f776e20666f78206a756d7073206f76657220746865206c617a7920646f672e200100c516feaa0c"
	streamed = "28b52ffd0048b50100d40254686520717569636b2062726f776e20666f78206a756d7073206f76657220746865206c617a7920646f672e200100c516feaa0c"

	hold              = "Holdfast Holdfast Holdfast Holdfast"
	holdSizedSum      = "28b52ffd24237d000048486f6c6466617374200100b4cb111e7cf2e1"
	holdStreamedSum   = "28b52ffd04487d000048486f6c6466617374200100b4cb111e7cf2e1"
	holdStreamed      = "28b52ffd00487d000048486f6c6466617374200100b4cb11"
	holdWrongSum      = "28b52ffd24237d000048486f6c6466617374200100b4cb111e7cf2e0"
	skippable         = "502a4d1804000000deadbeef"
	empty             = "28b52ffd2000010000"
	namesADictionary  = "28b52ffd2107237d000048486f6c6466617374200100b4cb11"
	reservedBlockType = "28b52ffd2001070000"
	claims8EiB        = "28b52ffde0feffffffffffff7f7d000048486f6c6466617374200100b4cb11"
	window2GiB        = "28b52ffd00a87d000048486f6c6466617374200100b4cb11"
	oldFormat07       = "27b52ffd00487d000048486f6c6466617374200100b4cb11"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFramesOfOthersAreRead(t *testing.T) {
	dogs := strings.Repeat(quick, 40)
	for _, tc := range []struct{ name, frames, want string }{
		{"content size", sized, dogs},
		{"no content size", streamed, dogs},
		{"content size and checksum", holdSizedSum, hold},
		{"checksum without content size", holdStreamedSum, hold},
		{"two frames", sized + sized, dogs + dogs},
		{"two frames without sizes", streamed + holdStreamed, dogs + hold},
		{"three frames of all kinds", holdStreamedSum + streamed + sized, hold + dogs + dogs},
		{"skippable frames around", skippable + holdSizedSum + skippable + holdStreamed + skippable, hold + hold},
		{"empty frame", empty, ""},
		{"empty frame between", holdStreamed + empty + holdStreamed, hold + hold},
		{"only a skippable frame", skippable, ""},
		{"a window larger than the data will ever be", window2GiB, hold},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := decoder(t)
			guard := []byte(strings.Repeat("#", len(tc.want)+64))
			n, err := d.Decompress(guard[:len(tc.want)], unhex(t, tc.frames))
			if err != nil || string(guard[:n]) != tc.want {
				t.Fatalf("%q, %v", guard[:n], err)
			}
			if strings.Trim(string(guard[len(tc.want):]), "#") != "" {
				t.Fatal("wrote behind the buffer")
			}
			large := make([]byte, len(tc.want)+200<<10)
			if n, err := d.Decompress(large, unhex(t, tc.frames)); err != nil || string(large[:n]) != tc.want {
				t.Fatalf("with room to spare: %d bytes, %v", n, err)
			}
			if len(tc.want) == 0 {
				return
			}
			if _, err := d.Decompress(guard[:len(tc.want)-1], unhex(t, tc.frames)); !errors.Is(err, zstd.ErrTooLarge) {
				t.Fatalf("one byte less room: %v, want ErrTooLarge", err)
			}
			if _, err := d.Decompress(nil, unhex(t, tc.frames)); !errors.Is(err, zstd.ErrTooLarge) {
				t.Fatalf("no room: %v, want ErrTooLarge", err)
			}
		})
	}
}

func TestDamagedInputIsErrCorrupt(t *testing.T) {
	for _, tc := range []struct{ name, frames string }{
		{"nothing", ""},
		{"one byte", "28"},
		{"magic alone", "28b52ffd"},
		{"text", "486f6c6466617374"},
		{"cut frame", sized[:len(sized)-2]},
		{"cut second frame", sized + streamed[:40]},
		{"garbage behind", holdStreamed + "00"},
		{"more garbage behind", holdStreamed + "0011223344556677"},
		{"wrong checksum", holdWrongSum},
		{"dictionary", namesADictionary},
		{"reserved block type", reservedBlockType},
		{"cut skippable frame", skippable[:len(skippable)-2]},
		{"format from before 0.8", oldFormat07},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n, err := decoder(t).Decompress(make([]byte, 4096), unhex(t, tc.frames))
			if !errors.Is(err, zstd.ErrCorrupt) {
				t.Fatalf("%d bytes, err = %v, want ErrCorrupt", n, err)
			}
		})
	}
}

func TestContentSizeIsWhatTheFirstFrameClaims(t *testing.T) {
	for _, tc := range []struct {
		name, frames string
		want         uint64
		ok           bool
	}{
		{"none", streamed, 0, false},
		{"none with checksum", holdStreamedSum, 0, false},
		{"one byte", holdSizedSum, 35, true},
		{"one byte, zero", empty, 0, true},
		{"one byte behind a dictionary id", namesADictionary, 35, true},
		{"two bytes", sized, 1800, true},
		{"four bytes", "28b52ffda000008000", 8 << 20, true},
		{"four bytes behind a window", "28b52ffd806000008000", 8 << 20, true},
		{"eight bytes", claims8EiB, 1<<63 - 2, true},
		{"skippable", skippable + sized, 0, false},
		{"old format", oldFormat07, 0, false},
		{"cut", "28b52ffda0000080", 0, false},
		{"nothing", "", 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if n, ok := zstd.ContentSize(unhex(t, tc.frames)); n != tc.want || ok != tc.ok {
				t.Fatalf("%d, %v; want %d, %v", n, ok, tc.want, tc.ok)
			}
		})
	}
	e, dst := encoder(t), make([]byte, zstd.Bound(4<<20))
	for _, n := range []int{0, 1, 255, 256, 65535 + 256, 65536 + 256, 1 << 20, 4 << 20} {
		k, _ := e.Compress(dst, make([]byte, n))
		if got, ok := zstd.ContentSize(dst[:k]); !ok || got != uint64(n) {
			t.Errorf("our frame of %d bytes: %d, %v", n, got, ok)
		}
	}
}

// TestLongFramesWithoutSizeAreMeasuredExactly puts the limit everywhere around
// block borders of a frame of many blocks.
func TestLongFramesWithoutSizeAreMeasuredExactly(t *testing.T) {
	d := decoder(t)
	plain := append(text(300<<10), random(100<<10)...)
	frame, err := os.ReadFile("testdata/text-then-random.streamed.zst")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	for _, room := range []int{0, 1, 128 << 10, 128<<10 + 1, 256<<10 - 1, 300 << 10, len(plain) - 1, len(plain), len(plain) + 1, 1 << 20} {
		n, err := d.Decompress(buf[:room], frame)
		if room < len(plain) && !errors.Is(err, zstd.ErrTooLarge) {
			t.Errorf("room for %d of %d: %d, %v; want ErrTooLarge", room, len(plain), n, err)
		}
		if room >= len(plain) && (err != nil || !bytes.Equal(buf[:n], plain)) {
			t.Errorf("room for %d of %d: %d, %v", room, len(plain), n, err)
		}
	}
	if _, err := d.Decompress(buf, frame[:len(frame)-5]); !errors.Is(err, zstd.ErrCorrupt) {
		t.Errorf("cut frame: %v, want ErrCorrupt", err)
	}
}

func TestClaimedSizeTakesNoMemory(t *testing.T) {
	d := decoder(t)
	_, err := d.Decompress(make([]byte, 4096), unhex(t, claims8EiB))
	if !errors.Is(err, zstd.ErrTooLarge) && !errors.Is(err, zstd.ErrCorrupt) {
		t.Fatalf("err = %v", err)
	}
}

func TestDecoderStaysUsableAfterErrors(t *testing.T) {
	d, dst := decoder(t), make([]byte, 35)
	for _, bad := range []string{holdWrongSum, sized, skippable[:8], namesADictionary} {
		if _, err := d.Decompress(dst, unhex(t, bad)); err == nil {
			t.Fatalf("%s decodes", bad)
		}
		if n, err := d.Decompress(dst, unhex(t, holdStreamed)); err != nil || string(dst[:n]) != hold {
			t.Fatalf("after %s: %q, %v", bad, dst[:n], err)
		}
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	e, d := encoder(t), decoder(t)
	for _, plain := range [][]byte{text(1 << 20), random(1 << 20), text(3000)} {
		packed, back := make([]byte, zstd.Bound(len(plain))), make([]byte, len(plain))
		n := testing.AllocsPerRun(10, func() {
			k, ok := e.Compress(packed, plain)
			if !ok {
				t.Fatal("does not fit")
			}
			if _, err := d.Decompress(back, packed[:k]); err != nil {
				t.Fatal(err)
			}
			if _, ok := e.Compress(packed[:k-1], plain); ok {
				t.Fatal("fits into less")
			}
		})
		if n > spareAllocs {
			t.Errorf("%d bytes: %v allocations per round", len(plain), n)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	for _, s := range []string{
		sized, streamed, sized + streamed, holdSizedSum, holdStreamedSum, holdStreamed, skippable + holdStreamed, empty,
		holdWrongSum, namesADictionary, reservedBlockType, claims8EiB, window2GiB, oldFormat07,
	} {
		f.Add(unhex(f, s), uint16(2000))
	}
	f.Fuzz(func(t *testing.T, src []byte, room uint16) {
		e, d := encoder(t), decoder(t)
		buf := make([]byte, int(room)+64)
		n, err := d.Decompress(buf[:room], src)
		for _, b := range buf[room:] {
			if b != 0 {
				t.Fatal("wrote behind the buffer")
			}
		}
		if err != nil {
			if !errors.Is(err, zstd.ErrCorrupt) && !errors.Is(err, zstd.ErrTooLarge) {
				t.Fatalf("err = %v", err)
			}
			return
		}
		packed := make([]byte, zstd.Bound(n))
		k, ok := e.Compress(packed, buf[:n])
		if !ok {
			t.Fatalf("%d bytes do not fit into Bound", n)
		}
		back := make([]byte, n)
		if m, err := d.Decompress(back, packed[:k]); err != nil || m != n || !bytes.Equal(back, buf[:n]) {
			t.Fatalf("%d bytes come back as %d, %v", n, m, err)
		}
	})
}
