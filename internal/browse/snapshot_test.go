package browse_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/browse"
	"github.com/holdfast-backup/holdfast/internal/chunker"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const (
	pxarSamples = "../format/pxar/testdata"
	catalogs    = "../format/catalog/testdata"
)

// save makes a snapshot of archives that are files.
func save(t *testing.T, key *chunkcrypt.Key, archives map[names.Archive]string) (*repotest.Memory, repo.Snapshot) {
	t.Helper()
	m := repotest.New()
	n := names.Snapshot{Group: names.Group{Type: names.Host, ID: "a"}, Time: 1700000000}
	s, err := m.Begin(t.Context(), repo.Begin{Snapshot: n})
	if err != nil {
		t.Fatal(err)
	}
	opts := backup.Options{}
	if key != nil {
		opts.Key, opts.CryptMode = key, manifest.ModeEncrypt
	}
	w, err := backup.NewWriter(s, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	list := manifest.New(n)
	for name, path := range archives {
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
	if key != nil {
		if err := list.Sign(key); err != nil {
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

func paths(ctx context.Context, t *browse.Tree) (all string, err error) {
	err = t.Walk(ctx, "/", func(path []byte, _ *browse.Entry) error {
		all += string(path) + "\n"
		return nil
	})
	return all, err
}

func TestTreesOfASnapshotNeedTheKeyAndLeaveNothingOpen(t *testing.T) {
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		t.Fatal(err)
	}
	key, err := chunkcrypt.New(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*chunkcrypt.Key{nil, key} {
		m, snap := save(t, k, map[names.Archive]string{
			"tiny.pxar.didx": filepath.Join(pxarSamples, "tiny.pxar"), names.Catalog: filepath.Join(catalogs, "tiny.pcat1"),
		})
		cat, err := browse.OpenCatalog(t.Context(), snap, k, nil)
		if err != nil {
			t.Fatal(err)
		}
		if all, err := paths(t.Context(), cat); err != nil || all != "/tiny.pxar.didx\n/tiny.pxar.didx/d\n/tiny.pxar.didx/d/f\n/tiny.pxar.didx/l\n" {
			t.Errorf("catalog: %q, %v", all, err)
		}
		arch, err := browse.OpenArchive(t.Context(), snap, filearchive.Parts{Meta: "tiny.pxar.didx"}, k, nil)
		if err != nil {
			t.Fatal(err)
		}
		if all, err := paths(t.Context(), arch); err != nil || all != "/d\n/d/f\n/l\n" {
			t.Errorf("archive: %q, %v", all, err)
		}
		if err := errors.Join(cat.Close(), arch.Close()); err != nil {
			t.Error(err)
		}
		if n := m.InUse(); n != 0 {
			t.Errorf("%d things are left open", n)
		}
		if k == nil {
			continue
		}
		if _, err := browse.OpenCatalog(t.Context(), snap, nil, nil); !errors.Is(err, blob.ErrNoKey) {
			t.Errorf("catalog without the key: %v", err)
		}
		if _, err := browse.OpenArchive(t.Context(), snap, filearchive.Parts{Meta: "tiny.pxar.didx"}, nil, nil); !errors.Is(err, blob.ErrNoKey) {
			t.Errorf("archive without the key: %v", err)
		}
	}
}

func TestMissingAndDamagedTreesAreToldApart(t *testing.T) {
	// A directory without a catalog, and files that are something else.
	m, snap := save(t, nil, map[names.Archive]string{"tiny.pxar.didx": filepath.Join(catalogs, "tiny.pcat1"), "full.pxar.didx": filepath.Join(pxarSamples, "full.pxar")})
	if _, err := browse.OpenCatalog(t.Context(), snap, nil, nil); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("no catalog: %v", err)
	}
	_, err := browse.OpenArchive(t.Context(), snap, filearchive.Parts{Meta: "tiny.pxar.didx"}, nil, nil)
	if _, ok := errors.AsType[*repo.CorruptError](err); !ok || errors.Is(err, repo.ErrNotFound) {
		t.Errorf("no archive: %v", err)
	}
	_, odd := save(t, nil, map[names.Archive]string{names.Catalog: filepath.Join(pxarSamples, "tiny.pxar")})
	_, err = browse.OpenCatalog(t.Context(), odd, nil, nil)
	if _, ok := errors.AsType[*repo.CorruptError](err); !ok {
		t.Errorf("no catalog: %v", err)
	}
	// A chunk that is missing is neither.
	for d := range m.Chunks {
		delete(m.Chunks, d)
	}
	_, err = browse.OpenArchive(t.Context(), snap, filearchive.Parts{Meta: "full.pxar.didx"}, nil, nil)
	if !errors.Is(err, repo.ErrChunkMissing) || strings.Contains(err.Error(), "not a valid") {
		t.Errorf("without chunks: %v", err)
	}
	if n := m.InUse(); n != 0 {
		t.Errorf("%d things are left open", n)
	}
}
