package target_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image/target"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
)

// Long aligned writes take another way than the rest: all of them must meet.
func TestWritesOfAnyLengthAndPlaceMeet(t *testing.T) {
	const size = 24*mib + 777
	buf, err := pagebuf.New(size)
	if err != nil {
		t.Fatal(err)
	}
	defer buf.Free()
	want := buf.Bytes()
	_, _ = rand.NewChaCha8([32]byte{1}).Read(want)

	fresh := filepath.Join(t.TempDir(), "fresh")
	existing := filepath.Join(t.TempDir(), "existing")
	if err := os.WriteFile(existing, random(size), 0o600); err != nil {
		t.Fatal(err)
	}
	old, err := target.OpenExisting(existing, size)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	if _, err := old.ReadAt(make([]byte, size), 0); err != nil { // into the cache
		t.Fatal(err)
	}
	for _, f := range []*target.File{create(t, fresh, size, target.Options{}), old} {
		rnd := rand.New(rand.NewPCG(1, 0))
		var wg sync.WaitGroup
		for off := 0; off < size; {
			n := []int{1 + rnd.IntN(9000), 4096, 1 + rnd.IntN(mib), 2*mib - off%4096, 4096 - off%4096}[rnd.IntN(5)]
			n = min(n, size-off)
			part, at := want[off:off+n], int64(off)
			wg.Go(func() {
				if k, err := f.WriteAt(part, at); k != n || err != nil {
					t.Errorf("%d of %d bytes at %d: %v", k, n, at, err)
				}
			})
			off += n
		}
		wg.Wait()
		got := make([]byte, size)
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s before the end: %v", f.Path(), err)
		}
		if err := f.Finish(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(f.Path())
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes of %d, or others: %v", f.Path(), len(got), size, err)
		}
	}
}
