package source_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image/source"
)

// header is the smallest qcow2 image: a disk of 4096 bytes without any data,
// perhaps over a backing file.
func header(backing string) []byte {
	b := make([]byte, 1024)
	copy(b, "QFI\xfb\x00\x00\x00\x02")
	b[23], b[30], b[39], b[46] = 9, 16, 1, 2 // clusters, size, L1 entries, L1 offset
	if backing != "" {
		b[15], b[19] = 100, byte(len(backing))
		copy(b[100:], backing)
	}
	return b
}

func TestContentDecidesOnlyWhereItDoesNoHarm(t *testing.T) {
	raw := bytes.Repeat([]byte{7}, 4096)
	for _, tc := range []struct {
		name, file string
		content    []byte
		format     source.Format
		say        string // of the refusal; empty: opened
		size       int64
	}{
		{"raw", "disk.img", raw, source.Auto, "", 4096},
		{"raw called qcow2", "disk.qcow2", raw, source.Auto, "", 4096},
		{"empty", "disk.img", nil, source.Auto, "", 0},
		{"qcow2", "disk.qcow2", header(""), source.Auto, "", 4096},
		{"qcow2 over a base", "disk.qcow2", header("base"), source.Auto, "", 4096},
		{"qcow2 of another name", "cloud.img", header(""), source.Auto, "", 4096},
		{"qcow2 of another name over a base", "cloud.img", header("base"), source.Auto, "guest's own writing", 0},
		{"qcow2 of another name over a base, said so", "cloud.img", header("base"), source.Qcow2, "", 4096},
		{"qcow2 called raw", "disk.raw", header(""), source.Auto, "say which format", 0},
		{"qcow2 called raw, said to be raw", "disk.raw", header("base"), source.Raw, "", 1024},
		{"qcow2 called raw, said to be qcow2", "disk.raw", header(""), source.Qcow2, "", 4096},
		{"raw, said to be qcow2", "disk.img", raw, source.Qcow2, "not a sound qcow2 image", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, tc.file)
			for name, b := range map[string][]byte{"base": raw, tc.file: tc.content} {
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			img, err := source.Open(path, source.Options{Format: tc.format})
			if tc.say != "" {
				if err == nil || !strings.Contains(err.Error(), tc.say) || img != nil {
					t.Fatalf("%v, err = %v, want %q", img, err, tc.say)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			if img.Size() != tc.size {
				t.Errorf("size %d, want %d", img.Size(), tc.size)
			}
			if tc.size > 0 {
				if _, err := img.ReadAt(make([]byte, tc.size), 0); err != nil {
					t.Error(err)
				}
				if _, err := image.ExtentAt(img, 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestMissingImageIsNoFormatQuestion(t *testing.T) {
	for _, f := range []source.Format{source.Auto, source.Raw, source.Qcow2} {
		if _, err := source.Open(filepath.Join(t.TempDir(), "none"), source.Options{Format: f}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("format %q: %v", f, err)
		}
	}
}

func TestParseFormat(t *testing.T) {
	for s, want := range map[string]source.Format{"": source.Auto, "auto": source.Auto, "raw": source.Raw, "qcow2": source.Qcow2} {
		if f, err := source.ParseFormat(s); f != want || err != nil {
			t.Errorf("%q: %v, %v", s, f, err)
		}
	}
	if _, err := source.ParseFormat("vmdk"); err == nil {
		t.Error("vmdk is a format")
	}
}

func TestImageThatAVirtualMachineWritesIsRefused(t *testing.T) {
	for _, tool := range []string{"qemu-img", "qemu-io"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	for _, format := range []string{"raw", "qcow2"} {
		path := filepath.Join(t.TempDir(), "disk."+format)
		if out, err := exec.CommandContext(t.Context(), "qemu-img", "create", "-f", format, path, "1M").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		stop := hold(t, format, path)
		if _, err := source.Open(path, source.Options{}); !errors.Is(err, source.ErrInUse) {
			t.Errorf("%s: %v, want ErrInUse", format, err)
		}
		img, err := source.Open(path, source.Options{Shared: true})
		if err != nil {
			t.Errorf("%s, shared: %v", format, err)
		} else if err := img.Close(); err != nil {
			t.Error(err)
		}
		stop()
		if img, err = source.Open(path, source.Options{Qcow2: qcow2.Options{}}); err != nil {
			t.Errorf("%s, after the machine has stopped: %v", format, err)
		} else if err := img.Close(); err != nil {
			t.Error(err)
		}
	}
}

// hold opens an image for writing in QEMU until stop is called.
func hold(t *testing.T, format, path string) (stop func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "qemu-io", "-f", format, path)
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
	if _, err := in.Write([]byte("length\n")); err != nil {
		t.Fatal(err)
	}
	var answer []byte
	for b := make([]byte, 64); !bytes.Contains(answer, []byte("1 MiB")); {
		n, err := out.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		answer = append(answer, b[:n]...)
	}
	return func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
}
