package ntfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/fsread/ntfs"
)

// mount mounts an image with ntfs-3g until unmount is called, or the test ends.
func mount(t *testing.T, img, options string) (dir string, unmount func()) {
	t.Helper()
	fsreadtest.Root(t)
	fsreadtest.Run(t, "ntfs-3g.probe", "--readonly", img)
	dir = t.TempDir()
	before := device(t, dir)
	cmd := exec.Command("ntfs-3g", "-o", "no_detach,compression,streams_interface=windows,"+options, img, dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for device(t, dir) == before {
		select {
		case err := <-ended:
			t.Fatalf("ntfs-3g: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	mounted := true
	unmount = func() {
		if !mounted {
			return
		}
		mounted = false
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
			_ = cmd.Process.Kill()
		}
		if err := <-ended; err != nil {
			t.Errorf("ntfs-3g: %v", err)
		}
	}
	t.Cleanup(unmount)
	return dir, unmount
}

func device(t *testing.T, dir string) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Dev
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 7))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// fill makes files of every form.
func fill(t *testing.T, dir string) {
	t.Helper()
	for _, d := range []string{"many", "packed", "a/b/c", "ünïcødé 文字 😀"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir+"/empty", nil)
	write(t, dir+"/resident", []byte("so short that it lies in the record"))
	write(t, dir+"/a/b/c/long", noise(1, 3_000_001))
	for i := range 2000 {
		write(t, fmt.Sprintf("%s/many/a name that is not short, number %04d", dir, i), noise(uint64(i), i%900))
	}
	for i := 0; i < 2000; i += 3 {
		if err := os.Remove(fmt.Sprintf("%s/many/a name that is not short, number %04d", dir, i)); err != nil {
			t.Fatal(err)
		}
	}
	pieces(t, dir)
	sparse(t, dir+"/sparse")
	for name, err := range map[string]error{
		"link":     os.Symlink("a/b/c/long", dir+"/link"),
		"hardlink": os.Link(dir+"/resident", dir+"/a/hard"),
		"device":   syscall.Mknod(dir+"/null", syscall.S_IFCHR|0o666, 1<<8|3),
	} {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	// The attribute of directories that makes new files compressed ones.
	fsreadtest.Run(t, "setfattr", "-h", "-v", "0x00000810", "-n", "system.ntfs_attrib_be", dir+"/packed")
	text := bytes.Repeat([]byte("compresses well, and again "), 20_000)
	write(t, dir+"/packed/text", text)
	write(t, dir+"/packed/noise", noise(5, 300_000))
	write(t, dir+"/packed/mixed", append(append(text[:100_000:100_000], noise(6, 150_000)...), text...))
	write(t, dir+"/packed/short", []byte("tiny"))
	sparse(t, dir+"/packed/sparse")
}

// pieces makes two files that grow in turns, so that the extents of both alternate.
func pieces(t *testing.T, dir string) {
	t.Helper()
	for i := range 1500 {
		for _, name := range []string{"/one", "/other"} {
			f, err := os.OpenFile(dir+name, os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_SYNC, 0o644)
			if err == nil {
				_, err = f.Write(noise(uint64(i), 4096))
			}
			if err == nil {
				err = f.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func sparse(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{200_000, 5_000_000} {
		if _, err := f.WriteAt(noise(uint64(off), 10_000), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(9_000_000); err != nil {
		t.Fatal(err)
	}
}

func TestWhatNtfs3gShowsIsWhatIsRead(t *testing.T) {
	for name, mkfs := range map[string][]string{
		"4k":         {"mkntfs", "-F", "-q", "-f", "-L", "Etikett", "-c", "4096"},
		"512":        {"mkntfs", "-F", "-q", "-f", "-L", "Etikett", "-c", "512"},
		"64k":        {"mkntfs", "-F", "-q", "-f", "-L", "Etikett", "-c", "65536"},
		"4k sectors": {"mkntfs", "-F", "-q", "-f", "-L", "Etikett", "-s", "4096"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img := fsreadtest.Make(t, 128<<20, mkfs...)
			dir, unmount := mount(t, img, "big_writes")
			fill(t, dir)
			write(t, dir+"/resident:stream", []byte("beside it"))
			write(t, dir+"/empty:long one", noise(9, 100_000))
			unmount()

			f, err := ntfs.Open(fsreadtest.OpenFile(t, img))
			if err != nil {
				t.Fatal(err)
			}
			if a := f.About(); a.Label != "Etikett" || a.Type != "ntfs" || len(a.Notices) > 0 {
				t.Errorf("%+v", a)
			}
			streams(t, f)
			dir, _ = mount(t, img, "ro")
			fsreadtest.Compare(t, f, dir, []string{"mode", "uid", "gid", "xattrs"}, nil)
		})
	}
}

func streams(t *testing.T, f *ntfs.FS) {
	t.Helper()
	for name, want := range map[string][]byte{"resident:stream": []byte("beside it"), "empty:long one": noise(9, 100_000)} {
		file, stream, _ := strings.Cut(name, ":")
		e, err := f.Lookup(f.Root(), file)
		if err != nil {
			t.Fatal(err)
		}
		list, err := f.Streams(e.ID)
		if err != nil || len(list) != 1 || list[0].Name != stream || list[0].Size != int64(len(want)) {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
		img, err := f.OpenStream(e.ID, stream)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(img, 0, img.Size()))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if _, err := f.OpenStream(e.ID, "no such"); !errors.Is(err, fsread.ErrNotExist) {
			t.Errorf("%v", err)
		}
	}
}

func TestNamesAreFoundInAnyCase(t *testing.T) {
	img := fsreadtest.Make(t, 16<<20, "mkntfs", "-F", "-q", "-f")
	dir, unmount := mount(t, img, "")
	write(t, dir+"/Straße.TXT", []byte("x"))
	unmount()
	f, err := ntfs.Open(fsreadtest.OpenFile(t, img))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := f.Lookup(f.Root(), "sTRAßE.txt"); err != nil || e.Name != "Straße.TXT" {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := f.Lookup(f.Root(), "$MFT"); !errors.Is(err, fsread.ErrNotExist) {
		t.Errorf("a file of the system: %v", err)
	}
}

func TestSomethingElseIsNotTakenForIt(t *testing.T) {
	for _, b := range []fsreadtest.Mem{nil, make(fsreadtest.Mem, 100), make(fsreadtest.Mem, 1<<20)} {
		if _, err := ntfs.Open(b); !errors.Is(err, fsread.ErrOther) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

// A change of bytes anywhere may change what is read; it may not end in a panic, a
// loop or a broken contract.
func FuzzOpen(f *testing.F) {
	for i := range uint64(8) {
		f.Add(i, uint16(1<<i))
	}
	img := fsreadtest.Unpack(f, filepath.Join("testdata", "ntfs.img.gz")) // mkntfs, and files of every form
	var used []int                                                        // sectors that hold something
	for at := 0; at < len(img); at += 512 {
		if bytes.Count(img[at:at+512], []byte{0}) < 512 {
			used = append(used, at)
		}
	}
	f.Fuzz(func(t *testing.T, n uint64, flips uint16) {
		r := rand.New(rand.NewPCG(n, 0))
		b := bytes.Clone(img)
		for range flips {
			b[used[r.IntN(len(used))]+r.IntN(512)] = byte(r.Uint32() >> (r.IntN(4) * 8))
		}
		if v, err := ntfs.Open(fsreadtest.Mem(b)); err == nil {
			fsreadtest.Exhaust(t, v, fsreadtest.Budget{Files: 400, Bytes: 64 << 10})
		}
	})
}
