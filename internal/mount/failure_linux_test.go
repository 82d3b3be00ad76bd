package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusemount"
)

// lines is a log that a test looks at.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *lines) want(t *testing.T, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(l.String(), p) {
			t.Errorf("the log lacks %q:\n%s", p, l)
		}
	}
}

// spotted fails reads of a range of bytes, while bad is set.
type spotted struct {
	io.ReaderAt
	from, to int64
	bad      atomic.Bool
}

var errSpot = errors.New("chunk 0123abcd is damaged")

func (s *spotted) ReadAt(p []byte, off int64) (int, error) {
	if s.bad.Load() && off < s.to && s.from < off+int64(len(p)) {
		return 0, errSpot
	}
	return s.ReaderAt.ReadAt(p, off)
}

func TestDamagedContentFailsItsReadAloneAndIsNamed(t *testing.T) {
	const size = 3 << 20
	var x *pxar.Entry
	b := build(t, 2, func(w *writer) {
		w.file("before", "fine")
		w.dir("dir", func() { x = w.file("big", string(noise(1, size))) })
		w.file("behind", "fine too")
	})
	log := &lines{}
	bad := &spotted{ReaderAt: bytes.NewReader(b.payload), from: x.Payload + 16 + 2<<20, to: x.Payload + 16 + 2<<20 + 1}
	a, err := pxar.OpenArchive(bytes.NewReader(b.meta), int64(len(b.meta)), bad, int64(len(b.payload)))
	if err != nil {
		t.Fatal(err)
	}
	m := mounted(t, a, Options{Log: log.logger()})
	bad.bad.Store(true)
	f, err := os.Open(m.Dir() + "/dir/big")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 4096)
	for _, tc := range []struct {
		off int64
		bad bool
	}{{0, false}, {2 << 20, true}, {size - 4096, false}, {2 << 20, true}} {
		if _, err := f.ReadAt(buf, tc.off); (err != nil) != tc.bad || tc.bad && !errors.Is(err, unix.EIO) {
			t.Errorf("at %d: %v", tc.off, err)
		}
	}
	for name, want := range map[string]string{"before": "fine", "behind": "fine too"} {
		if got, err := os.ReadFile(filepath.Join(m.Dir(), name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	log.want(t, "path=/dir/big", errSpot.Error(), "operation=read")
	bad.bad.Store(false) // it was the network
	if got, err := os.ReadFile(m.Dir() + "/dir/big"); err != nil || !bytes.Equal(got, noise(1, size)) {
		t.Errorf("afterwards: %d bytes, %v", len(got), err)
	}
}

func TestDamagedListingShowsWhatComesBeforeAndThenFails(t *testing.T) {
	b := wide(t, 5000)
	log := &lines{}
	bad := &spotted{ReaderAt: bytes.NewReader(b.meta), from: int64(len(b.meta)) / 2, to: int64(len(b.meta))/2 + 1}
	a, err := pxar.OpenArchive(bad, int64(len(b.meta)), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := mounted(t, a, Options{Log: log.logger()})
	bad.bad.Store(true)
	fd, err := unix.Open(m.Dir(), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	got, err := direntsOf(fd, 4096)
	if !errors.Is(err, unix.EIO) || len(got) < 100 || len(got) > 4000 {
		t.Errorf("%d entries, %v", len(got), err)
	}
	log.want(t, "operation=list", "path=/", errSpot.Error())
}

func TestComplaintsNameThePath(t *testing.T) {
	b := linkTree(t, 2)
	c := complaints{a: b.open(t)}
	if got := c.path(root); got != "/" {
		t.Errorf("the root is %q", got)
	}
	for name, want := range map[string]string{"a": "/a", "b": "/b", "b/one": "/b/one", "a/three": "/a/three"} {
		e, err := c.a.LookupPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.path(nodeOf(e)); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
}

// walk reads all that is below dir and counts the errors. None may be one that
// says other than that something cannot be read.
func walk(t *testing.T, dir string) (seen, failed int) {
	t.Helper()
	bad := func(path string, err error) {
		failed++
		if !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENAMETOOLONG) &&
			!errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.E2BIG) && !errors.Is(err, unix.ELOOP) {
			t.Errorf("%q: %v", path, err)
		}
	}
	budget := 5000
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if budget--; budget < 0 {
			return fs.SkipAll
		}
		seen++
		if err != nil {
			bad(path, err)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			bad(path, err)
			return nil
		}
		buf := make([]byte, 64<<10)
		if _, err := unix.Llistxattr(path, buf); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			bad(path, err)
		}
		switch {
		case info.Mode().IsRegular():
			f, err := os.Open(path)
			if err != nil {
				bad(path, err)
				return nil
			}
			defer f.Close()
			if _, err := f.ReadAt(buf, 0); err != nil && !errors.Is(err, io.EOF) {
				bad(path, err)
			}
			if _, err := f.ReadAt(buf, info.Size()/2); err != nil && !errors.Is(err, io.EOF) {
				bad(path, err)
			}
		case info.Mode()&fs.ModeSymlink != 0:
			if _, err := os.Readlink(path); err != nil {
				bad(path, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("walk: %v", err)
	}
	return seen, failed
}

func TestArchivesWithWrongBytesFailAndEnd(t *testing.T) {
	needFUSE(t)
	n := 150
	if testing.Short() {
		n = 30
	}
	whole := map[string]archive{
		"full, version 1": {meta: sample(t, "full.pxar")},
		"full, version 2": {sample(t, "full.mpxar"), sample(t, "full.ppxar")},
		"links":           linkTree(t, 1),
	}
	opened, failures := 0, 0
	for name, b := range whole {
		r := rand.New(rand.NewPCG(uint64(len(b.meta)), 7))
		for i := range n {
			bad := archive{bytes.Clone(b.meta), b.payload}
			for range 1 + r.IntN(4) {
				at := r.IntN(len(bad.meta))
				switch r.IntN(3) {
				case 0:
					bad.meta[at] ^= 1 << r.IntN(8)
				case 1:
					bad.meta[at] = byte(r.Uint32())
				case 2: // one piece over another: tables lead elsewhere
					copy(bad.meta[at:], bad.meta[r.IntN(len(bad.meta)):][:min(24, len(bad.meta)-at)])
				}
			}
			a, err := bad.try()
			if err != nil {
				continue
			}
			opened++
			t.Run(fmt.Sprintf("%s/%d", name, i), func(t *testing.T) {
				links, _ := CountLinks(t.Context(), a)
				m := mounted(t, a, Options{Links: links, Log: slog.New(slog.DiscardHandler)})
				_, failed := walk(t, m.Dir())
				failures += failed
			})
		}
	}
	if opened < n/2 || failures == 0 {
		t.Errorf("%d opened, with %d failures: nothing was tested", opened, failures)
	}
}

// A directory that says it is its own child, one that overlaps another, a hard
// link to a hard link, and content outside of the archive.
func TestHostileArchivesFailWhereTheyLieAndEnd(t *testing.T) {
	b := build(t, 1, func(w *writer) {
		w.dir("loop", func() { w.file("x", "content of x") })
		w.dir("other", func() { w.file("y", "content of y") })
		f := w.file("f", "first")
		w.link("g", f, "f")
		w.link("h", f, "f")
		w.file("z", "last")
	})
	places := map[string]pxar.Entry{} // of hard links that of their target
	tables := map[string]int{}        // where the GOODBYE of a directory is
	for _, x := range b.read(t) {
		places[x.path] = x.Entry
	}
	for it, err := range b.open(t).Items() {
		if err != nil {
			t.Fatal(err)
		}
		if it.Type == pxar.TypeGoodbye {
			for _, name := range []string{"loop", "other"} {
				if e := places[name]; it.Offset > e.Offset && tables[name] == 0 {
					tables[name] = int(it.Offset)
				}
			}
			tables[""] = int(it.Offset)
		}
	}
	le := func(b []byte, v uint64) {
		for i := range 8 {
			b[i] = byte(v >> (8 * i))
		}
	}
	line := func(b []byte, name string) []byte { // in the root's table
		for at := tables[""] + 16; ; at += 24 {
			v := uint64(0)
			for i := range 8 {
				v |= uint64(b[at+i]) << (8 * i)
			}
			if v == pxar.NameHash(name) {
				return b[at:]
			}
		}
	}
	for name, tc := range map[string]struct {
		spoil func(b []byte)
		bad   []string
	}{
		"a child that is the directory above": {func(b []byte) {
			e := places["loop"]
			le(b[tables["loop"]+16+8:], uint64(int64(tables["loop"])-e.Offset))
		}, []string{"loop/x"}},
		"a directory that ends where another does": {func(b []byte) {
			le(line(b, "loop")[16:], uint64(places["other"].EndPos-places["loop"].Offset))
		}, []string{"loop/x"}},
		"a directory that ends in the table above": {func(b []byte) {
			le(line(b, "loop")[16:], uint64(int64(len(b))-places["loop"].Offset))
		}, []string{"loop/x"}},
		"two names of one place": {func(b []byte) {
			copy(line(b, "loop")[8:24], line(b, "other")[8:24])
		}, []string{"loop/x"}},
		"a hard link to a hard link": {func(b []byte) {
			g := places["f"].EndPos // FILENAME of 18 bytes, HARDLINK of 26
			le(b[g+44+18+16:], 44)
		}, []string{"h"}},
		"content that reaches into the table": {func(b []byte) {
			e := places["z"]
			le(b[e.Body-8:], 1<<40)
		}, []string{"z"}},
	} {
		t.Run(name, func(t *testing.T) {
			bad := archive{meta: bytes.Clone(b.meta)}
			tc.spoil(bad.meta)
			if bytes.Equal(bad.meta, b.meta) {
				t.Fatal("nothing was changed")
			}
			a, err := bad.try()
			if err != nil {
				t.Fatal(err)
			}
			m := mounted(t, a, Options{Log: slog.New(slog.DiscardHandler)})
			for _, path := range tc.bad {
				if _, err := os.ReadFile(filepath.Join(m.Dir(), path)); !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ENOENT) {
					t.Errorf("%s: %v", path, err)
				}
			}
			walk(t, m.Dir())
			if got, err := os.ReadFile(m.Dir() + "/other/y"); name != "two names of one place" && (err != nil || string(got) != "content of y") {
				t.Errorf("other/y: %q, %v", got, err)
			}
		})
	}
}

func TestManyReadersAtATimeSeeTheSame(t *testing.T) {
	b := build(t, 2, func(w *writer) {
		for d := range 20 {
			w.dir(fmt.Sprintf("d%02d", d), func() {
				for f := range 30 {
					w.file(fmt.Sprintf("f%02d", f), string(noise(uint64(100*d+f), 5000*(f%7))))
				}
			})
		}
	})
	m := mounted(t, b.open(t), Options{Links: counted(t, b)})
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 0))
			for range 60 {
				d, f := r.IntN(20), r.IntN(30)
				dir := fmt.Sprintf("%s/d%02d", m.Dir(), d)
				got, err := os.ReadFile(fmt.Sprintf("%s/f%02d", dir, f))
				if err != nil || !bytes.Equal(got, noise(uint64(100*d+f), 5000*(f%7))) {
					t.Errorf("d%02d/f%02d: %d bytes, %v", d, f, len(got), err)
				}
				if names, err := os.ReadDir(dir); err != nil || len(names) != 30 {
					t.Errorf("d%02d: %d names, %v", d, len(names), err)
				}
				if _, err := os.Lstat(dir + "/missing"); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("a name that is not there: %v", err)
				}
			}
		})
	}
	all.Wait()
}

