package extract_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/extract"
)

// goldens are the archives that the reference implementation wrote.
func goldens(t *testing.T) map[string]encoded {
	t.Helper()
	const dir = "../format/pxar/testdata"
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]encoded{}
	for _, f := range list {
		base, split := strings.CutSuffix(f.Name(), ".mpxar")
		if !split && !strings.HasSuffix(f.Name(), ".pxar") {
			continue
		}
		var a encoded
		if a.meta, err = os.ReadFile(filepath.Join(dir, f.Name())); err != nil {
			t.Fatal(err)
		}
		if split {
			if a.payload, err = os.ReadFile(filepath.Join(dir, base+".ppxar")); errors.Is(err, os.ErrNotExist) {
				continue // a sample without contents
			} else if err != nil {
				t.Fatal(err)
			}
		}
		all[f.Name()] = a
	}
	return all
}

func TestArchivesOfTheReferenceAreExtracted(t *testing.T) {
	rootOnly(t)
	seen := map[string]map[string]found{}
	for name, a := range goldens(t) {
		target := filepath.Join(t.TempDir(), "target")
		t.Cleanup(func() { _ = exec.Command("chattr", "-R", "-ia", target).Run() })
		weird := func(p extract.Problem) { // its numbers have 32 bits each
			if p.Path != "/dev/weird" {
				t.Errorf("%s: %s", name, p)
			}
		}
		res, err := extract.Directory(t.Context(), a.reader(t), target, extract.Options{Problem: weird})
		if err != nil || res.Failed.Entries() > 1 || res.Asked.Entries()-res.Made.Entries() != res.Failed.Entries() {
			t.Fatalf("%s: %v, %+v", name, err, res)
		}
		v, err := extract.Verify(t.Context(), a.walker(t, extract.Selection{}), target, extract.VerifyOptions{Problem: weird})
		if err != nil || !v.Explained(&res) {
			t.Errorf("%s: %v, %+v", name, err, v)
		}
		seen[name] = walkTree(t, target)
		var stream bytes.Buffer
		open := func() (extract.Source, error) { return a.reader(t), nil }
		if _, err := extract.Pxar(t.Context(), open, &stream, extract.StreamOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "full.pxar" || name == "tiny.pxar" {
			if !bytes.Equal(stream.Bytes(), a.meta) {
				t.Errorf("%s: written again it has other bytes", name)
			}
		}
	}
	for _, base := range []string{"tiny", "full"} {
		if len(seen[base+".pxar"]) < 2 {
			t.Errorf("%s holds nothing", base)
		}
		if diff := cmp.Diff(seen[base+".pxar"], seen[base+".mpxar"], sortXattrs); diff != "" {
			t.Errorf("%s: both versions hold the same (-1 +2):\n%s", base, diff)
		}
	}
}
