package mount

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// linkTree has a file with three names, one with two and one with one.
func linkTree(t testing.TB, version int) archive {
	return build(t, version, func(w *writer) {
		var three, two *pxar.Entry
		w.dir("a", func() {
			three = w.file("three", "three names")
			w.link("three-2", three, "a/three")
			two = w.file("two", "two names")
		})
		w.dir("b", func() {
			w.link("three-3", three, "a/three")
			w.file("one", "one name")
			w.link("two-2", two, "a/two")
		})
	})
}

func nlink(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return uint64(st.Nlink)
}

func TestLinksAreCountedAndWithoutThatNoFileHasOne(t *testing.T) {
	for version := 1; version <= 2; version++ {
		b := linkTree(t, version)
		want := map[string]uint64{"a/three": 3, "a/three-2": 3, "b/three-3": 3, "a/two": 2, "b/two-2": 2, "b/one": 1}
		exact := mounted(t, b.open(t), Options{Links: counted(t, b)})
		rough := mounted(t, b.open(t), Options{})
		for name, n := range want {
			if got := nlink(t, exact.Dir()+"/"+name); got != n {
				t.Errorf("%s has %d links, want %d", name, got, n)
			}
			if got := nlink(t, rough.Dir()+"/"+name); got != 2 {
				t.Errorf("not counted: %s has %d links, want 2", name, got)
			}
		}
		if got := nlink(t, exact.Dir()+"/a"); got != 1 {
			t.Errorf("a directory has %d links: programs would take it for one with %d directories in it", got, got-2)
		}
	}
}

func TestCountSaysWhatAttributesThereAre(t *testing.T) {
	with := func(m func(m *pxar.Metadata)) archive {
		return build(t, 1, func(w *writer) {
			e := &pxar.Entry{Name: "x", Kind: pxar.File, Metadata: w.meta(pxar.ModeFile | 0o644)}
			m(&e.Metadata)
			w.must(w.AddBytes(e, nil))
		})
	}
	for _, tc := range []struct {
		name         string
		b            archive
		acls, xattrs bool
	}{
		{"nothing", with(func(*pxar.Metadata) {}), false, false},
		{"an attribute", with(func(m *pxar.Metadata) { m.Xattrs = []pxar.Xattr{{Name: "user.a"}} }), false, true},
		{"capabilities", with(func(m *pxar.Metadata) { m.FCaps = []byte{1} }), false, true},
		{"an access ACL", with(func(m *pxar.Metadata) { m.ACL = &pxar.ACL{Users: []pxar.ACLEntry{{ID: 1}}} }), true, true},
		{"a default ACL", with(func(m *pxar.Metadata) { m.ACL = &pxar.ACL{Default: &pxar.ACLDefault{}} }), true, true},
	} {
		if l := counted(t, tc.b); l.hasACLs() != tc.acls || l.hasXattrs() != tc.xattrs {
			t.Errorf("%s: ACLs %v, attributes %v", tc.name, l.hasACLs(), l.hasXattrs())
		}
	}
	if unknown := (*Links)(nil); !unknown.hasACLs() || !unknown.hasXattrs() {
		t.Error("what is not known is taken for none")
	}
}

func TestDamageEndsTheCount(t *testing.T) {
	b := linkTree(t, 2)
	at := len(b.meta) / 2
	for ; at > 0 && b.meta[at] != byte(pxar.TypeFilename&0xff); at-- {
	}
	a := b.open(t)
	b.meta[at] ^= 0xff
	if l, err := CountLinks(t.Context(), a); !errors.Is(err, pxar.ErrFormat) || l != nil {
		t.Fatalf("%v, %v", l, err)
	}
}

func BenchmarkCountLinks(b *testing.B) {
	const n = 100_000
	data := wide(b, n)
	a := data.open(b)
	b.SetBytes(int64(len(data.meta)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := CountLinks(b.Context(), a); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "entries/s")
}
