//go:build unix

package confdir_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/confdir"
)

func read(t testing.TB, d confdir.Dir, f confdir.File) string {
	t.Helper()
	b, err := d.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t testing.TB, d confdir.Dir, f confdir.File, text string) {
	t.Helper()
	if err := d.Change(t.Context(), f, func([]byte) ([]byte, error) { return []byte(text), nil }); err != nil {
		t.Fatal(err)
	}
}

func TestAFileThatIsMissingIsEmptyAndIsMade(t *testing.T) {
	d := confdir.New(filepath.Join(t.TempDir(), "etc", "holdfast"))
	if err := d.Make(); err != nil {
		t.Fatal(err)
	}
	if s := read(t, d, confdir.Users); s != "" {
		t.Errorf("a missing file has %q", s)
	}
	before, err := d.Stamp(confdir.Users)
	if err != nil {
		t.Fatal(err)
	}
	write(t, d, confdir.Users, "user: a@pbs\n")
	if s := read(t, d, confdir.Users); s != "user: a@pbs\n" {
		t.Errorf("read %q", s)
	}
	made, err := d.Stamp(confdir.Users)
	if err != nil || made.Same(before) || !made.Same(made) || !before.Same(confdir.Stamp{}) {
		t.Errorf("the stamp did not change: %v", err)
	}
	write(t, d, confdir.Users, "user: b@pbs\n") // of the same length, at the same time
	if again, err := d.Stamp(confdir.Users); err != nil || again.Same(made) {
		t.Errorf("the stamp did not change: %v", err)
	}
	for _, f := range []confdir.File{confdir.Shadow, confdir.TokenShadow} {
		write(t, d, f, "{}")
		info, err := os.Stat(filepath.Join(d.Path(), f.Name))
		if err != nil || f.Private != (info.Mode().Perm() == 0o600) || !f.Private && info.Mode().Perm() != 0o640 {
			t.Errorf("%s has mode %v, %v", f.Name, info.Mode(), err)
		}
	}
}

func TestAnEditThatFailsChangesNothing(t *testing.T) {
	d := confdir.New(t.TempDir())
	write(t, d, confdir.Users, "old")
	was, _ := d.Stamp(confdir.Users)
	no := errors.New("no")
	if err := d.Change(t.Context(), confdir.Users, func([]byte) ([]byte, error) { return []byte("new"), no }); !errors.Is(err, no) {
		t.Errorf("err = %v", err)
	}
	if err := d.Change(t.Context(), confdir.Users, func(old []byte) ([]byte, error) { return old, nil }); err != nil {
		t.Error(err)
	}
	if is, _ := d.Stamp(confdir.Users); !is.Same(was) || read(t, d, confdir.Users) != "old" {
		t.Errorf("the file became %q", read(t, d, confdir.Users))
	}
}

func TestFilesOfOneLockChangeTogether(t *testing.T) {
	d := confdir.New(t.TempDir())
	write(t, d, confdir.ACL, "a")
	err := d.ChangeAll(t.Context(), []confdir.File{confdir.ACL, confdir.OwnACL}, func(old [][]byte) ([][]byte, error) {
		if string(old[0]) != "a" || len(old[1]) != 0 {
			t.Errorf("got %q", old)
		}
		return [][]byte{[]byte("b"), []byte("c")}, nil
	})
	if err != nil || read(t, d, confdir.ACL) != "b" || read(t, d, confdir.OwnACL) != "c" {
		t.Errorf("%q, %q, %v", read(t, d, confdir.ACL), read(t, d, confdir.OwnACL), err)
	}
}

func TestNoChangeIsLost(t *testing.T) {
	d := confdir.New(t.TempDir())
	const writers, each = 8, 20
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				err := d.Change(context.Background(), confdir.Node, func(old []byte) ([]byte, error) {
					n, _ := strconv.Atoi(string(old))
					return []byte(strconv.Itoa(n + 1)), nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if s := read(t, d, confdir.Node); s != strconv.Itoa(writers*each) {
		t.Errorf("counted to %s, want %d", s, writers*each)
	}
}

func TestLocksAreThoseOfOtherPrograms(t *testing.T) {
	flock, err := exec.LookPath("flock")
	if err != nil {
		t.Skip("flock(1) is not here, so no other program takes the lock")
	}
	d := confdir.New(t.TempDir())
	write(t, d, confdir.Users, "old")
	cmd := exec.Command(flock, filepath.Join(d.Path(), ".user.lck"), "sh", "-c", "echo locked; cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if _, err := out.Read(make([]byte, 7)); err != nil { // until it has the lock
		t.Fatal(err)
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, enough)
	defer cancel()
	if err := d.Change(ctx, confdir.Users, func([]byte) ([]byte, error) { return []byte("new"), nil }); !errors.Is(err, enough) {
		t.Errorf("err = %v", err)
	}
	if s := read(t, d, confdir.Users); s != "old" {
		t.Errorf("changed under a lock to %q", s)
	}
	write(t, d, confdir.Remotes, "other") // another lock
	done := make(chan error)
	go func() {
		done <- d.Change(context.Background(), confdir.Users, func([]byte) ([]byte, error) { return []byte("new"), nil })
	}()
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil || read(t, d, confdir.Users) != "new" {
		t.Errorf("after the lock: %q, %v", read(t, d, confdir.Users), err)
	}
}

func TestOneOfManyMakesAKey(t *testing.T) {
	d := confdir.New(t.TempDir())
	for _, f := range []confdir.File{confdir.AuthKey, confdir.CSRFKey} {
		var made sync.Map
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if ok, err := d.Create(f, fmt.Appendf(nil, "key %d", i)); err != nil {
					t.Error(err)
				} else if ok {
					made.Store(i, true)
				}
			})
		}
		wg.Wait()
		n := 0
		made.Range(func(i, _ any) bool {
			n++
			if got := read(t, d, f); got != fmt.Sprintf("key %d", i) {
				t.Errorf("%d made it, and it is %q", i, got)
			}
			return true
		})
		if n != 1 {
			t.Errorf("%d made %s", n, f.Name)
		}
	}
}

func TestChangeForAnotherContentIsRefused(t *testing.T) {
	old := confdir.DigestOf([]byte("old"))
	if err := errors.Join(old.Check(""), old.Check(old.String())); err != nil {
		t.Error(err)
	}
	for _, s := range []string{confdir.DigestOf(nil).String(), strings.ToUpper(old.String()), "x"} {
		if err := old.Check(s); !errors.Is(err, confdir.ErrChanged) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestWhatCannotBeReadIsNotEmpty(t *testing.T) {
	d := confdir.New(t.TempDir())
	if err := os.Mkdir(filepath.Join(d.Path(), "user.cfg"), 0o700); err != nil {
		t.Fatal(err)
	}
	if b, err := d.Load(confdir.Users); err == nil {
		t.Errorf("a directory has %q", b)
	}
	if _, err := confdir.New(filepath.Join(d.Path(), "missing")).Create(confdir.AuthKey, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made nowhere: %v", err)
	}
}
