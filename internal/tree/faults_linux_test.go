package tree_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/format/catalog"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/idmap"
	"github.com/holdfast-backup/holdfast/internal/tree"
)

func shell(t testing.TB, dir, script string) {
	t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// names lists the paths of an archive of version 1.
func names(t testing.TB, b []byte) (all []string) {
	t.Helper()
	r, err := pxar.NewReader(bytes.NewReader(b), nil)
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != pxar.End && len(r.Path()) > 0 {
			all = append(all, pxar.Join(r.Path()))
		}
	}
}

func patterns(t testing.TB, texts ...string) (all []exclude.Pattern) {
	t.Helper()
	for _, text := range texts {
		p, err := exclude.Parse(text, exclude.Exclude)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func plain(t testing.TB, dir string, o tree.Options) ([]byte, tree.Report) {
	t.Helper()
	var b bytes.Buffer
	rep, err := tree.Archive(t.Context(), dir, tree.Output{Meta: &b}, o)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), rep
}

func TestPatternsOfCommandLineAndFilesLeaveOut(t *testing.T) {
	dir := t.TempDir()
	shell(t, dir, `mkdir -p a/b/c lost+found/x keep/lost+found 'odd[1]'; touch a/1.tmp a/2 a/b/1.tmp a/b/c/deep keep/1.tmp 'odd[1]/y' 'odd[1]/z' lost+found/x/y
		printf '# comment\n\n*.tmp\n!/b/1.tmp\n /b/c \n' >a/.pxarexclude
		printf '/y\n[\n' >'odd[1]/.pxarexclude'`)
	var problems []string
	b, rep := plain(t, dir, tree.Options{
		Exclude: patterns(t, "/keep/*.tmp"), SkipLostAndFound: true,
		Problem: func(p tree.Problem) { problems = append(problems, p.String()) },
	})
	want := strings.Fields(`/a /a/.pxarexclude /a/2 /a/b /a/b/1.tmp /keep /odd[1] /odd[1]/.pxarexclude /odd[1]/z /.pxarexclude-cli`)
	if got := names(t, b); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if len(problems) != 1 || !strings.HasPrefix(problems[0], "/odd[1]/.pxarexclude holds a line that is no pattern: line 2: ") {
		t.Errorf("problems: %q", problems)
	}
	if rep.Excluded != 6 {
		t.Errorf("%d entries are counted as excluded, want 6", rep.Excluded)
	}
	var cli []byte
	r, _ := pxar.NewReader(bytes.NewReader(b), nil)
	for e, err := r.Next(); err == nil; e, err = r.Next() {
		if e.Name == pxar.ExcludeName {
			cli, _ = io.ReadAll(r)
		}
	}
	if string(cli) != "/keep/*.tmp\nlost+found\n" {
		t.Errorf("%s holds %q", pxar.ExcludeName, cli)
	}
}

func TestCatalogListsWhatTheArchiveHolds(t *testing.T) {
	g := &gardener{t: t, r: rand.New(rand.NewPCG(7, 8)), dir: t.TempDir()}
	for range 200 {
		g.step()
	}
	var b, c bytes.Buffer
	w := catalog.NewWriter(&c)
	if err := w.StartDir("t.pxar.didx"); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Archive(t.Context(), g.dir, tree.Output{Meta: &b, Catalog: w}, tree.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.EndDir(), w.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := catalog.Open(bytes.NewReader(c.Bytes()), int64(c.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	var down func(e catalog.Entry, at string)
	down = func(dir catalog.Entry, at string) {
		for e, err := range r.List(dir) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, at+"/"+e.Name)
			if e.IsDir() {
				down(e, at+"/"+e.Name)
			}
		}
	}
	top, err := r.Lookup(r.Root(), "t.pxar.didx")
	if err != nil {
		t.Fatal(err)
	}
	down(top, "")
	if want := names(t, b.Bytes()); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestOtherFileSystemsAreLeftEmptyUnlessTheyAreNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	shell(t, dir, "mkdir one two proc; touch here")
	for _, m := range []string{"one", "two"} {
		if err := unix.Mount("tmpfs", filepath.Join(dir, m), "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, m), unix.MNT_DETACH) })
		shell(t, filepath.Join(dir, m), "mkdir d; touch d/f")
	}
	if err := unix.Mount("proc", filepath.Join(dir, "proc"), "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, "proc"), unix.MNT_DETACH) })
	for _, tc := range []struct {
		name    string
		o       tree.Options
		want    string
		foreign int64
	}{
		{"by default", tree.Options{}, "/here /one /proc /two", 3},
		{"one is named", tree.Options{IncludeDev: []string{filepath.Join(dir, "two", "d")}}, "/here /one /proc /two /two/d /two/d/f", 2},
		{"all", tree.Options{AllFileSystems: true}, "/here /one /one/d /one/d/f /proc /two /two/d /two/d/f", 1},
	} {
		b, rep := plain(t, dir, tc.o)
		if got := strings.Join(names(t, b), " "); got != tc.want || rep.Foreign != tc.foreign {
			t.Errorf("%s: %s, %d left empty; want %s, %d", tc.name, got, rep.Foreign, tc.want, tc.foreign)
		}
	}
	if _, err := tree.Archive(t.Context(), filepath.Join(dir, "proc"), tree.Output{Meta: io.Discard}, tree.Options{}); err == nil || !strings.Contains(err.Error(), "proc") {
		t.Errorf("an archive of proc: %v", err)
	}
}

// interfering changes the tree while the archive is being written: its writes
// wait for nothing but let others act between them.
type interfering struct {
	bytes.Buffer
	at  int
	act func()
}

func (w *interfering) Write(b []byte) (int, error) {
	n, err := w.Buffer.Write(b)
	if w.act != nil && w.Len() > w.at {
		w.act()
		w.act = nil
	}
	return n, err
}

func TestFilesThatChangeWhileTheyAreReadAreReported(t *testing.T) {
	const size = 24 << 20
	for _, tc := range []struct {
		name string
		act  func(path string) error
		want tree.ProblemKind
	}{
		{"shrinks", func(path string) error { return os.Truncate(path, size/2) }, tree.Shrunk},
		{"is written to", func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("x"), size-1)
			}
			return errors.Join(err, f.Close())
		}, tree.Changed},
		{"grows", func(path string) error { return os.Truncate(path, size+1) }, tree.Changed},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "big")
		if err := os.WriteFile(path, bytes.Repeat([]byte("data"), size/4), 0o600); err != nil {
			t.Fatal(err)
		}
		shell(t, dir, "touch -d 2020-01-01 big; touch zzz")
		out := &interfering{at: 8 << 20, act: func() {
			if err := tc.act(path); err != nil {
				t.Error(err)
			}
		}}
		var problems []tree.Problem
		rep, err := tree.Archive(t.Context(), dir, tree.Output{Meta: out}, tree.Options{Problem: func(p tree.Problem) { problems = append(problems, p) }})
		if err != nil {
			t.Fatalf("a file that %s: %v", tc.name, err)
		}
		if len(problems) != 1 || problems[0].Kind != tc.want || problems[0].Path != "/big" || rep.Problems != 1 {
			t.Errorf("a file that %s: %v", tc.name, problems)
		}
		if got := names(t, out.Bytes()); !slices.Equal(got, []string{"/big", "/zzz"}) || rep.Bytes != size {
			t.Errorf("a file that %s: %q, %d bytes", tc.name, got, rep.Bytes)
		}
	}
}

