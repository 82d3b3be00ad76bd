//go:build unix

package dir_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
)

func TestOpenTellsWhyThereIsNoRepository(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, path, want string }{
		{"missing directory", filepath.Join(base, "none"), "no such directory"},
		{"file", file, "a file, not a directory"},
		{"directory of something else", base, "holds no repository"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := dir.Open(tc.path, dir.Options{})
			if !errors.Is(err, repo.ErrNotFound) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("err = %v, want ErrNotFound that says %q", err, tc.want)
			}
		})
	}
}

func TestCreateMakesWhatAServerAdopts(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	path := filepath.Join(t.TempDir(), "a", "store")
	if err := dir.Create(t.Context(), path, datastore.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{".": 0o755, ".chunks": 0o750, ".chunks/0000": 0o750, ".chunks/ffff": 0o750, ".lock": 0o644} {
		info, err := os.Stat(filepath.Join(path, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", name, info.Mode().Perm(), want)
		}
	}
	entries, err := os.ReadDir(filepath.Join(path, ".chunks"))
	if err != nil || len(entries) != 65536 {
		t.Fatalf("%d chunk directories, %v; want 65536", len(entries), err)
	}
}

func TestCreateRefusesAPlaceInsideARepository(t *testing.T) {
	outer := filepath.Join(t.TempDir(), "outer")
	if err := dir.Create(t.Context(), outer, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	err := dir.Create(t.Context(), filepath.Join(outer, "sub", "inner"), datastore.CreateOptions{Lazy: true})
	if err == nil || !strings.Contains(err.Error(), "inside the repository") {
		t.Fatalf("err = %v", err)
	}
	if err := dir.Create(t.Context(), outer, datastore.CreateOptions{Lazy: true}); !errors.Is(err, repo.ErrExists) {
		t.Fatalf("created twice: err = %v", err)
	}
}
