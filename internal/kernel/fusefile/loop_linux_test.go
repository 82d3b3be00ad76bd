package fusefile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusefile"
	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
)

// memory is a device in memory.
type memory struct {
	mu    sync.RWMutex
	b     []byte
	flush int
	zero  int64
	bad   int64 // reads that touch this byte fail; -1 none
	block chan struct{}
	delay time.Duration // of each read
}

func newMemory(size int) *memory { return &memory{b: make([]byte, size), bad: -1} }

func (m *memory) Size() int64 { return int64(len(m.b)) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if m.block != nil {
		<-m.block
	}
	if m.delay > 0 {
		time.Sleep(m.delay)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.bad >= 0 && off <= m.bad && m.bad < off+int64(len(p)) {
		return 0, errors.New("this chunk is damaged")
	}
	n := copy(p, m.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return copy(m.b[off:], p), nil
}

func (m *memory) Zero(off, n int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.zero += n
	clear(m.b[off : off+n])
	return nil
}

func (m *memory) Discard(int64, int64) error { return nil }

func (m *memory) Flush() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flush++
	return nil
}

func (m *memory) flushes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.flush
}

func (m *memory) ExtentAt(off int64) (image.Extent, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	const block = 4096
	end := min(off-off%block+block, int64(len(m.b)))
	k := image.Data
	if !slices.ContainsFunc(m.b[off:end], func(c byte) bool { return c != 0 }) {
		k = image.Zero
	}
	return image.Extent{Offset: off, Length: end - off, Kind: k}, nil
}

var _ image.Device = (*memory)(nil)