func TestTreeThatIsTornDownStillMakesAnArchive(t *testing.T) {
	for round := range 8 {
		dir := t.TempDir()
		shell(t, dir, `for d in $(seq 20); do mkdir -p $d/s; for f in $(seq 15); do echo $f >$d/$f; echo $f >$d/s/$f; done; done; mkdir x`)
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			r := rand.New(rand.NewPCG(uint64(round), 1))
			for range 300 {
				p := fmt.Sprintf("%s/%d/%d", dir, 1+r.IntN(20), 1+r.IntN(15))
				switch r.IntN(6) {
				case 0:
					_ = os.RemoveAll(filepath.Dir(p))
				case 1:
					_ = os.Remove(p)
					_ = os.Symlink("/etc/passwd", p)
				case 2:
					_ = os.Remove(p)
					_ = unix.Mkfifo(p, 0o600)
				case 3:
					_ = os.Rename(filepath.Dir(p)+"/s", dir+"/x/"+filepath.Base(p))
				default:
					_ = os.Remove(p)
				}
			}
		}()
		var b bytes.Buffer
		rep, err := tree.Archive(t.Context(), dir, tree.Output{Meta: &b}, tree.Options{})
		<-stop
		if err != nil {
			t.Fatal(err)
		}
		if n := int64(len(names(t, b.Bytes()))); n != rep.Entries {
			t.Errorf("%d entries reported, the archive has %d", rep.Entries, n)
		}
	}
}

