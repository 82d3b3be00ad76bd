package ext_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/ext"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// touched notes which chunks of an archive are read.
type touched struct {
	image.Image
	chunks map[int64]bool
	reads  int
}

func (x *touched) ReadAt(p []byte, off int64) (int, error) {
	x.reads++
	for c := off >> 22; c <= (off+int64(len(p))-1)>>22; c++ {
		x.chunks[c] = true
	}
	return x.Image.ReadAt(p, off)
}

// The first listing of a directory of a large image from a cold repository costs
// a chunk for the superblock and the descriptors, one for the inodes and one for
// the directory.
func TestFirstListingOfATebibyteReadsFewChunks(t *testing.T) {
	fsreadtest.Root(t)
	img := fsreadtest.Make(t, 1<<40, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard")
	dir, unmount := fsreadtest.Mount(t, img, "noinit_itable")
	for i := range 100 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	unmount()
	x := &touched{Image: fsreadtest.OpenFile(t, img), chunks: map[int64]bool{}}
	f, err := ext.Open(x)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := f.ReadDir(f.Root(), func(e fsread.Entry) error {
		n++
		_, err := f.Stat(e.ID)
		return err
	}); err != nil || n != 101 {
		t.Fatalf("%d entries, %v", n, err)
	}
	if len(x.chunks) > 4 || x.reads > 20 {
		t.Errorf("%d reads of %d chunks: %v", x.reads, len(x.chunks), x.chunks)
	}
}

// What a walk through many small files costs, content and attributes included.
func BenchmarkSmallFiles(b *testing.B) {
	const dirs, files = 100, 1000
	img := fsreadtest.Make(b, 1200*mib, "mkfs.ext4", "-q", "-F", "-N", "120000")
	dir, unmount := fsreadtest.Mount(b, img, "")
	data := make([]byte, 3000)
	for d := range dirs {
		if err := os.Mkdir(filepath.Join(dir, fmt.Sprint(d)), 0o755); err != nil {
			b.Fatal(err)
		}
		for i := range files {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(d), fmt.Sprint(i)), data[:100+i*2], 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	unmount()
	dir, _ = fsreadtest.Mount(b, img, "ro")
	b.Run("reader", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f, err := ext.Open(fsreadtest.OpenFile(b, img))
			if err != nil {
				b.Fatal(err)
			}
			if n := walk(b, f, f.Root()); n != dirs*files {
				b.Fatalf("%d files", n)
			}
		}
	})
	b.Run("tar of a loop mount", func(b *testing.B) {
		for b.Loop() {
			fsreadtest.Run(b, "sh", "-c", "echo 2 >/proc/sys/vm/drop_caches; tar cf - --xattrs -C "+dir+" . | cat >/dev/null")
		}
	})
}

func walk(b *testing.B, f *ext.FS, dir fsread.ID) (n int) {
	var all []fsread.Entry
	if err := f.ReadDir(dir, func(e fsread.Entry) error { all = append(all, e); return nil }); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 4096)
	for _, e := range all {
		st, err := f.Stat(e.ID)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.Xattrs(e.ID); err != nil {
			b.Fatal(err)
		}
		switch st.Kind {
		case fsread.Directory:
			n += walk(b, f, e.ID)
		case fsread.Regular:
			n++
			c, err := f.Open(e.ID)
			if err != nil {
				b.Fatal(err)
			}
			if k, _ := c.ReadAt(buf, 0); int64(k) != st.Size {
				b.Fatalf("%d bytes of %d", k, st.Size)
			}
		}
	}
	return n
}
