package mount

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// wide is a directory of n entries, every tenth a directory.
func wide(t testing.TB, n int) archive {
	return build(t, 2, func(w *writer) {
		for i := range n {
			name := fmt.Sprintf("%07d", i)
			if i%10 == 0 {
				w.dir(name, func() {})
				continue
			}
			w.must(w.Add(&pxar.Entry{Name: name, Kind: pxar.FIFO, Metadata: w.meta(pxar.ModeFIFO | 0o600)}))
		}
	})
}

func TestListingHasDotsInodesAndTypes(t *testing.T) {
	b := build(t, 1, func(w *writer) {
		w.dir("d", func() {
			w.dir("e", func() {})
			f := w.file("f", "")
			w.link("g", f, "d/f")
		})
	})
	m := mounted(t, b.open(t), Options{Links: counted(t, b)})
	ino := func(path string) uint64 {
		var st unix.Stat_t
		if err := unix.Lstat(m.Dir()+path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	want := []dirent{
		{ino: ino("/d"), typ: unix.DT_DIR, name: "."},
		{ino: 1, typ: unix.DT_DIR, name: ".."},
		{ino: ino("/d/e"), typ: unix.DT_DIR, name: "e"},
		{ino: ino("/d/f"), typ: unix.DT_REG, name: "f"},
		{ino: ino("/d/f"), typ: unix.DT_REG, name: "g"},
	}
	got := getdents(t, m.Dir()+"/d", 4096)
	for i := range got {
		got[i].off = 0
	}
	if !slices.Equal(got, want) || ino("") != 1 {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if top := getdents(t, m.Dir(), 4096); top[0].ino != 1 || top[1].ino != 1 {
		t.Errorf("the root lists itself as %d and what is above it as %d", top[0].ino, top[1].ino)
	}
}

func TestPositionsInAHugeDirectoryStayGood(t *testing.T) {
	b := wide(t, 20_000)
	m := mounted(t, b.open(t), Options{Links: counted(t, b)})
	all := getdents(t, m.Dir(), 32<<10)
	if len(all) != 20_002 {
		t.Fatalf("%d entries", len(all))
	}
	fd, err := unix.Open(m.Dir(), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 4096)
	for range 200 {
		i := r.IntN(len(all) - 1)
		if _, err := unix.Seek(fd, all[i].off, 0); err != nil {
			t.Fatal(err)
		}
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			t.Fatal(err)
		}
		got := parseDirents(buf[:n])
		if want := all[i+1:]; len(got) == 0 || len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			t.Fatalf("behind %q comes %v, want %v", all[i].name, got, all[i+1])
		}
	}
}

func TestMillionEntriesAreListedInBoundedMemory(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 50_000
	}
	needFUSE(t)
	b := wide(t, n)
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b.meta); err != nil {
		t.Fatal(err)
	}
	a, err := pxar.OpenArchive(f, int64(len(b.meta)), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	links := counted(t, b)
	b = archive{}
	m := mounted(t, a, Options{Links: links})
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	fd, err := unix.Open(m.Dir(), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	seen, last, peak := 0, "", uint64(0)
	buf := make([]byte, 32<<10)
	for {
		k, err := unix.Getdents(fd, buf)
		if err != nil {
			t.Fatal(err)
		}
		if k == 0 {
			break
		}
		for _, e := range parseDirents(buf[:k]) {
			if strings.HasPrefix(e.name, ".") {
				continue
			}
			if e.name <= last {
				t.Fatalf("%s comes behind %s", e.name, last)
			}
			last = e.name
			seen++
		}
		if seen%(n/20) < 500 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapAlloc-min(now.HeapAlloc, before.HeapAlloc))
		}
	}
	if seen != n || peak > 16<<20 {
		t.Errorf("%d of %d entries, %d bytes of memory", seen, n, peak)
	}
}

// counter counts reads.
type counter struct {
	io.ReaderAt
	calls atomic.Int64
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	c.calls.Add(1)
	return c.ReaderAt.ReadAt(p, off)
}

