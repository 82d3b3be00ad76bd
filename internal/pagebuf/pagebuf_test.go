package pagebuf_test

import (
	"os"
	"testing"
	"unsafe"

	"github.com/holdfast-backup/holdfast/internal/pagebuf"
)

func TestBufferIsZeroAlignedAndCounted(t *testing.T) {
	for _, n := range []int{1, 4096, 65537, 2 << 20, 4<<20 + 44} {
		before := pagebuf.Outstanding()
		buf, err := pagebuf.New(n)
		if err != nil {
			t.Fatal(err)
		}
		b := buf.Bytes()
		if len(b) != n || cap(b) != n {
			t.Errorf("size %d: len %d cap %d", n, len(b), cap(b))
		}
		if at := uintptr(unsafe.Pointer(&b[0])); at%uintptr(os.Getpagesize()) != 0 {
			t.Errorf("size %d: not aligned to a page: %#x", n, at)
		}
		for i, c := range b {
			if c != 0 {
				t.Fatalf("size %d: byte %d is %d", n, i, c)
			}
			b[i] = 0xff
		}
		if got := pagebuf.Outstanding(); got != before+1 {
			t.Errorf("%d outstanding, want %d", got, before+1)
		}
		buf.Free()
		buf.Free()
		if got := pagebuf.Outstanding(); got != before {
			t.Errorf("%d outstanding after Free, want %d", got, before)
		}
	}
}

func TestImpossibleSizesAreErrors(t *testing.T) {
	for _, n := range []int{0, -1, 1<<30 + 1} {
		if b, err := pagebuf.New(n); err == nil {
			b.Free()
			t.Errorf("New(%d) worked", n)
		}
	}
	if n := pagebuf.Outstanding(); n != 0 {
		t.Errorf("%d outstanding", n)
	}
}