// random makes an image of random bytes.
func random(size int) *memory {
	m := newMemory(size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(m.b)
	return m
}

func needRoot(t testing.TB) {
	t.Helper()
	missing := ""
	if os.Geteuid() != 0 {
		missing = "needs root"
	}
	for _, f := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(f); err != nil {
			missing = err.Error()
		}
	}
	if missing == "" {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// attach makes a loop device of an image.
func attach(t testing.TB, img image.Image, fo fusefile.Options, lo loop.Options) (*fusefile.File, *loop.Device) {
	t.Helper()
	f, err := fusefile.Anonymous(img, fo)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	lo.Number, lo.Name, lo.AutoClear = loop.AnyNumber, "holdfast-test", true
	d, err := loop.Attach(t.Context(), fd, lo)
	_ = unix.Close(fd)
	f.Release()
	if err != nil {
		_ = f.Close(context.Background())
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := f.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return f, d
}

// BenchmarkSequential reads a loop device from start to end, by the flags of
// the file, of the device and of the reader, and by read-ahead.
func BenchmarkSequential(b *testing.B) {
	needRoot(b)
	const size = 1 << 30
	img := random(size)
	for _, cached := range []bool{true, false} {
		for _, dio := range []bool{false, true} {
			for _, ahead := range []int{0, 256, 8192} { // in sectors; 0: the reader uses O_DIRECT
				b.Run(fmt.Sprintf("cached=%v/loopdio=%v/ahead=%dKiB", cached, dio, ahead/2), func(b *testing.B) {
					f, d := attach(b, img, fusefile.Options{ReadOnly: true, Cached: cached}, loop.Options{ReadOnly: true, DirectIO: dio})
					flags := unix.O_RDONLY
					if ahead == 0 {
						flags |= unix.O_DIRECT
					} else if err := unix.IoctlSetInt(d.FD(), unix.BLKRASET, ahead); err != nil {
						b.Fatal(err)
					}
					fd, err := unix.Open(d.Path(), flags, 0)
					if err != nil {
						b.Fatal(err)
					}
					defer func() { _ = unix.Close(fd) }()
					buf, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
					if err != nil {
						b.Fatal(err)
					}
					defer func() { _ = unix.Munmap(buf) }()
					b.SetBytes(size)
					for b.Loop() {
						b.StopTimer()
						_ = unix.IoctlSetInt(fd, unix.BLKFLSBUF, 0)
						b.StartTimer()
						for off := int64(0); off < size; off += 1 << 20 {
							if n, err := unix.Pread(fd, buf, off); n != 1<<20 {
								b.Fatal(n, err)
							}
						}
					}
					c := f.Counters()
					b.ReportMetric(float64(c.ReadBytes)/float64(c.Reads), "B/request")
				})
			}
		}
	}
}

// BenchmarkSlowImage has eight readers of an image that takes a millisecond for
// each read: does the loop driver pass them on side by side?
func BenchmarkSlowImage(b *testing.B) {
	needRoot(b)
	img := random(256 << 20)
	img.delay = time.Millisecond
	for _, dio := range []bool{false, true} {
		b.Run(fmt.Sprintf("loopdio=%v", dio), func(b *testing.B) {
			_, d := attach(b, img, fusefile.Options{ReadOnly: true}, loop.Options{ReadOnly: true, DirectIO: dio})
			b.SetParallelism(4) // times two processors
			b.RunParallel(func(pb *testing.PB) {
				fd, err := unix.Open(d.Path(), unix.O_RDONLY|unix.O_DIRECT, 0)
				if err != nil {
					b.Error(err)
					return
				}
				defer func() { _ = unix.Close(fd) }()
				buf, _ := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
				defer func() { _ = unix.Munmap(buf) }()
				for pb.Next() {
					if n, err := unix.Pread(fd, buf, rand.Int64N(img.Size()/4096)*4096); n != 4096 {
						b.Error(n, err)
						return
					}
				}
			})
		})
	}
}

func TestDeviceHasTheBytesOfTheImage(t *testing.T) {
	needRoot(t)
	img := random(8<<20 + 512)
	for _, dio := range []bool{false, true} {
		_, d := attach(t, img, fusefile.Options{}, loop.Options{ReadOnly: true, DirectIO: dio})
		got, err := os.ReadFile(d.Path())
		if err != nil || !bytes.Equal(got, img.b) {
			t.Fatalf("%d bytes, %v: differ from the image", len(got), err)
		}
	}
}

// TestMain runs a victim in its own process.
func TestMain(m *testing.M) {
	if how := os.Getenv("FUSEFILE_VICTIM"); how != "" {
		victim(how)
		return
	}
	os.Exit(m.Run())
}

// victim shows an image on a loop device, prints the node, and waits to be
// killed. "blocked" answers no read after a while, "reversed" gives the loop
// device a higher descriptor than /dev/fuse.
func victim(how string) {
	img := random(64 << 20)
	f, err := fusefile.Anonymous(img, fusefile.Options{Log: slog.Default()})
	if err != nil {
		panic(err)
	}
	fd, err := f.Open()
	if err != nil {
		panic(err)
	}
	d, err := loop.Attach(context.Background(), fd, loop.Options{Number: loop.AnyNumber, Name: "holdfast-test", AutoClear: true, DirectIO: true})
	if err != nil {
		panic(err)
	}
	_ = unix.Close(fd)
	f.Release()
	if strings.Contains(how, "reversed") {
		if _, err := unix.FcntlInt(uintptr(d.FD()), unix.F_DUPFD_CLOEXEC, 700); err != nil {
			panic(err)
		}
	}
	if strings.Contains(how, "blocked") {
		img.block = make(chan struct{})
	}
	fmt.Println(d.Path())
	select {}
}

func TestKilledServerLeavesNothing(t *testing.T) {
	needRoot(t)
	hows := []string{"plain", "blocked", "dirty", "dirty blocked"}
	if h := os.Getenv("FUSEFILE_HOW"); h != "" {
		hows = []string{h}
	}
	for _, how := range hows {
		t.Run(how, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "FUSEFILE_VICTIM="+how)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line := make([]byte, 64)
			n, _ := out.Read(line)
			node := strings.TrimSpace(string(line[:n]))
			number, err := loop.ParseNumber(node)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(how, "dirty") {
				w := exec.Command("dd", "if=/dev/urandom", "of="+node, "bs=1M", "count=32", "conv=notrunc")
				if b, err := w.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, b)
				}
			}
			reader := exec.Command("dd", "if="+node, "of=/dev/null", "bs=1M", "skip=32")
			if err := reader.Start(); err != nil {
				t.Fatal(err)
			}
			readerGone := make(chan struct{})
			go func() { _ = reader.Wait(); close(readerGone) }()
			if strings.Contains(how, "blocked") {
				time.Sleep(200 * time.Millisecond)
				_ = reader.Process.Kill()
			}
			start := time.Now()
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			gone := make(chan struct{})
			go func() { _ = cmd.Wait(); close(gone) }()
			for _, c := range []chan struct{}{gone, readerGone} {
				select {
				case <-c:
				case <-time.After(10 * time.Second):
					b, _ := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/status")
					t.Fatalf("a process does not end:\n%s", b)
				}
			}
			for {
				if _, err := loop.Read(number); errors.Is(err, loop.ErrFree) {
					break
				}
				if time.Since(start) > 10*time.Second {
					t.Fatalf("%s is still attached", node)
				}
				time.Sleep(time.Millisecond)
			}
			t.Logf("gone after %v", time.Since(start))
		})
	}
}