// TestWhatMayNotBeReadIsLeftOutAndReported runs itself as an ordinary user,
// for rights do not stop root.
func TestWhatMayNotBeReadIsLeftOutAndReported(t *testing.T) {
	const variable = "HOLDFAST_TEST_TREE"
	dir := os.Getenv(variable)
	if dir == "" && os.Geteuid() == 0 {
		top, err := os.MkdirTemp("/tmp", "tree-as-user")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(top) })
		shell(t, top, "chmod 755 .; mkdir t; cp "+os.Args[0]+" test; chmod 755 test; chown 65534:65534 t")
		cmd := exec.Command(top+"/test", "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Dir, cmd.Env = top, append(os.Environ(), variable+"="+top+"/t")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Fatalf("as an ordinary user: %v\n%s", err, out)
		}
		return
	}
	if dir == "" {
		dir = t.TempDir()
	}
	shell(t, dir, "mkdir closed open; touch closed/f open/f open/secret; chmod 0 open/secret closed")
	defer func() { _ = os.Chmod(filepath.Join(dir, "closed"), 0o700) }()
	var problems []tree.Problem
	b, _ := plain(t, dir, tree.Options{Problem: func(p tree.Problem) { problems = append(problems, p) }})
	if got := names(t, b); !slices.Equal(got, []string{"/open", "/open/f"}) {
		t.Errorf("%q", got)
	}
	if len(problems) != 2 || problems[0].Kind != tree.Unreadable || problems[1].Kind != tree.Unreadable {
		t.Errorf("%v", problems)
	}
}

func TestTooManyNamesEndTheArchive(t *testing.T) {
	dir := t.TempDir()
	shell(t, dir, "mkdir a b; touch a/{1..10} b/{1..10} c")
	if _, err := tree.Archive(t.Context(), dir, tree.Output{Meta: io.Discard}, tree.Options{MaxEntries: 13}); err != nil {
		t.Errorf("the limit counts what is open at a time: %v", err)
	}
	_, err := tree.Archive(t.Context(), dir, tree.Output{Meta: io.Discard}, tree.Options{MaxEntries: 12})
	if !errors.Is(err, tree.ErrTooMany) {
		t.Errorf("got %v", err)
	}
}