func within(t *testing.T, d time.Duration, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("not in %v: %s", d, what)
	}
}

func TestBusyMountStaysUnlessDetachedAndThenEndsWithItsUser(t *testing.T) {
	b := linkTree(t, 1)
	m := mounted(t, b.open(t), Options{})
	f, err := os.Open(m.Dir() + "/b/one")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := m.Unmount(t.Context()); !errors.Is(err, fusemount.ErrBusy) {
		t.Fatalf("unmounted with a user: %v", err)
	}
	if err := Unmount(t.Context(), m.Dir(), false); !errors.Is(err, fusemount.ErrBusy) {
		t.Fatalf("unmounted with a user: %v", err)
	}
	if err := m.Detach(t.Context()); err != nil {
		t.Fatal(err)
	}
	if on, err := fusemount.Mounted(m.Dir()); err != nil || on {
		t.Fatalf("still mounted: %v, %v", on, err)
	}
	select {
	case <-m.Done():
		t.Fatal("ended with a user")
	default:
	}
	if got, err := io.ReadAll(f); err != nil || string(got) != "one name" {
		t.Errorf("its user reads %q, %v", got, err)
	}
	f.Close()
	within(t, 10*time.Second, m.Done(), "the end with its last user")
}

func TestUnmountByAnyMeansEndsIt(t *testing.T) {
	b := linkTree(t, 1)
	for _, how := range [][]string{{"umount"}, {"fusermount3", "-u"}, {"umount", "-l"}} {
		m := mounted(t, b.open(t), Options{})
		if out, err := exec.CommandContext(t.Context(), how[0], append(how[1:], m.Dir())...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", how, err, out)
		}
		within(t, 10*time.Second, m.Done(), "the end by "+how[0])
	}
	m := mounted(t, b.open(t), Options{})
	if err := Unmount(t.Context(), m.Dir(), false); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, m.Done(), "the end")
	if err := Unmount(t.Context(), m.Dir(), false); !errors.Is(err, ErrNotMounted) {
		t.Errorf("a second time: %v", err)
	}
}

