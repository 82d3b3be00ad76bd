//go:build unix

package keystore_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/keystore"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

func TestSaveIsPrivateAndNeverOverwrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.json")
	if err := keystore.Save(path, []byte("first"), rand.Reader); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := keystore.Save(path, []byte("second"), rand.Reader); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	wantFile(t, path, "first")
	wantNames(t, filepath.Dir(path), "key.json")
}

func TestOfManySavesOneWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.json")
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() { errs[i] = keystore.Save(path, bytes.Repeat([]byte{'a' + byte(i)}, 5000), rand.Reader) })
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner < 0:
			winner = i
		case !errors.Is(err, fs.ErrExist):
			t.Errorf("save %d: %v", i, err)
		}
	}
	if winner < 0 {
		t.Fatal("nobody won")
	}
	wantFile(t, path, string(bytes.Repeat([]byte{'a' + byte(winner)}, 5000)))
	wantNames(t, filepath.Dir(path), "key.json")
}

func TestReplaceNextToTheFileThatALinkLeadsTo(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "safe", "key.json")
	link := filepath.Join(dir, "link.json")
	if err := errors.Join(os.Mkdir(filepath.Dir(real), 0o700), os.Symlink(filepath.Join("safe", "key.json"), link),
		keystore.Save(real, []byte("old"), rand.Reader)); err != nil {
		t.Fatal(err)
	}
	if b, err := keystore.Load(link); err != nil || string(b) != "old" {
		t.Errorf("%q, %v", b, err)
	}
	if err := keystore.Replace(link, []byte("new"), rand.Reader); err != nil {
		t.Fatal(err)
	}
	wantFile(t, real, "new")
	if to, err := os.Readlink(link); err != nil || to != filepath.Join("safe", "key.json") {
		t.Errorf("the link became %q, %v", to, err)
	}
	wantNames(t, dir, "link.json", "safe")
	wantNames(t, filepath.Dir(real), "key.json")
}

func TestSaveDoesNotFollowALinkThatLeadsNowhere(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "key.json")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	if err := keystore.Save(link, []byte("key"), rand.Reader); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	wantNames(t, dir, "key.json")
}

func TestSaveWorksInALinkedDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "real"), 0o700), os.Symlink("real", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	if err := keystore.MakeDir(filepath.Join(dir, "link", "a", "b")); err != nil {
		t.Fatal(err)
	}
	if err := keystore.Save(filepath.Join(dir, "link", "a", "b", "key"), []byte("key"), rand.Reader); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(dir, "real", "a", "b", "key"), "key")
	info, err := os.Stat(filepath.Join(dir, "real", "a"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestReplaceKeepsGroupPermissionsAndTakesThoseOfOthers(t *testing.T) {
	for from, to := range map[fs.FileMode]fs.FileMode{0o600: 0o600, 0o640: 0o640, 0o644: 0o640, 0o666: 0o660, 0o400: 0o600} {
		path := filepath.Join(t.TempDir(), "key.json")
		if err := errors.Join(os.WriteFile(path, []byte("old"), 0o600), os.Chmod(path, from),
			keystore.Replace(path, []byte("new"), rand.Reader)); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != to {
			t.Errorf("%o became %o, want %o", from, info.Mode().Perm(), to)
		}
	}
}

func TestKeyBelongsToItsMakerWhoeverOwnsTheDirectory(t *testing.T) {
	dir := t.TempDir()
	if os.Getuid() == 0 {
		if err := os.Chown(dir, 12345, 23456); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "key.json")
	if err := keystore.Save(path, []byte("key"), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if uid, _ := owner(t, path); int(uid) != os.Getuid() {
		t.Errorf("it belongs to %d", uid)
	}
}

func TestReplaceKeepsTheOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.json")
	if err := keystore.Save(path, []byte("old"), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 { // others cannot give files away
		if err := os.Chown(path, 12345, 23456); err != nil {
			t.Fatal(err)
		}
	}
	uid, gid := owner(t, path)
	if err := keystore.Replace(path, []byte("new"), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if u, g := owner(t, path); u != uid || g != gid {
		t.Errorf("%d:%d became %d:%d", uid, gid, u, g)
	}
}

func TestLoadReadsWhatIsNoFileAndRefusesDirectories(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("piped"); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	path := filepath.Join("/dev/fd", strconv.FormatUint(uint64(r.Fd()), 10))
	if b, err := keystore.Load(path); err != nil || string(b) != "piped" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := keystore.Load(t.TempDir()); !errors.Is(err, vfs.ErrNotRegular) {
		t.Errorf("directory: %v", err)
	}
	if _, err := keystore.Load("/dev/zero"); !errors.Is(err, keystore.ErrTooLarge) {
		t.Errorf("endless: %v", err)
	}
	if _, err := keystore.Load(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || string(b) != want {
		t.Errorf("%s holds %.40q, %v", path, b, err)
	}
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	if !slices.Equal(have, want) {
		t.Errorf("%s has %q, want %q", dir, have, want)
	}
}

func owner(t *testing.T, path string) (uid, gid uint32) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return st.Uid, st.Gid
}

func TestPutMakesAndReplaces(t *testing.T) {
	dir := t.TempDir()
	group := os.Getgid()
	if os.Getuid() == 0 {
		group = 23456
		if err := os.Chown(dir, 12345, group); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]struct {
		shared bool
		mode   fs.FileMode
	}{"private": {false, 0o600}, "shared": {true, 0o640}} {
		path := filepath.Join(dir, name)
		for _, text := range []string{"first", "second"} {
			if err := keystore.Put(path, []byte(text), want.shared, 100, rand.Reader); err != nil {
				t.Fatal(err)
			}
			wantFile(t, path, text)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != want.mode {
				t.Errorf("%s: mode %v", name, info.Mode())
			}
			if st, ok := info.Sys().(*syscall.Stat_t); ok && want.shared && int(st.Gid) != group {
				t.Errorf("%s: group %d, the directory's is %d", name, st.Gid, group)
			}
		}
		if err := keystore.Put(path, make([]byte, 101), want.shared, 100, rand.Reader); !errors.Is(err, keystore.ErrTooLarge) {
			t.Errorf("too large: %v", err)
		}
		wantFile(t, path, "second")
	}
	if err := os.Symlink("shared", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := keystore.Put(filepath.Join(dir, "link"), []byte("third"), false, 100, rand.Reader); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(dir, "shared"), "third")
	if err := keystore.SaveShared(filepath.Join(dir, "shared"), nil, rand.Reader); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a shared file was saved over another: %v", err)
	}
	path := filepath.Join(dir, "new")
	if err := keystore.SaveShared(path, []byte("x"), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	wantNames(t, dir, "link", "new", "private", "shared")
}