func TestListingReadsInARow(t *testing.T) {
	const n = 20_000
	b := build(t, 2, func(w *writer) {
		for i := range n {
			w.must(w.Add(&pxar.Entry{Name: fmt.Sprintf("%07d", i), Kind: pxar.FIFO, Metadata: w.meta(pxar.ModeFIFO)}))
		}
	})
	c := &counter{ReaderAt: bytes.NewReader(b.meta)}
	a, err := pxar.OpenArchive(c, int64(len(b.meta)), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := mounted(t, a, Options{})
	before := c.calls.Load()
	if all := getdents(t, m.Dir(), 4096); len(all) != n+2 {
		t.Fatalf("%d entries", len(all))
	}
	// Parts of 128 KiB; the kernel asks for some hundred parts of a listing.
	if calls := c.calls.Load() - before; calls > int64(len(b.meta))>>16 {
		t.Errorf("%d reads for %d bytes", calls, len(b.meta))
	}
}

func TestNamesThatAreTooLongAreLeftOutAndReported(t *testing.T) {
	log := &lines{}
	b := build(t, 1, func(w *writer) {
		w.file("a", "")
		w.file(strings.Repeat("x", MaxName), "")
		w.file(strings.Repeat("y", MaxName+1), "")
		w.file("z", "")
	})
	m := mounted(t, b.open(t), Options{Log: log.logger()})
	var got []int
	for _, e := range getdents(t, m.Dir(), 4096) {
		got = append(got, len(e.name))
	}
	if !slices.Equal(got, []int{1, 2, 1, MaxName, 1}) {
		t.Errorf("names of %v bytes", got)
	}
	log.want(t, "left out", "yyyy")
}

func TestMoreListingsThanAreKeptGoOnAllTheSame(t *testing.T) {
	b := wide(t, 2000)
	m := mounted(t, b.open(t), Options{Links: counted(t, b)})
	const n = 100
	var fds [n]int
	var got [n][]string
	for i := range fds {
		fd, err := unix.Open(m.Dir(), unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	buf := make([]byte, 4096)
	for done := 0; done < n; {
		done = 0
		for i, fd := range fds {
			if i%2 == 1 && len(got[i]) == 0 && len(got[0]) < 500 {
				continue // these come later
			}
			k, err := unix.Getdents(fd, buf)
			if err != nil {
				t.Fatal(err)
			}
			if k == 0 {
				done++
			}
			for _, e := range parseDirents(buf[:k]) {
				got[i] = append(got[i], e.name)
			}
		}
	}
	for i := range got {
		if len(got[i]) != 2002 || !slices.IsSorted(got[i]) {
			t.Fatalf("reader %d sees %d entries", i, len(got[i]))
		}
	}
}

func TestWhatWasSeenOnceIsNotReadAgain(t *testing.T) {
	b := build(t, 1, func(w *writer) {
		w.dir("d", func() {
			w.file("f", string(noise(1, 300_000)))
			w.must(w.Add(&pxar.Entry{Name: "l", Kind: pxar.Symlink, Target: "f", Metadata: w.meta(pxar.ModeSymlink | 0o777)}))
		})
	})
	c := &counter{ReaderAt: bytes.NewReader(b.meta)}
	a, err := pxar.OpenArchive(c, int64(len(b.meta)), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := mounted(t, a, Options{Links: counted(t, b)})
	for round := range 3 {
		before := c.calls.Load()
		if got, err := os.ReadFile(m.Dir() + "/d/f"); err != nil || len(got) != 300_000 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if got, err := os.Readlink(m.Dir() + "/d/l"); err != nil || got != "f" {
			t.Fatalf("%q, %v", got, err)
		}
		if _, err := os.Stat(m.Dir() + "/d/missing"); err == nil {
			t.Fatal("there is something that is not there")
		}
		if names := getdents(t, m.Dir()+"/d", 4096); len(names) != 4 {
			t.Fatalf("%v", names)
		}
		if calls := c.calls.Load() - before; (calls > 0) != (round == 0) {
			t.Errorf("round %d: %d reads", round, calls)
		}
	}
}
