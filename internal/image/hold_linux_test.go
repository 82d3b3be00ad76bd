package image_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
)

func TestHeldImageCannotBeWrittenByQEMU(t *testing.T) {
	if _, err := exec.LookPath("qemu-io"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	write := func() (string, error) {
		out, err := exec.CommandContext(t.Context(), "qemu-io", "-f", "raw", "-c", "write -q 0 4096", path).CombinedOutput()
		return string(out), err
	}
	hold, err := image.NewHold(path)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := write(); err == nil || !strings.Contains(out, "lock") {
		t.Errorf("QEMU opens it: %s, %v", out, err)
	}
	if other, err := image.NewHold(path); err != nil { // readers do not exclude each other
		t.Error(err)
	} else if err := other.Close(); err != nil {
		t.Error(err)
	}
	if err := hold.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := write(); err != nil {
		t.Errorf("QEMU cannot open it afterwards: %s, %v", out, err)
	}
}

func TestImageThatQEMUWritesToCannotBeHeld(t *testing.T) {
	if _, err := exec.LookPath("qemu-io"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	path, free := filepath.Join(dir, "disk"), filepath.Join(dir, "free")
	for _, p := range []string{path, free} {
		if err := os.WriteFile(p, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "qemu-io", "-f", "raw", path)
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
	if _, err := in.Write([]byte("write 0 4096\n")); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, "wrote") {
			break
		}
	}
	if _, err := image.NewHold(free, path); !errors.Is(err, image.ErrInUse) {
		t.Errorf("err = %v", err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	hold, err := image.NewHold(free, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := hold.Close(); err != nil {
		t.Error(err)
	}
}
