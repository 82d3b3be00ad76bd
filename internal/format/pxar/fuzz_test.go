package pxar_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

func seeds(f *testing.F) {
	for _, name := range []string{"tiny", "full", "reuse", "tiny-prelude"} {
		payload := []byte(nil)
		switch name {
		case "tiny", "full":
			f.Add(file(f, name+".pxar"), []byte(nil))
			payload = file(f, name+".ppxar")
		case "tiny-prelude":
			payload = file(f, "tiny.ppxar")
		}
		f.Add(file(f, name+".mpxar"), payload)
	}
	f.Add(file(f, "entry-v1.pxar"), []byte(nil))
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 1))
		tree := randomTree(r, 5)
		for version := 1; version <= 2; version++ {
			if meta, payload := encode(f, tree, version); len(meta)+len(payload) < 20_000 {
				f.Add(meta, payload)
			}
		}
	}
}

// FuzzReader: what can be walked is, written again, an archive that says the
// same, and an Archive of version 1 shows the same tree.
func FuzzReader(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, meta, payload []byte) {
		if len(payload) == 0 {
			payload = nil
		}
		all, entries, err := walk(meta, payload)
		if err != nil {
			return
		}
		a, err := open(meta, payload)
		if err == nil {
			var again []seen
			var places []pxar.Entry
			contents := a.Version() == 1 || payload != nil
			if again, places, err = roam(a, contents, len(all)); err == nil {
				same(t, "Archive", again, all)
				samePlaces(t, entries, places)
			}
		}
		if err != nil && (a == nil || a.Version() == 1) {
			t.Fatalf("the Reader takes what the Archive refuses: %v", err)
		}
		rewritten(t, meta, payload, all)
	})
}

// rewritten writes what a Reader yields, and reads it again.
func rewritten(t *testing.T, meta, payload []byte, want []seen) {
	var in io.Reader
	if payload != nil {
		in = bytes.NewReader(payload)
	}
	r, err := pxar.NewReader(bytes.NewReader(meta), in)
	if err != nil {
		t.Fatal(err)
	}
	var m, p bytes.Buffer
	o := pxar.WriterOptions{Prelude: r.Prelude()}
	if r.Version() == 2 && payload != nil {
		o.Payload = &p
	}
	w := pxar.NewWriter(&m, o)
	moved := map[int64]int64{}
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		c, old := *e, e.Offset
		switch e.Kind {
		case pxar.Directory:
			err = w.BeginDir(&c)
		case pxar.End:
			err = w.EndDir()
		case pxar.File:
			if payload == nil && r.Version() == 2 {
				c.Size = 0
			}
			_, err = w.AddFile(&c, r)
		case pxar.Hardlink:
			link, ok := moved[e.Link]
			if !ok {
				return // it leads to no entry
			}
			c.Link = link
			err = w.Add(&c)
		default:
			err = w.Add(&c)
		}
		if err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", e, err)
		}
		moved[old] = c.Offset
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var again []byte
	if o.Payload != nil {
		again = p.Bytes()
	}
	got, _, err := walk(m.Bytes(), again)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "written again", got, want)
}

// FuzzArchive: whatever the tables say, everything stays within its directory,
// is found by its name, and ends.
func FuzzArchive(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, meta, payload []byte) {
		a, err := open(meta, payload)
		if err != nil {
			return
		}
		// No entry takes less than a FILENAME and a HARDLINK or ENTRY.
		_, entries, _ := roam(a, false, len(meta)/(18+26)+1)
		for i := range entries {
			e := &entries[i]
			if e.Offset < 0 || e.EndPos < e.Body || e.Body <= e.Offset || e.EndPos > int64(len(meta)) {
				t.Fatalf("%+v is outside of %d bytes", e, len(meta))
			}
			at, err := a.EntryAt(e.Offset)
			if err != nil {
				t.Fatalf("%+v: %v", e, err)
			}
			if at.Kind == pxar.Directory {
				at.EndPos = e.EndPos
			}
			_, _ = a.PathAt(e.Offset)
			if d, err := a.DirAt(e.EndPos); err == nil && d.Entry().EndPos != e.EndPos {
				t.Fatalf("%+v opens as %+v", e, d.Entry())
			}
			if !reflect.DeepEqual(at, e) {
				t.Fatalf("%+v reads again as %+v", e, at)
			}
			if file, err := a.Resolve(e); err == nil && file.Kind == pxar.File {
				if s, err := a.Content(file); err == nil {
					if n, err := io.Copy(io.Discard, s); err != nil || n != file.Size {
						t.Fatalf("%+v: %d bytes, %v", file, n, err)
					}
				}
			}
		}
		end := int64(0)
		for it, err := range a.Items() {
			if err != nil {
				break
			}
			if end += it.Size; it.Size < pxar.HeaderSize || end > int64(len(meta)) || it.Link < 0 || it.Link > it.Offset {
				t.Fatalf("%+v in %d bytes", it, len(meta))
			}
		}
		for _, name := range []string{"d", "f", "l", "caps", "many", "\xff"} {
			if e, err := a.Root().Lookup(name); err == nil && e.Name != name {
				t.Fatalf("%q is %+v", name, e)
			}
		}
	})
}