func TestOwnersBecomeThoseOfTheContainer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners can be set by root only")
	}
	dir := t.TempDir()
	shell(t, dir, "touch in out; ln -s x link; chown 100007:100008 in; chown -h 100000:100000 link; chown 5:100001 out; chown 100000:100000 .")
	ids, err := idmap.ParseSpecs("b:0:100000:65536")
	if err != nil {
		t.Fatal(err)
	}
	var problems []tree.Problem
	b, _ := plain(t, dir, tree.Options{IDs: ids, Problem: func(p tree.Problem) { problems = append(problems, p) }})
	r, err := pxar.NewReader(bytes.NewReader(b), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][2]uint32{}
	for e, err := r.Next(); err == nil; e, err = r.Next() {
		if e.Kind != pxar.End {
			got[e.Name] = [2]uint32{e.UID, e.GID}
		}
	}
	if got["in"] != [2]uint32{7, 8} || got["link"] != [2]uint32{} || got["out"] != [2]uint32{65534, 1} || got[""] != [2]uint32{} {
		t.Errorf("%v", got)
	}
	if len(problems) != 1 || problems[0].Kind != tree.Unmapped || problems[0].Path != "/out" {
		t.Errorf("%v", problems)
	}
}

// failing fails after some bytes.
type failing struct{ left int }

var errFull = errors.New("no room")

func (f *failing) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func openDescriptors(t testing.TB) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestNothingIsLeftOpenWhenAnArchiveEndsEarly(t *testing.T) {
	g := &gardener{t: t, r: rand.New(rand.NewPCG(9, 10)), dir: t.TempDir()}
	for range 300 {
		g.step()
	}
	whole, _ := plain(t, g.dir, tree.Options{})
	files, routines := openDescriptors(t), runtime.NumGoroutine()
	for n := 0; n < len(whole); n += len(whole)/40 + 1 {
		if _, err := tree.Archive(t.Context(), g.dir, tree.Output{Meta: &failing{n}}, tree.Options{}); !errors.Is(err, errFull) {
			t.Fatalf("room for %d bytes of %d: %v", n, len(whole), err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		stopped := errors.New("stopped")
		out := &interfering{at: n, act: func() { cancel(stopped) }}
		if _, err := tree.Archive(ctx, g.dir, tree.Output{Meta: out}, tree.Options{}); err != nil && !errors.Is(err, stopped) {
			t.Fatalf("cancelled after %d bytes: %v", n, err)
		}
		cancel(nil)
	}
	if now := openDescriptors(t); now > files {
		t.Errorf("%d descriptors are left open", now-files)
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > routines && time.Now().Before(end); {
		runtime.Gosched()
	}
	if now := runtime.NumGoroutine(); now > routines {
		t.Errorf("%d goroutines are left", now-routines)
	}
}

func TestMissingDirectoryIsAnErrorThatNamesIt(t *testing.T) {
	_, err := tree.Archive(t.Context(), "/no/such/place", tree.Output{Meta: io.Discard}, tree.Options{})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/no/such/place") {
		t.Errorf("got %v", err)
	}
}

func TestDamagedBaseIsNoMoreThanAReasonToReadAnew(t *testing.T) {
	g := &gardener{t: t, r: rand.New(rand.NewPCG(11, 12)), dir: t.TempDir()}
	for range 200 {
		g.step()
	}
	s := store{}
	first := archive(t, s, g.dir, nil, tree.Options{})
	for _, at := range []int{len(first.meta) / 3, len(first.meta) - 40} {
		bad := bytes.Clone(first.meta)
		bad[at] ^= 0xff
		r, err := pxar.NewReader(bytes.NewReader(bad), nil)
		if err != nil {
			t.Fatal(err)
		}
		var meta bytes.Buffer
		st := newStream(t, s)
		rep, err := tree.Archive(t.Context(), g.dir, tree.Output{Meta: &meta, Payload: st}, tree.Options{Base: &tree.Base{Meta: r, Payload: first.index}})
		if err != nil {
			t.Fatal(err)
		}
		m := &made{meta: meta.Bytes(), report: rep}
		m.index, m.content = st.file(t)
		compare(t, m.lines(t), walk(t, g.dir))
		if at < len(first.meta)/2 && rep.BaseError == nil && rep.ReusedFiles == rep.Files {
			t.Error("nobody noticed")
		}
	}
}
