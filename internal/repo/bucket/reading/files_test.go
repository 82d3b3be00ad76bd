package reading_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog/catalogtest"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

func TestFilesAreWhatTheManifestSays(t *testing.T) {
	w := build(t, 300)
	p := w.open(0)
	if p.Name() != snapshot || len(p.Manifest().Files) != 3 {
		t.Errorf("%s with %d files", p.Name(), len(p.Manifest().Files))
	}
	if gets := w.store.asked(); gets != 0 {
		t.Errorf("%d requests to open it", gets)
	}
	x, c, err := p.OpenFixed(image)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := x.Digest(123); err != nil || d != w.chunks[123].d {
		t.Errorf("%s, %v", d, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	y, c, err := p.OpenDynamic(tree)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := y.Entry(123); err != nil || e.Digest != w.chunks[123].d {
		t.Errorf("%v, %v", e, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if raw, err := p.Blob(config); err != nil || len(raw) == 0 {
		t.Errorf("%x, %v", raw, err)
	}
	raw, err := p.Blob(names.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := spool.Manifest(raw, snapshot); err != nil || len(m.Files) != 3 {
		t.Errorf("%v, %v", m, err)
	}
	for _, name := range []names.Archive{"other.img.fidx", names.ClientLog} {
		if _, err := p.Blob(name); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := p.OpenFixed("other.img.fidx"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestTheClientsLogMayComeLater(t *testing.T) {
	w := build(t, 1)
	p := w.open(0)
	w.put(catalog.LogObject(7), []byte("what happened"))
	if _, err := p.Blob(names.ClientLog); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("nobody has said that it is there: %v", err)
	}
	w.rec.Log = 1
	w.record()
	if raw, err := p.Blob(names.ClientLog); err != nil || string(raw) != "what happened" {
		t.Errorf("%q, %v", raw, err)
	}
}

func TestDamagedFilesAreCorrupt(t *testing.T) {
	w := build(t, 20)
	key := catalog.SnapshotObject(7)
	good, _, err := objstore.ReadAll(t.Context(), w.store.Store, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range append(w.rec.Files, catalog.File{Name: "chunk map", Span: w.rec.Map}) {
		for what, spoil := range map[string]func() []byte{
			"changed": func() []byte {
				b := bytes.Clone(good)
				b[f.Off+f.Len-1] ^= 1
				return b
			},
			"cut": func() []byte { return good[:f.Off+f.Len-1] },
		} {
			w.put(key, spoil())
			p := w.open(0)
			switch i {
			case 0:
				_, _, err = p.OpenFixed(f.Name)
			case 1:
				_, _, err = p.OpenDynamic(f.Name)
			case 2:
				_, err = p.Blob(f.Name)
			default:
				_, err = p.ReadChunk(t.Context(), w.chunks[0].d, nil)
			}
			if c, ok := errors.AsType[*repo.CorruptError](err); !ok || !strings.Contains(c.What, string(f.Name)) {
				t.Errorf("%s %s: %v", f.Name, what, err)
			}
		}
	}
}

func TestAnObjectThatIsGoneIsDamageOrARemovedSnapshot(t *testing.T) {
	w := build(t, 20)
	w.remove(catalog.SnapshotObject(7))
	_, _, err := w.open(0).OpenFixed(image)
	if _, ok := errors.AsType[*repo.CorruptError](err); !ok {
		t.Errorf("the snapshot is listed: %v", err)
	}
	w.mu.Lock()
	w.now = catalogtest.State{}
	w.mu.Unlock()
	if _, _, err := w.open(0).OpenFixed(image); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("the snapshot was removed: %v", err)
	}
}
