package check

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each way to spoil a file must be noticed in every file that the format
// protects.
var spoilers = []struct {
	name  string
	spoil func([]byte) []byte
}{
	{"first byte flipped", func(b []byte) []byte { b[0] ^= 1; return b }},
	{"middle byte flipped", func(b []byte) []byte { b[len(b)/2] ^= 0x10; return b }},
	{"last byte flipped", func(b []byte) []byte { b[len(b)-1] ^= 0x80; return b }},
	{"last byte cut", func(b []byte) []byte { return b[:len(b)-1] }},
	{"emptied", func([]byte) []byte { return nil }},
	{"zeroed", func(b []byte) []byte { clear(b); return b }},
}

func TestEveryDamageIsNoticed(t *testing.T) {
	needTools(t)
	ways := spoilers
	if testing.Short() {
		ways = ways[:1]
	}
	for _, rel := range protected(t, unpack(t)) {
		t.Run(rel, func(t *testing.T) {
			t.Parallel()
			store := unpack(t)
			name := filepath.Join(store, rel)
			good, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range ways {
				if err := os.WriteFile(name, s.spoil(append([]byte(nil), good...)), 0o600); err != nil {
					t.Fatal(err)
				}
				if r := check(t, store, testKey); !named(r.Faults, rel) {
					t.Errorf("%s: faults %q do not name the file", s.name, r.Faults)
				}
			}
		})
	}
}

func TestSwappedChunksAreNoticed(t *testing.T) {
	needTools(t)
	store := unpack(t)
	var chunks []string
	for _, f := range protected(t, store) {
		if strings.HasPrefix(f, ".chunks") {
			chunks = append(chunks, f)
		}
	}
	a, b := chunks[0], chunks[1]
	for _, mv := range [][2]string{{a, "tmp"}, {b, a}, {"tmp", b}} {
		if err := os.Rename(filepath.Join(store, mv[0]), filepath.Join(store, mv[1])); err != nil {
			t.Fatal(err)
		}
	}
	if r := check(t, store, testKey); !named(r.Faults, a) || !named(r.Faults, b) {
		t.Errorf("faults %q do not name both", r.Faults)
	}
}

// protected lists the chunks, indexes and blobs of a store.
func protected(t *testing.T, store string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(store, func(name string, e fs.DirEntry, err error) error {
		ext := filepath.Ext(name)
		chunk := len(e.Name()) == 64
		if err == nil && e.Type().IsRegular() && (chunk || ext == ".fidx" || ext == ".didx" || ext == ".blob") {
			rel, err := filepath.Rel(store, name)
			files = append(files, rel)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func named(faults []string, rel string) bool {
	for _, f := range faults {
		if strings.HasPrefix(f, rel+": ") && !strings.Contains(f, ": mode is") {
			return true
		}
	}
	return false
}
