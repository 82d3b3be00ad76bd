package files_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/chunker"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/filerestore/files"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const (
	archives = "../../format/pxar/testdata"
	catalogs = "../../format/catalog/testdata"
)

// save makes a snapshot of archives that are files.
func save(t *testing.T, from map[names.Archive]string) (*repotest.Memory, repo.Snapshot) {
	t.Helper()
	m := repotest.New()
	n := names.Snapshot{Group: names.Group{Type: names.Host, ID: "a"}, Time: 1700000000}
	s, err := m.Begin(t.Context(), repo.Begin{Snapshot: n})
	if err != nil {
		t.Fatal(err)
	}
	w, err := backup.NewWriter(s, backup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	list := manifest.New(n)
	for name, path := range from {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		cut, err := chunker.New(1 << 16)
		if err == nil {
			_, err = w.DynamicFrom(t.Context(), name, cut, f)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range w.Files() {
		if err := list.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Finish(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	snap, err := m.Open(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return m, snap
}

func path(t *testing.T, s string) filerestore.Path {
	t.Helper()
	p, err := filerestore.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// listing is a list on one line.
func listing(t *testing.T, d *files.Driver, s string) string {
	t.Helper()
	all, err := d.List(t.Context(), path(t, s))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range all {
		line := string(rune(e.Type)) + " " + e.Path.String()
		if e.Size != nil && e.Mtime != nil {
			line += " with a size and a time"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, " | ")
}

// The names come from the catalog where it has them, else from the archive.
func TestAnArchiveIsListedWithItsCatalogAndWithout(t *testing.T) {
	tiny := map[names.Archive]string{"tiny.pxar.didx": filepath.Join(archives, "tiny.pxar")}
	both := map[names.Archive]string{"tiny.pxar.didx": tiny["tiny.pxar.didx"], names.Catalog: filepath.Join(catalogs, "tiny.pcat1")}
	other := map[names.Archive]string{"other.pxar.didx": tiny["tiny.pxar.didx"], names.Catalog: filepath.Join(catalogs, "tiny.pcat1")}
	for name, from := range map[string]map[names.Archive]string{"tiny.pxar.didx": both, "without": tiny, "other.pxar.didx": other} {
		archive := name
		if name == "without" {
			archive = "tiny.pxar.didx"
		}
		m, snap := save(t, from)
		d := files.New(snap, filearchive.Parts{Meta: names.Archive(archive)}, nil, nil)
		for p, want := range map[string]string{
			"/" + archive:          "d /" + archive + "/d | l /" + archive + "/l",
			"/" + archive + "/d":   "f /" + archive + "/d/f with a size and a time",
			"/" + archive + "/d/f": "f /" + archive + "/d/f with a size and a time",
			"/" + archive + "/l":   "l /" + archive + "/l",
		} {
			if got := listing(t, d, p); got != want {
				t.Errorf("%s: %s: %q, want %q", name, p, got, want)
			}
		}
		for _, p := range []string{"/none", "/d/none", "/d/f/x", "/l/x"} {
			if all, err := d.List(t.Context(), path(t, "/"+archive+p)); err == nil {
				t.Errorf("%s: %s: %v", name, p, all)
			} else if p == "/none" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %s: %v", name, p, err)
			}
		}
		if d.Notices() != nil || m.InUse() != 0 {
			t.Errorf("%s: %d things are left open; %q", name, m.InUse(), d.Notices())
		}
	}
}

func TestAPartOfAnArchiveIsFetchedAndClosed(t *testing.T) {
	m, snap := save(t, map[names.Archive]string{"tiny.pxar.didx": filepath.Join(archives, "tiny.pxar")})
	d := files.New(snap, filearchive.Parts{Meta: "tiny.pxar.didx"}, nil, nil)
	for p, file := range map[string]bool{"/tiny.pxar.didx": false, "/tiny.pxar.didx/d": false, "/tiny.pxar.didx/d/f": true, "/tiny.pxar.didx/l": true} {
		part, err := d.Open(t.Context(), path(t, p), filerestore.OpenOptions{Name: "new"})
		if err != nil {
			t.Fatal(err)
		}
		if part.IsFile() != file {
			t.Errorf("%s: a file: %v", p, part.IsFile())
		}
		var kinds []string
		for {
			e, err := part.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == pxar.File {
				b, err := io.ReadAll(part)
				if err != nil || int64(len(b)) != int64(e.Size) {
					t.Errorf("%s: %d bytes of %d, %v", p, len(b), e.Size, err)
				}
				if file && e.Name != "new" {
					t.Errorf("%s: it is called %q", p, e.Name)
				}
			}
			kinds = append(kinds, e.Kind.String())
		}
		if len(kinds) < 2 {
			t.Errorf("%s: %q", p, kinds)
		}
		if err := part.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.Open(t.Context(), path(t, "/tiny.pxar.didx/none"), filerestore.OpenOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if n := m.InUse(); n != 0 {
		t.Errorf("%d things are left open", n)
	}
}
