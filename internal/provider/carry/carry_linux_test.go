package carry_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/provider/carry"
	"github.com/holdfast-backup/holdfast/internal/provider/dirstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs/faultfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

const grain = 64 << 10

// disk is one of which only some grains changed.
type disk struct {
	b     []byte
	dirty map[int64]bool // nil: all
}

func (d *disk) Size() int64 { return int64(len(d.b)) }

func (d *disk) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(d.b).ReadAt(p, off) }

func (d *disk) ExtentAt(off int64) (image.Extent, error) {
	e := image.Extent{Offset: off, Length: min(off/grain*grain+grain, d.Size()) - off}
	if d.dirty != nil && !d.dirty[off/grain] {
		e.Kind = image.Unchanged
	}
	return e, nil
}

func open(t *testing.T, fs *simdisk.Disk) *dirstore.Store {
	t.Helper()
	s, err := dirstore.New(fs, "/storage", dirstore.Options{Incremental: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// chain makes a chain of backups in which one grain differs each time.
func chain(t *testing.T, s provider.Storage, n int) (want [][]byte) {
	t.Helper()
	b := bytes.Repeat([]byte("content "), 4<<20/8)
	var base provider.Archive
	for i := range n {
		d := &disk{b: bytes.Clone(b)}
		v := provider.Volume{Device: "d", Image: d, Mode: provider.ModeNew}
		if i > 0 {
			d.dirty = map[int64]bool{int64(i): true}
			copy(d.b[i*grain:], bytes.Repeat([]byte{byte(i)}, grain))
			v.Mode = provider.ModeReuse
		}
		b = d.b
		a := s.Archive(provider.Guest{Kind: provider.QEMU, ID: 100}, time.Unix(int64(1000+i), 0))
		vm := provider.VM{Configs: provider.Configs{Guest: []byte{byte('0' + i)}}, Volumes: []provider.Volume{v}, Base: base}
		if _, err := s.BackupVM(t.Context(), a, vm); err != nil {
			t.Fatal(err)
		}
		base, want = a, append(want, d.b)
	}
	return want
}

func list(t *testing.T, s provider.Storage) []provider.Entry {
	t.Helper()
	l, err := s.List(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func content(t *testing.T, s provider.Storage, a provider.Archive) []byte {
	t.Helper()
	src, err := s.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	img, err := src.Volume(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	b := make([]byte, img.Size())
	if _, err := img.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAChainIsReadOnce(t *testing.T) {
	from, to := open(t, simdisk.New(simdisk.Options{})), open(t, simdisk.New(simdisk.Options{}))
	want := chain(t, from, 4)
	archives := list(t, from)
	if err := errors.Join(from.SetNotes(t.Context(), archives[1].Archive, "hello"), from.SetProtected(t.Context(), archives[2].Archive, true)); err != nil {
		t.Fatal(err)
	}
	archives = list(t, from)
	for round := range 2 {
		// The second round is another process, which finds two of them.
		c := carry.New(from, to, carry.Options{})
		some := archives[:2]
		if round == 1 {
			some = archives
		}
		for n, e := range some {
			out, err := c.Archive(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			read := int64(grain)
			if n == 0 {
				read = 4 << 20
			}
			if existed := round == 1 && n < 2; out.Existed != existed || !existed && out.Result.Read != read {
				t.Errorf("round %d, %s: %+v, want %d bytes read", round, e.Name, out, read)
			}
		}
	}
	got := list(t, to)
	if len(got) != 4 || got[1].Notes != "hello" || !got[2].Protected || got[3].Parent != got[2].Name {
		t.Errorf("%+v", got)
	}
	for n, e := range got {
		if !bytes.Equal(content(t, to, e.Archive), want[n]) {
			t.Errorf("%s differs", e.Name)
		}
		if c, err := to.Configs(t.Context(), e.Archive); err != nil || string(c.Guest) != string(rune('0'+n)) {
			t.Errorf("%s: %q, %v", e.Name, c.Guest, err)
		}
	}
}

// What was merged or left out is read in whole: nothing is taken for unchanged
// that is not.
func TestGapsAreReadInWhole(t *testing.T) {
	from, to := open(t, simdisk.New(simdisk.Options{})), open(t, simdisk.New(simdisk.Options{}))
	want := chain(t, from, 4)
	archives := list(t, from)
	c := carry.New(from, to, carry.Options{})
	if _, err := c.Archive(t.Context(), archives[0]); err != nil {
		t.Fatal(err)
	}
	out, err := c.Archive(t.Context(), archives[3]) // builds on it, with others between
	if err != nil || out.Result.Read != 3*grain {
		t.Errorf("%+v, %v", out, err)
	}
	if !bytes.Equal(content(t, to, out.To), want[3]) {
		t.Error("it differs")
	}
	out, err = c.Archive(t.Context(), archives[2]) // does not build on it
	if err != nil || out.Result.Read != 4<<20 {
		t.Errorf("%+v, %v", out, err)
	}
	if !bytes.Equal(content(t, to, out.To), want[2]) {
		t.Error("it differs")
	}
}

func TestFailuresLeaveNothingHalfAndStopNobody(t *testing.T) {
	here, there := simdisk.New(simdisk.Options{}), simdisk.New(simdisk.Options{})
	from := open(t, here)
	want := chain(t, from, 3)
	archives := list(t, from)
	gone := errors.New("gone")
	broken, err := dirstore.New(faultfs.New(there, &faultfs.Rule{Ops: []faultfs.Op{faultfs.Write}, Path: "*.qcow2", Err: gone}), "/storage", dirstore.Options{Incremental: true})
	if err != nil {
		t.Fatal(err)
	}
	c := carry.New(from, broken, carry.Options{})
	if _, err := c.Archive(t.Context(), archives[0]); !errors.Is(err, gone) {
		t.Fatalf("err = %v", err)
	}
	for n := 1; n < 3; n++ { // the fault was one
		out, err := c.Archive(t.Context(), archives[n])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content(t, broken, out.To), want[n]) {
			t.Errorf("%s differs", out.To.Name)
		}
	}
	if err := here.Corrupt("100/qemu-1000/d.qcow2", func([]byte) []byte { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := carry.New(from, open(t, simdisk.New(simdisk.Options{})), carry.Options{}).Archive(t.Context(), archives[2]); err == nil {
		t.Error("a damaged chain")
	} else if _, ok := errors.AsType[*repo.CorruptError](err); !ok {
		t.Errorf("a damaged chain: %v", err)
	}
	if n := len(list(t, broken)); n != 2 {
		t.Errorf("%d at the target", n)
	}
}

func TestContainersAreCarriedBetweenTarAndSquashfs(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root can unpack containers")
		}
		t.Skip("only root can unpack containers")
	}
	for _, tool := range []string{"mksquashfs", "tar", "getfattr"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	dir, scratch := t.TempDir(), t.TempDir()
	script := `cd "$0" && mkdir -p store store2 store3 tree/sbin && cp /bin/true tree/sbin/init && chown 12:34 tree/sbin/init && chmod 4711 tree/sbin/init &&
		setfattr -n user.a -v b tree/sbin/init && ln tree/sbin/init tree/linked && mkdir -p store/200/lxc-1000 && echo x > store/200/lxc-1000/guest.conf &&
		find tree -exec touch -h -d @1600000000 {} + && tar -C tree --xattrs --acls -cf store/200/lxc-1000/archive.tar .`
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", script, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	at := func(name string, o dirstore.Options) *dirstore.Store {
		s, err := dirstore.Open(filepath.Join(dir, name), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	from, middle, to := at("store", dirstore.Options{}), at("store2", dirstore.Options{Trees: dirstore.Squashfs}), at("store3", dirstore.Options{})
	for _, leg := range [][2]*dirstore.Store{{from, middle}, {middle, to}} {
		for _, e := range list(t, leg[0]) {
			if _, err := carry.New(leg[0], leg[1], carry.Options{Scratch: scratch}).Archive(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	const judge = `cd "$0" && mkdir out && tar -C out --xattrs -xpf store3/200/lxc-1000/archive.tar && cd out && stat -c '%u:%g %a %h %Y' sbin/init && getfattr -d linked && cmp linked /bin/true && stat -c %Y sbin`
	out, err := exec.CommandContext(t.Context(), "sh", "-c", judge, dir).CombinedOutput()
	if want := "12:34 4711 2 1600000000\n# file: linked\nuser.a=\"b\"\n\n1600000000\n"; err != nil || string(out) != want {
		t.Errorf("%v: %s\nwant %s", err, out, want)
	}
	if _, err := carry.New(from, at("store3", dirstore.Options{}), carry.Options{}).Archive(t.Context(), provider.Entry{Archive: list(t, from)[0].Archive}); err != nil {
		t.Errorf("what is there already needs no directory: %v", err)
	}
}
