package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// longNames is an archive with a name that no file system here can have, and a
// file behind it.
func longNames(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w := pxar.NewWriter(&b, pxar.WriterOptions{})
	dir := pxar.Metadata{Mode: pxar.ModeDirectory | 0o755, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	file := dir
	file.Mode = pxar.ModeFile | 0o644
	err := w.BeginDir(&pxar.Entry{Kind: pxar.Directory, Metadata: dir})
	for _, name := range []string{strings.Repeat("n", 300), "z"} {
		if err == nil {
			err = w.AddBytes(&pxar.Entry{Name: name, Kind: pxar.File, Metadata: file}, []byte("x"))
		}
	}
	if err == nil {
		err = w.EndDir()
	}
	if err == nil {
		err = w.Close()
	}
	path := filepath.Join(t.TempDir(), "long.pxar")
	if err == nil {
		err = os.WriteFile(path, b.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStrictExtractionEndsWithTheFirstEntryThatCannotBeMade(t *testing.T) {
	archive := longNames(t)
	for _, tc := range []struct {
		name  string
		flags []string
		code  int
	}{
		{"goes on", nil, exitSkipped},
		{"strict", []string{"--strict"}, exitFailed},
	} {
		e := testEnv(t)
		e.Program = pxarProgram
		var stderr bytes.Buffer
		e.Stderr = &stderr
		target := filepath.Join(t.TempDir(), "out")
		code := Main(context.Background(), e, append([]string{"extract", archive, target}, tc.flags...))
		if code != tc.code || !strings.Contains(stderr.String(), "/nnn") {
			t.Errorf("%s: exit code %d, want %d and the name:\n%s", tc.name, code, tc.code, &stderr)
		}
		if _, err := os.Stat(filepath.Join(target, "z")); tc.code == exitSkipped && err != nil {
			t.Errorf("%s: the file behind it: %v", tc.name, err)
		}
	}
}
