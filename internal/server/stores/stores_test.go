package stores_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
)

// fixture is a configuration and a directory for datastores.
func fixture(t *testing.T) (*stores.Set, confdir.Dir, string) {
	t.Helper()
	base := t.TempDir()
	conf := confdir.New(filepath.Join(base, "conf"))
	if err := conf.Make(); err != nil {
		t.Fatal(err)
	}
	s := stores.New(conf)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, conf, base
}

func add(t *testing.T, s *stores.Set, base, name string) string {
	t.Helper()
	path := filepath.Join(base, name)
	if err := dir.Create(t.Context(), path, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(t.Context(), stores.Addition{Name: name, Path: path, Reuse: true}); err != nil {
		t.Fatal(err)
	}
	return path
}

func set(t *testing.T, s *stores.Set, name, key string, value ...string) {
	t.Helper()
	err := s.Change(t.Context(), "", func(f *sectionconfig.File) error { f.Find(name).Set(key, value...); return nil })
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatTheFileSaysIsSeenAtOnce(t *testing.T) {
	s, conf, base := fixture(t)
	add(t, s, base, "tank")
	other := stores.New(conf) // another process
	set(t, other, "tank", "comment", "big")
	c, err := s.Find("tank")
	if err != nil || c.Comment != "big" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := s.Find("none"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("a datastore that is not there: %v", err)
	}
}

func TestUnknownSettingsStayAsTheyAre(t *testing.T) {
	s, conf, _ := fixture(t)
	text := "datastore: tank\n\tcomment x\n\tnotify gc=never\n\tpath /mnt/tank\n\tsomething new\n\nother: thing\n\tkey value\n"
	if err := os.WriteFile(filepath.Join(conf.Path(), "datastore.cfg"), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	set(t, s, "tank", "comment", "y")
	got, err := os.ReadFile(filepath.Join(conf.Path(), "datastore.cfg"))
	if want := strings.Replace(text, "comment x", "comment y", 1); err != nil || string(got) != want {
		t.Errorf("%q, %v, want\n%q", got, err, want)
	}
	if names, err := s.Names(); err != nil || len(names) != 1 {
		t.Errorf("the datastores are %v, %v", names, err)
	}
}

func TestAStoreStaysOpenForItsUsersWhenItIsGone(t *testing.T) {
	s, _, base := fixture(t)
	add(t, s, base, "tank")
	h, err := s.Open("tank", stores.Write)
	if err != nil {
		t.Fatal(err)
	}
	if r, w := s.Active("tank"); r != 0 || w != 1 {
		t.Errorf("%d read and %d write", r, w)
	}
	if err := s.Remove(t.Context(), "", "tank"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open("tank", stores.Read); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("it can still be opened: %v", err)
	}
	if err := h.CreateNamespace(t.Context(), "a"); err != nil {
		t.Errorf("who has it open cannot use it: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := h.CreateNamespace(t.Context(), "b"); err == nil {
		t.Error("it is open after its last user is done")
	}
}

func TestAStoreThatMovedIsOpenedAtItsNewPlace(t *testing.T) {
	s, _, base := fixture(t)
	path := add(t, s, base, "tank")
	h, err := s.Open("tank", stores.Read)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	set(t, s, "tank", "path", path+"2")
	again, err := s.Open("tank", stores.Read)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Location() != path+"2" || h.Location() != path {
		t.Errorf("they are at %s and %s", h.Location(), again.Location())
	}
}

func TestADirectoryThatWasMadeAgainIsAnotherStore(t *testing.T) {
	s, _, base := fixture(t)
	path := add(t, s, base, "tank")
	h, err := s.Open("tank", stores.Write)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := os.Rename(path, path+"-old"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open("tank", stores.Read); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("its directory is gone: %v", err)
	}
	if err := dir.Create(t.Context(), path, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	again, err := s.Open("tank", stores.Write)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := errors.Join(again.CreateNamespace(t.Context(), "new"), h.CreateNamespace(t.Context(), "late")); err != nil {
		t.Fatal(err)
	}
	for place, name := range map[string]string{path: "new", path + "-old": "late"} {
		if list, err := filepath.Glob(filepath.Join(place, "ns", "*")); err != nil || len(list) != 1 || filepath.Base(list[0]) != name {
			t.Errorf("%s has %q, %v; want %s", place, list, err, name)
		}
	}
}

func TestMaintenanceLetsThroughWhatItMay(t *testing.T) {
	s, _, base := fixture(t)
	add(t, s, base, "tank")
	for _, tc := range []struct {
		mode                string
		lookup, read, write bool
	}{
		{"", true, true, true},
		{"read-only", true, true, false},
		{`type=read-only,message="moving, wait"`, true, true, false},
		{"offline", true, false, false},
		{"type=delete", false, false, false},
		{"type=unmount", true, false, false},
		{"type=\"", true, false, false}, // what cannot be read is meant to keep people out
	} {
		set(t, s, "tank", "maintenance-mode")
		if tc.mode != "" {
			set(t, s, "tank", "maintenance-mode", tc.mode)
		}
		for op, want := range map[stores.Operation]bool{stores.Lookup: tc.lookup, stores.Read: tc.read, stores.Write: tc.write} {
			h, err := s.Open("tank", op)
			if (err == nil) != want {
				t.Errorf("%q: operation %d: %v", tc.mode, op, err)
			}
			if err == nil {
				if err := h.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func TestStoresThatLieInOneAnotherAreRefused(t *testing.T) {
	list := []stores.Config{{Name: "tank", Path: "/mnt/tank"}}
	for path, ok := range map[string]bool{
		"/mnt/tank": false, "/mnt/tank/": false, "/mnt/tank/a": false, "/mnt": false, "/": false, "/mnt/tank2": true, "/mnt/a/../tank": false,
	} {
		if err := stores.CheckNested(list, path); (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestNothingIsAddedThatCannotWork(t *testing.T) {
	s, _, base := fixture(t)
	path := add(t, s, base, "tank")
	full := filepath.Join(base, "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]stores.Addition{
		"a short name":        {Name: "x", Path: filepath.Join(base, "x")},
		"a name that is used": {Name: "tank", Path: filepath.Join(base, "x")},
		"a path that is used": {Name: "pool", Path: path},
		"a full directory":    {Name: "pool", Path: full},
		"nothing to reuse":    {Name: "pool", Path: filepath.Join(base, "none"), Reuse: true},
	} {
		if err := s.Add(t.Context(), a); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if list, err := s.Names(); err != nil || len(list) != 1 {
		t.Errorf("the datastores are %v, %v", list, err)
	}
}

func TestTuningCounts(t *testing.T) {
	s, _, base := fixture(t)
	add(t, s, base, "tank")
	config := func() stores.Config {
		c, err := s.Find("tank")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if d, err := config().GCCutoff(); err != nil || d.Minutes() != 1445 || !config().AtimeCheck() {
		t.Errorf("without tuning: %v, %v", d, err)
	}
	set(t, s, "tank", "tuning", "gc-atime-cutoff=10,gc-atime-safety-check=false,sync-level=none")
	if d, err := config().GCCutoff(); err != nil || d.Minutes() != 10 || config().AtimeCheck() {
		t.Errorf("with tuning: %v, %v", d, err)
	}
	for _, bad := range []string{"sync-level=some", "sync-level"} {
		set(t, s, "tank", "tuning", bad)
		if _, err := s.Open("tank", stores.Read); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	set(t, s, "tank", "tuning", "gc-atime-cutoff=0")
	if _, err := config().GCCutoff(); err == nil {
		t.Error("a cutoff of 0 was taken")
	}
}
