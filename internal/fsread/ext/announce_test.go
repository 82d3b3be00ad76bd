package ext_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/ext"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// heard is an image that notes which announced ranges were not read yet.
type heard struct {
	image.Image
	mu      sync.Mutex
	waiting map[int64]int64 // length by offset
	most    int
}

func (h *heard) WillNeed(off, n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting[off] = n
	h.most = max(h.most, len(h.waiting))
}

func (h *heard) ReadAt(p []byte, off int64) (int, error) {
	h.mu.Lock()
	for at, n := range h.waiting {
		if off < at+n && at < off+int64(len(p)) {
			delete(h.waiting, at)
		}
	}
	h.mu.Unlock()
	return h.Image.ReadAt(p, off)
}

// A directory that grew while files were written lies between them.
func TestAllPlacesOfADirectoryAreAnnouncedBeforeTheFirstIsRead(t *testing.T) {
	dir := t.TempDir()
	for i := range 400 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("a name of some length, number %04d", i)), []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, err := image.OpenFile(small(t, dir), image.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // was only read
	h := &heard{Image: file, waiting: map[int64]int64{}}
	f, err := ext.Open(h)
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	err = f.ReadDir(f.Root(), func(fsread.Entry) error {
		names++
		return nil
	})
	if err != nil || names != 401 { // lost+found too
		t.Errorf("%d names, %v", names, err)
	}
	if h.most < 3 {
		t.Errorf("%d places at most were announced and not read", h.most)
	}
}