func TestCloseTakesItFromItsUsers(t *testing.T) {
	b := linkTree(t, 1)
	m := mounted(t, b.open(t), Options{})
	fd, err := unix.Open(m.Dir()+"/b", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		t.Fatal(err)
	}
	within(t, time.Second, m.Done(), "the end")
	if _, err := direntsOf(fd, 4096); err == nil {
		t.Error("its user sees no error")
	}
	if err := m.Close(ctx); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// served mounts an archive by another process.
func served(t *testing.T, how string) (dir string, cmd *exec.Cmd) {
	t.Helper()
	needFUSE(t)
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "a.pxar")
	if err := os.WriteFile(file, linkTree(t, 1).meta, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	cmd = exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+how+" "+dir+" "+file)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 100)); n != len("mounted\n") {
		t.Fatalf("%d, %v", n, err)
	}
	return dir, cmd
}

func TestUnmountReturnsWhenTheProcessIsGone(t *testing.T) {
	dir, cmd := served(t, "mount-slow")
	if names := listXattrs(t, dir); len(names) != 0 {
		t.Errorf("the root has attributes that are not the archive's: %v", names)
	}
	if err := Unmount(t.Context(), dir, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + ".last"); err != nil {
		t.Errorf("the process goes on: %v", err)
	}
	_ = os.Remove(dir + ".last")
	_ = cmd.Wait()
}

