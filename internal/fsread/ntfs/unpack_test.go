package ntfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

// sampleText is what wimlib packed into testdata: lines, and calls of functions.
func sampleText(n int) (b []byte) {
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "line %d, and %d more; ", i, i*i%97)
		b = binary.LittleEndian.AppendUint32(append(b, 0xe8), uint32(3*i-200))
	}
	return b[:n]
}

// samples are the stream of a file of 9000 bytes in the kinds 0 and 1, by wimlib-imagex
// capture --compress=XPRESS --chunk-size=4096, and LZX.
func sample(t testing.TB, kind int) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", []string{"xpress4k.bin", "lzx.bin"}[kind]))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestChunksAreUnpackedAsWimlibPackedThem(t *testing.T) {
	for kind := range 2 {
		packed := fsreadtest.Mem(sample(t, kind))
		k := wofKinds[kind]
		w := &wof{kind: k, size: 9000, packed: packed, held: -1, entry: 4, chunks: (9000 + k.chunk - 1) / k.chunk}
		w.table = 4 * (w.chunks - 1)
		got := make([]byte, 9000)
		if n, err := w.ReadAt(got, 0); n != len(got) || !bytes.Equal(got, sampleText(9000)) {
			t.Errorf("kind %d: %d bytes, %v", kind, n, err)
		}
		// What is cut, or said to be of another length, is damaged and nothing else.
		for _, cut := range []int{20, 300, len(packed) - 1} {
			w := &wof{kind: k, size: 9000, packed: packed[:cut], held: -1, entry: 4, chunks: w.chunks, table: w.table}
			if _, err := w.ReadAt(got, 9000-100); !fsread.IsCorrupt(err) && cut < 1000 {
				t.Errorf("kind %d, cut to %d bytes: %v", kind, cut, err)
			}
		}
	}
}

// Whatever is decompressed, it ends, and in the room that it has.
func FuzzUnpackChunk(f *testing.F) {
	for kind := range 2 {
		packed := sample(f, kind)
		if kind == 0 {
			packed = packed[8:][:le.Uint32(packed)]
		}
		f.Add(packed, kind == 1, uint16(4096))
	}
	f.Fuzz(func(t *testing.T, b []byte, byLZX bool, room uint16) {
		dst := make([]byte, room)
		if byLZX {
			unlzx(dst, b)
		} else {
			xpress(dst, b)
		}
	})
}
