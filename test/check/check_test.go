package check

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const testKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// The faults that the vector is made with. Its orphan chunk is allowed.
var known = []string{
	".chunks/1a73/1a73a9e5d117bd4380390cf4e79a01530f1ff41d043b7ac9726f4207d8f64e83.0.bad: a chunk that a verification found corrupt",
	"vm/100/2024-06-07T14:24:36Z: unfinished: it has no manifest",
}

const fewDirectories = ".chunks: 65529 of 65536 directories are missing, the first is 0000"

type result struct {
	Faults, Notes []string
	Count         map[string]int
}

// check runs the program with the given key ("" for none).
func check(t *testing.T, store, key string) result {
	t.Helper()
	args := []string{"check.py", "--json", store}
	if key != "" {
		args = append(args, "--key", key)
	}
	cmd := exec.CommandContext(t.Context(), "python3", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	exit, _ := errors.AsType[*exec.ExitError](err)
	if err != nil && (exit == nil || exit.ExitCode() != 1) {
		t.Fatalf("check.py: %v", err)
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("check.py printed %q: %v", out, err)
	}
	if (err != nil) != (len(r.Faults) > 0) {
		t.Fatalf("exit %v with %d faults", err, len(r.Faults))
	}
	return r
}

func needTools(t *testing.T) {
	t.Helper()
	for _, p := range []string{"python3", "zstd", "openssl"} {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not installed", p)
			}
			t.Skipf("%s is not installed", p)
		}
	}
}

// unpack lays the vector into a new directory.
func unpack(t *testing.T) string {
	t.Helper()
	packed, err := os.ReadFile("testdata/mini-store.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for r := tar.NewReader(zr); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := unpackOne(filepath.Join(dir, filepath.FromSlash(h.Name)), h, r); err != nil {
			t.Fatal(err)
		}
	}
}

func unpackOne(name string, h *tar.Header, r io.Reader) error {
	mode := h.FileInfo().Mode()
	if mode.IsDir() {
		if err := os.MkdirAll(name, 0o755); err != nil {
			return err
		}
		return os.Chmod(name, mode.Perm())
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		return err
	}
	return os.Chmod(name, mode.Perm())
}

func TestVectorHasExactlyItsKnownFaults(t *testing.T) {
	needTools(t)
	store := unpack(t)
	want := append([]string{fewDirectories}, known...)
	for _, key := range []string{"", testKey} {
		r := check(t, store, key)
		if !slices.Equal(r.Faults, want) {
			t.Errorf("key %q: faults\n%s\nwant\n%s", key, strings.Join(r.Faults, "\n"), strings.Join(want, "\n"))
		}
		if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "no index names this chunk") {
			t.Errorf("notes %q, want the orphan chunk", r.Notes)
		}
		if opaque := r.Count["opaque"]; (opaque == 0) != (key != "") {
			t.Errorf("key %q: %d items not opened", key, opaque)
		}
	}
}

func TestCompleteVectorPassesWithoutItsKnownFaults(t *testing.T) {
	needTools(t)
	store := unpack(t)
	for i := range 1 << 16 {
		if err := os.Mkdir(fmt.Sprintf("%s/.chunks/%04x", store, i), 0o750); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	for _, f := range known {
		path, _, _ := strings.Cut(f, ": ")
		if err := os.RemoveAll(filepath.Join(store, path)); err != nil {
			t.Fatal(err)
		}
	}
	if r := check(t, store, testKey); len(r.Faults) != 0 {
		t.Errorf("faults %q, want none", r.Faults)
	}
}

func TestWrongKeyIsAFault(t *testing.T) {
	needTools(t)
	r := check(t, unpack(t), strings.Repeat("11", 32))
	if !slices.ContainsFunc(r.Faults, func(f string) bool { return strings.Contains(f, "signed by another key") }) {
		t.Errorf("faults %q do not name the manifest's key", r.Faults)
	}
}
