package fusefile_test

import (
	"bytes"
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/kernel/fusefile"
)

func TestHolesAreFoundAndMade(t *testing.T) {
	needRoot(t)
	img := random(1 << 20)
	clear(img.b[64<<10 : 128<<10])
	for _, old := range []bool{false, true} {
		f, err := fusefile.Anonymous(img, fusefile.Options{Dir: t.TempDir()}.OldMount(old))
		if err != nil {
			t.Fatal(err)
		}
		fd, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ off, whence, want int64 }{
			{0, unix.SEEK_HOLE, 64 << 10}, {64 << 10, unix.SEEK_DATA, 128 << 10}, {128 << 10, unix.SEEK_HOLE, 1 << 20},
		} {
			if got, err := unix.Seek(fd, c.off, int(c.whence)); err != nil || !old && got != c.want {
				t.Errorf("seek %d from %d: %d, %v; want %d", c.whence, c.off, got, err, c.want)
			}
		}
		if err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 8192, 4096); err != nil {
			t.Error(err)
		}
		b := make([]byte, 4096)
		if _, err := unix.Pread(fd, b, 8192); err != nil || !bytes.Equal(b, make([]byte, 4096)) {
			t.Errorf("a punched hole is not zero: %v", err)
		}
		if err := unix.Fsync(fd); err != nil || img.flushes() == 0 {
			t.Errorf("fsync: %v, %d flushes", err, img.flushes())
		}
		_ = unix.Close(fd)
		if err := f.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}
