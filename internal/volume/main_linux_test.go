package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
)

// TestMain is also another process, which ensures a header and says what came of it.
func TestMain(m *testing.M) {
	if path := os.Getenv("ENSURE_PATH"); path != "" {
		d, err := digest.Parse(os.Getenv("ENSURE_DIGEST"))
		if err == nil {
			var out Outcome
			out, err = Ensure(context.Background(), path, d, 0, Options{})
			fmt.Print(out)
		}
		if err != nil {
			fmt.Print(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// other runs Ensure in another process.
func other(t *testing.T, path string, d digest.Digest, as *syscall.Credential) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if as != nil { // who may not see the test's own file
		b, err := os.ReadFile(exe)
		exe = filepath.Join(shared(t), "volume.test")
		if err := errors.Join(err, os.WriteFile(exe, b, 0o755), os.Chmod(exe, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = []string{"ENSURE_PATH=" + path, "ENSURE_DIGEST=" + d.String()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.Stdout = new(bytes.Buffer)
	cmd.Stderr = cmd.Stdout
	return cmd
}

// shared is a directory that every user may enter.
func shared(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "volume")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// file is a file that a volume can be made in.
func file(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
	return path
}

// lack skips a test for want of something that must be there in CI.
func lack(t *testing.T, what any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// loopDevice is one, and goes with the test.
func loopDevice(t *testing.T, size int64, o loop.Options) string {
	t.Helper()
	if os.Getuid() != 0 {
		lack(t, "loop devices need root")
	}
	f, err := os.OpenFile(file(t, size), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o.Number, o.AutoClear = loop.AnyNumber, true
	d, err := loop.Attach(t.Context(), int(f.Fd()), o)
	if errors.Is(err, errors.ErrUnsupported) {
		lack(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d.Path()
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v: want %q in it", err, w)
		}
	}
}

// waiting is another process that runs.
type waiting struct{ *exec.Cmd }

func begin(t *testing.T, path string, d digest.Digest) *waiting {
	t.Helper()
	cmd := other(t, path, d, nil)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &waiting{cmd}
}

func (w *waiting) end(t *testing.T) string {
	t.Helper()
	if err := w.Wait(); err != nil {
		t.Fatal(err)
	}
	return w.Stdout.(*bytes.Buffer).String()
}
