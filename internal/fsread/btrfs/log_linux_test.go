package btrfs_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread/btrfs"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"golang.org/x/sys/unix"
)

var (
	logs     = flag.Uint64("logs", 4, "how many random logs are applied")
	firstLog = flag.Uint64("first-log", 0, "the seed of the first one")
)

// work changes files at random, with calls of fsync between.
type work struct {
	t     *testing.T
	r     *rand.Rand
	dir   string
	files []string
	dirs  []string
	n     int
}

func (w *work) pick(of []string) string { return of[w.r.IntN(len(of))] }

func (w *work) fresh() string {
	w.n++
	return filepath.Join(w.pick(w.dirs), fmt.Sprintf("%s%d", strings.Repeat("n", w.r.IntN(20)+1), w.n))
}

// check is for what can fail because files were moved away.
func (w *work) check(err error) {
	w.t.Helper()
	if err != nil && !os.IsNotExist(err) && !os.IsExist(err) && !errors.Is(err, unix.EXDEV) {
		w.t.Fatal(err)
	}
}

func (w *work) write(name string) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	w.check(err)
	if err != nil {
		return
	}
	defer f.Close()
	for range 1 + w.r.IntN(4) {
		b := make([]byte, 1+w.r.IntN(30_000))
		for i := range b {
			b[i] = byte(w.r.Uint32() >> (w.r.IntN(3) * 10))
		}
		_, err := f.WriteAt(b, w.r.Int64N(200_000)*int64(w.r.IntN(2)))
		w.check(err)
	}
	switch w.r.IntN(8) {
	case 0:
		w.check(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, w.r.Int64N(100_000), 1+w.r.Int64N(50_000)))
	case 1:
		w.check(f.Truncate(w.r.Int64N(150_000)))
	case 2:
		w.check(unix.Fallocate(int(f.Fd()), uint32(w.r.IntN(2)), w.r.Int64N(300_000), 1+w.r.Int64N(100_000)))
	case 3:
		_ = unix.Fsetxattr(int(f.Fd()), fmt.Sprintf("user.%d", w.r.IntN(5)), []byte(strings.Repeat("v", w.r.IntN(100))), 0)
	case 4:
		_ = unix.Fremovexattr(int(f.Fd()), fmt.Sprintf("user.%d", w.r.IntN(5)))
	}
	if w.r.IntN(3) == 0 {
		w.check(f.Sync())
	}
}

func (w *work) step() {
	switch w.r.IntN(12) {
	case 0, 1, 2:
		name := w.fresh()
		w.write(name)
		w.files = append(w.files, name)
	case 3, 4, 5:
		w.write(w.pick(w.files))
	case 6:
		name := w.fresh()
		w.check(os.Link(w.pick(w.files), name))
		w.files = append(w.files, name)
	case 7:
		from, to := w.pick(w.files), w.fresh()
		if w.r.IntN(2) == 0 {
			to = w.pick(w.files)
		}
		w.check(os.Rename(from, to))
		w.files = append(w.files, to)
	case 8:
		w.check(os.Remove(w.pick(w.files)))
	case 9:
		name := w.fresh()
		w.check(os.Mkdir(name, 0o750))
		w.dirs = append(w.dirs, name)
	case 10:
		name := w.fresh()
		w.check(os.Symlink("to/somewhere", name))
	case 11:
		w.sync(w.pick(append([]string{w.pick(w.dirs)}, w.files...)))
	}
}

func (w *work) sync(name string) {
	f, err := os.Open(name)
	w.check(err)
	if err == nil {
		w.check(f.Sync())
		w.check(f.Close())
	}
}

// logged makes a file system that has something in its log, as it was when its machine lost power.
func logged(t *testing.T, seed uint64, mkfs []string, options string) string {
	t.Helper()
	img := fsreadtest.Make(t, 128*mib, append([]string{"mkfs.btrfs", "-q", "-f"}, mkfs...)...)
	dir, unmount := fsreadtest.Mount(t, img, "commit=300,"+options)
	defer unmount()
	w := &work{t: t, r: rand.New(rand.NewPCG(seed, 0)), dir: dir, dirs: []string{dir}}
	if seed%3 == 0 {
		fsreadtest.Run(t, "btrfs", "subvolume", "create", filepath.Join(dir, "volume"))
		w.dirs = append(w.dirs, filepath.Join(dir, "volume"))
	}
	w.files = append(w.files, filepath.Join(dir, "first"))
	w.write(w.files[0])
	for range 60 {
		w.step()
	}
	unix.Sync()
	for range 5 + w.r.IntN(60) {
		w.step()
	}
	// The last one is in the log for sure.
	last := filepath.Join(dir, "last")
	w.write(last)
	w.sync(last)
	power := filepath.Join(t.TempDir(), "img")
	fsreadtest.Run(t, "cp", "--sparse=always", img, power)
	return power
}

func TestALogIsAppliedAsTheKernelAppliesIt(t *testing.T) {
	fsreadtest.Root(t)
	for i := range *logs {
		seed := *firstLog + i
		mkfs, options := [][]string{nil, {"-O", "^no-holes"}, {"-n", "4096"}}[seed%3], []string{"noatime", "compress-force=zstd", "max_inline=0"}[seed/2%3]
		img := logged(t, seed, mkfs, options)
		f, err := btrfs.Open(fsreadtest.OpenFile(t, img))
		if err != nil {
			t.Fatal(err)
		}
		if n := f.About().Notices; len(n) != 1 || !strings.Contains(n[0], "it is applied") {
			t.Errorf("seed %d: %q", seed, n)
		}
		// Read as a whole before the kernel applies it to the file.
		var list bytes.Buffer
		if err := fsreadtest.List(f, &list); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		dir, unmount := fsreadtest.Mount(t, img, "noatime")
		fsreadtest.CompareListing(t, &list, dir, nil, nil)
		unmount()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
