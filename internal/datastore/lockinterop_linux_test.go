package datastore_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// holdLock, as an environment variable, makes this test program take a POSIX
// record lock on the whole of that file, as a PBS does, and keep it until its
// standard input ends.
const (
	holdLock = "HOLDFAST_TEST_LOCK"
	holdKind = "HOLDFAST_TEST_LOCK_KIND"
)

func TestLockLikeAServer(*testing.T) {
	name := os.Getenv(holdLock)
	if name == "" {
		return // not called as a server
	}
	l := unix.Flock_t{Type: unix.F_RDLCK}
	if os.Getenv(holdKind) == "exclusive" {
		l.Type = unix.F_WRLCK
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err == nil {
		err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &l)
	}
	if err != nil {
		os.Stdout.WriteString("refused\n")
		os.Exit(0)
	}
	os.Stdout.WriteString("locked\n")
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(0)
}

// server is another process with such a lock.
func server(t *testing.T, dir, kind string) (locked bool, release func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestLockLikeAServer$")
	cmd.Env = append(os.Environ(), holdLock+"="+filepath.Join(dir, ".lock"), holdKind+"="+kind)
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
	answer, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(answer) == "locked", func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
}

func TestLocksOfTheRealFileSystemExcludeAServerInAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	fsys, err := vfs.OpenOS(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := datastore.Create(t.Context(), fsys, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	s, err := datastore.Open(fsys, datastore.Options{Location: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	n := snapshotAt("100", time.Now())

	locked, release := server(t, dir, "shared")
	if !locked {
		t.Fatal("nobody holds a lock")
	}
	if err := collect(s); !errors.Is(err, repo.ErrLocked) {
		t.Errorf("collection while the server writes: %v", err)
	}
	ses := begin(t, s, n)
	release()

	if locked, release := server(t, dir, "exclusive"); locked {
		t.Error("the server may collect while we write")
		release()
	}
	locked, release = server(t, dir, "shared")
	if !locked {
		t.Error("the server may not write while we write")
	}
	release()
	if err := collect(s); err != nil {
		t.Errorf("our collection beside our backup: %v", err)
	}
	if err := ses.Abort(); err != nil {
		t.Fatal(err)
	}

	locked, release = server(t, dir, "exclusive")
	if !locked {
		t.Fatal("nobody writes, and the server may not collect")
	}
	if _, err := s.Begin(t.Context(), repo.Begin{Snapshot: n}); !errors.Is(err, repo.ErrLocked) {
		t.Errorf("backup while the server collects: %v", err)
	}
	release()
	if err := collect(s); err != nil {
		t.Error(err)
	}
	if err := newClient(t).backup(t.Context(), s, n, []byte("image"), []byte("conf")); err != nil {
		t.Error(err)
	}
}
