package filearchive_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

func listing(t *testing.T, files ...string) *manifest.Manifest {
	t.Helper()
	m := manifest.New(names.Snapshot{Group: names.Group{Type: names.Host, ID: "h"}, Time: 1})
	for _, f := range files {
		if err := m.Add(manifest.File{Filename: f, CryptMode: manifest.ModeNone, Size: 1}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestArchiveIsFoundUnderEveryNameThatUsersGiveIt(t *testing.T) {
	m := listing(t, "a.pxar.didx", "b.ppxar.didx", "b.mpxar.didx", "disk.img.fidx", "catalog.pcat1.didx")
	for name, want := range map[string]filearchive.Parts{
		"a.pxar":       {Meta: "a.pxar.didx"},
		"a.pxar.didx":  {Meta: "a.pxar.didx"},
		"b.pxar":       filearchive.SplitParts("b"),
		"b.pxar.didx":  filearchive.SplitParts("b"),
		"b.mpxar":      filearchive.SplitParts("b"),
		"b.ppxar.didx": filearchive.SplitParts("b"),
	} {
		got, err := filearchive.Find(m, name)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	all := filearchive.All(m)
	var called []string
	for _, p := range all {
		called = append(called, p.Name())
	}
	if !slices.Equal(called, []string{"a.pxar", "b.pxar"}) {
		t.Errorf("all archives: %q", called)
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	m := listing(t, "b.mpxar.didx", "c.ppxar.didx", "disk.img.fidx")
	for name, missing := range map[string]string{
		"a.pxar": "archive a.pxar", "b.pxar": "b.ppxar.didx", "c.mpxar": "c.mpxar.didx", "disk.img": "holds no files",
	} {
		if _, err := filearchive.Find(m, name); !errors.Is(err, repo.ErrNotFound) || !strings.Contains(err.Error(), missing) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := filearchive.Find(m, "../x.pxar"); err == nil || errors.Is(err, repo.ErrNotFound) {
		t.Errorf("a path as a name: %v", err)
	}
	if all := filearchive.All(m); len(all) != 0 {
		t.Errorf("halves are archives: %v", all)
	}
}
