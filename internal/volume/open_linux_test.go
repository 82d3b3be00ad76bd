package volume

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"golang.org/x/sys/unix"
)

const devSize = 4 << 20

// both runs a test on a file and on a block device.
func both(t *testing.T, f func(t *testing.T, path string)) {
	t.Run("file", func(t *testing.T) { f(t, file(t, devSize)) })
	t.Run("block device", func(t *testing.T) { f(t, loopDevice(t, devSize, loop.Options{})) })
}

func TestEnsureOnRealDevices(t *testing.T) {
	both(t, func(t *testing.T, path string) {
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		for _, want := range []Outcome{Written, Match} {
			if got, err := Ensure(t.Context(), link, image1, devSize-512, Options{}); err != nil || got != want {
				t.Fatalf("%s, %v", got, err)
			}
		}
		i, err := Read(link)
		if err != nil || i.Device != path || i.Size != devSize || i.Payload() != devSize-512 || i.Header != volumeheader.Short(image1) {
			t.Errorf("%+v, %v", i, err)
		}
		_, err = Ensure(t.Context(), link, image1, devSize-511, Options{})
		wantError(t, err, link+" is too small", "4194304 bytes (8192 sectors)", "4194816")
	})
}

func TestFillOnRealDevices(t *testing.T) {
	both(t, func(t *testing.T, path string) {
		m, image := repotest.New(), content(1, devSize-5000)
		s := save(t, m, 1, image)
		for _, aligned := range []bool{false, true} {
			if aligned {
				image = changed(3, image[:2<<20])
				s = save(t, m, 2, image)
				if err := zero(path, 512); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Fill(t.Context(), path, s, FillOptions{Aligned: aligned}); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			wantImage(t, &memory{b: b}, image)
			later := changed(2, image)
			done, err := Fill(t.Context(), path, save(t, m, 10+int64(len(image)), later), FillOptions{})
			if err != nil || done.Restore.Stats.Written > 200_000 || done.Device != path {
				t.Fatalf("%+v, %v", done, err)
			}
			if b, err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
			wantImage(t, &memory{b: b}, later)
		}
	})
}

func zero(path string, n int) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, n), 0)
	return errors.Join(err, f.Close())
}

// Many processes want to be the one that writes the header.
func TestConcurrentEnsuresTakeTurns(t *testing.T) {
	both(t, func(t *testing.T, path string) {
		const rounds, n = 5, 4
		for round := range rounds {
			d := digest.Of([]byte{byte(round)})
			written := 0
			cmds := make([]*waiting, n)
			for i := range cmds {
				cmds[i] = begin(t, path, d)
			}
			for _, c := range cmds {
				switch out := c.end(t); out {
				case string(Written):
					written++
				case string(Match):
				default:
					t.Errorf("round %d: %s", round, out)
				}
			}
			if written != 1 {
				t.Errorf("round %d: %d wrote the header", round, written)
			}
		}
	})
}

func TestEnsuresOfTwoImagesLeaveOneOfThem(t *testing.T) {
	both(t, func(t *testing.T, path string) {
		a, b := begin(t, path, image1), begin(t, path, image2)
		if a, b := a.end(t), b.end(t); a != string(Written) || b != string(Written) {
			t.Errorf("%s, %s", a, b)
		}
		i, err := Read(path)
		if err != nil || i.Header != volumeheader.Short(image1) && i.Header != volumeheader.Short(image2) {
			t.Errorf("%+v, %v", i, err)
		}
	})
}