func TestWhatAKilledProcessLeftIsClearedAway(t *testing.T) {
	dir, cmd := served(t, "mount")
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if _, err := os.ReadDir(dir); !errors.Is(err, unix.ENOTCONN) {
		t.Errorf("what it left: %v", err)
	}
	if _, err := New(dir, linkTree(t, 1).open(t), Options{}); !errors.Is(err, unix.ENOTCONN) {
		t.Errorf("mounted over it: %v", err)
	}
	for _, want := range []bool{true, false} {
		if cleared, err := Clear(t.Context(), dir); err != nil || cleared != want {
			t.Errorf("cleared: %v, %v; want %v", cleared, err, want)
		}
	}
	if _, err := os.ReadDir(dir); err != nil {
		t.Error(err)
	}
}

func TestTwoArchivesAreNotMountedOnOneDirectory(t *testing.T) {
	b := linkTree(t, 1)
	m := mounted(t, b.open(t), Options{Source: "first"})
	_, err := New(m.Dir(), b.open(t), Options{})
	if taken, ok := errors.AsType[*MountedError](err); !ok || taken.At.Source != "first" || taken.At.Path != m.Dir() {
		t.Errorf("%v", err)
	}
	for dir, want := range map[string]error{"/does/not/exist": fs.ErrNotExist, "/etc/passwd": unix.ENOTDIR} {
		if _, err := New(dir, b.open(t), Options{}); !errors.Is(err, want) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, x := range list {
		found = found || x.Path == m.Dir() && x.Source == "first"
	}
	if !found {
		t.Errorf("%s is not in %v", m.Dir(), list)
	}
}
