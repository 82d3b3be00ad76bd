//go:build linux

package trees

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// planted makes a tree of files (and directories, that end in a slash).
func planted(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		at, text, _ := strings.Cut(name, "=")
		at = filepath.Join(dir, at)
		parent := filepath.Dir(at)
		if strings.HasSuffix(name, "/") {
			parent = at
		}
		if err := os.MkdirAll(parent, 0o755); err != nil {
			t.Fatal(err)
		}
		if parent == at {
			continue
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestExcludedIsWhatThePatternsSay(t *testing.T) {
	need(t, "python3", "zstd")
	src := planted(t,
		"a.tmp", "cache/x", "cache/y", "core", "docs/.pxarexclude=# here only\n*.bak\n/build\n!keep.bak\n", "docs/a.bak", "docs/build/o",
		"docs/deep/build/o", "docs/deep/keep.bak", "docs/deep/z.bak", "docs/keep.bak", "docs/text", "empty/", "home/cache/x", "home/core/file",
		"home/sub/tmp/x", "lost+found/1", "other.bak", "tmp/1", "tmp/2", "weird[1]",
	)
	args := []string{
		"--exclude", "*.tmp", // at any depth
		"--exclude", "/cache", // at the top only
		"--exclude", "core/", // directories only
		"--exclude", "/tmp/?*", // what is in it, not itself
		"--exclude", "sub/**/x",
		"--exclude", `weird\[1\]`,
		"--exclude", "/home/cache/*", "--exclude", "!/home/cache/x", // taken back
		"--skip-lost-and-found",
	}
	want := strings.Fields(`core docs/ docs/.pxarexclude docs/deep/ docs/deep/build/ docs/deep/build/o docs/deep/keep.bak docs/keep.bak
		docs/text empty/ home/ home/cache/ home/cache/x home/sub/ home/sub/tmp/ other.bak tmp/`)
	s := newStore(t)
	for _, mode := range modes {
		expect := want
		if mode == "legacy" { // the patterns come last, as a file
			expect = append(slices.Clone(want), ".pxarexclude-cli")
		}
		for range 2 {
			snap, _ := s.backup(exitOK, "ex-"+mode, append([]string{"root.pxar:" + src, "--change-detection-mode", mode}, args...)...)
			if got := s.paths(snap, "root.pxar"); !slices.Equal(got, expect) {
				t.Errorf("%s: %q\nwant %q", mode, got, expect)
			}
		}
	}
	s.judged()
}