func TestLockThatIsNotGivenUpIsBusy(t *testing.T) {
	both(t, func(t *testing.T, path string) {
		l, err := lock(t.Context(), path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Ensure(t.Context(), path, image1, 0, Options{Wait: time.Millisecond})
		if _, ok := errors.AsType[*BusyError](err); !ok {
			t.Errorf("%v", err)
		}
		l.close()
		if _, err := Ensure(t.Context(), path, image1, 0, Options{Wait: time.Millisecond}); err != nil {
			t.Error(err)
		}
	})
}

func TestClaimedDeviceIsReadAndNotWritten(t *testing.T) {
	path := loopDevice(t, devSize, loop.Options{})
	if _, err := Ensure(t.Context(), path, image1, 0, Options{}); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := Ensure(t.Context(), path, image1, 0, Options{}); err != nil || got != Match {
		t.Errorf("%s, %v", got, err)
	}
	_, err = Ensure(t.Context(), path, image2, 0, Options{})
	if _, ok := errors.AsType[*BusyError](err); !ok {
		t.Errorf("%v", err)
	}
	_, err = Fill(t.Context(), path, save(t, repotest.New(), 1, content(1, 1000)), FillOptions{})
	if _, ok := errors.AsType[*BusyError](err); !ok {
		t.Errorf("%v", err)
	}
	if i, err := Read(path); err != nil || i.Header != volumeheader.Short(image1) {
		t.Errorf("%+v, %v", i, err)
	}
}

// The kernel caches a device apart from what is on top of it. What lies in
// the cache must not come back over what is on the medium.
func TestStaleCacheIsNotWrittenBack(t *testing.T) {
	path := loopDevice(t, devSize, loop.Options{})
	cached, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer cached.Close() // as long as it is open, the cache stays
	if _, err := cached.ReadAt(make([]byte, 4096), 0); err != nil {
		t.Fatal(err)
	}
	b := backing(t, path)
	if _, err := b.WriteAt([]byte("written by a guest"), 1024); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(t.Context(), path, image1, 0, Options{}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 18)
	if _, err := b.ReadAt(got, 1024); err != nil || string(got) != "written by a guest" {
		t.Errorf("%q, %v", got, err)
	}
}

// backing is the file behind a loop device.
func backing(t *testing.T, path string) *os.File {
	t.Helper()
	name, err := os.ReadFile("/sys/block/" + filepath.Base(path) + "/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(strings.TrimSpace(string(name)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestDeviceThatCannotBeChangedIsAnErrorInWords(t *testing.T) {
	readOnly := loopDevice(t, devSize, loop.Options{ReadOnly: true})
	_, err := Ensure(t.Context(), readOnly, image1, 0, Options{})
	if wantError(t, err, readOnly, "read-only"); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
	large := loopDevice(t, devSize, loop.Options{BlockSize: 4096})
	_, err = Ensure(t.Context(), large, image1, 0, Options{})
	wantError(t, err, large, "sectors of more than 512 bytes")
	if b, err := os.ReadFile(large); err != nil || !bytes.Equal(b, make([]byte, devSize)) {
		t.Error("it was written to")
	}
}

func TestWhatIsNoDeviceIsAnErrorInWords(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		dir:                            "neither a block device nor a file",
		"/dev/null":                    "neither a block device nor a file",
		filepath.Join(dir, "missing"):  "does not exist",
		filepath.Join(dir, "dangling"): "does not exist",
	} {
		_, err := Ensure(t.Context(), path, image1, 0, Options{})
		wantError(t, err, path, says)
		if strings.HasSuffix(says, "exist") && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if _, err := Read(path); err == nil {
			t.Errorf("%s was read", path)
		}
	}
	if _, err := Ensure(t.Context(), file(t, devSize), digest.Digest{}, 0, Options{}); err == nil {
		t.Error("a digest of zeros")
	}
}

func TestUserWithoutRightsGetsASentence(t *testing.T) {
	if os.Getuid() != 0 {
		lack(t, "only root can become somebody else")
	}
	both(t, func(t *testing.T, path string) {
		if strings.HasPrefix(path, os.TempDir()) {
			path = filepath.Join(shared(t), "disk")
			if err := os.WriteFile(path, make([]byte, devSize), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := other(t, path, image1, &syscall.Credential{Uid: 65534, Gid: 65534})
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		out := cmd.Stdout.(*bytes.Buffer).String()
		wantError(t, errors.New(out), "no permission to use "+path, "root")
	})
}
