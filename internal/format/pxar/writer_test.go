package pxar_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

func dir(name string) *pxar.Entry {
	return &pxar.Entry{Name: name, Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory | 0o755}}
}

func regular(name string, size int64) *pxar.Entry {
	return &pxar.Entry{Name: name, Kind: pxar.File, Size: size, Metadata: pxar.Metadata{Mode: pxar.ModeFile | 0o644}}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestFileThatChangesSizeFillsItsPlace(t *testing.T) {
	broken := errors.New("input/output error")
	text := func(s string) func() io.Reader { return func() io.Reader { return strings.NewReader(s) } }
	for _, tc := range []struct {
		name    string
		size    int64
		r       func() io.Reader
		want    string
		content pxar.Content
	}{
		{"exact", 3, text("abc"), "abc", pxar.Content{}},
		{"empty", 0, text(""), "", pxar.Content{}},
		{"in small pieces", 3, func() io.Reader { return iotest.OneByteReader(strings.NewReader("abc")) }, "abc", pxar.Content{}},
		{"short", 5, text("abc"), "abc\x00\x00", pxar.Content{Missing: 2}},
		{"nothing", 2, text(""), "\x00\x00", pxar.Content{Missing: 2}},
		{"grown", 2, text("abc"), "ab", pxar.Content{Grew: true}},
		{
			"broken", 5, func() io.Reader { return io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)) },
			"abc\x00\x00",
			pxar.Content{Missing: 2, Err: broken},
		},
		{
			"short over pieces", 9 << 20, text(strings.Repeat("x", 5<<20)),
			strings.Repeat("x", 5<<20) + strings.Repeat("\x00", 4<<20),
			pxar.Content{Missing: 4 << 20},
		},
	} {
		for version := 1; version <= 2; version++ {
			t.Run(fmt.Sprintf("%s/version=%d", tc.name, version), func(t *testing.T) {
				var m, p bytes.Buffer
				o := pxar.WriterOptions{}
				if version == 2 {
					o.Payload = &p
				}
				w := pxar.NewWriter(&m, o)
				must(t, w.BeginDir(dir("")))
				c, err := w.AddFile(regular("f", tc.size), tc.r())
				must(t, err, w.Add(&pxar.Entry{Name: "z", Kind: pxar.FIFO, Metadata: pxar.Metadata{Mode: pxar.ModeFIFO}}), w.EndDir(), w.Close())
				if c != tc.content {
					t.Errorf("%+v, want %+v", c, tc.content)
				}
				all, _, err := walk(m.Bytes(), p.Bytes())
				if err != nil || len(all) != 3 || all[1].Content != tc.want {
					t.Errorf("%d entries, %v", len(all), err)
				}
			})
		}
	}
}

func TestWriterRefusesAndGoesOn(t *testing.T) {
	long := strings.Repeat("n", pxar.MaxName+1)
	meta := func(f func(*pxar.Metadata)) *pxar.Entry {
		e := regular("m", 0)
		f(&e.Metadata)
		return e
	}
	link := func(e *pxar.Entry, target string) *pxar.Entry { e.Target = target; return e }
	symlink := func(target string) *pxar.Entry {
		return link(&pxar.Entry{Name: "s", Kind: pxar.Symlink, Metadata: pxar.Metadata{Mode: pxar.ModeSymlink}}, target)
	}
	for _, tc := range []struct {
		name string
		e    *pxar.Entry
	}{
		{"empty name", regular("", 0)},
		{"dot", regular(".", 0)},
		{"dot dot", regular("..", 0)},
		{"slash", regular("a/b", 0)},
		{"NUL in a name", regular("a\x00b", 0)},
		{"long name", regular(long, 0)},
		{"negative size", regular("f", -1)},
		{"huge size", regular("f", 1<<62)},
		{"mode of another kind", &pxar.Entry{Name: "f", Kind: pxar.File, Metadata: pxar.Metadata{Mode: pxar.ModeFIFO}}},
		{"no kind", &pxar.Entry{Name: "f"}},
		{"end", &pxar.Entry{Name: "f", Kind: pxar.End}},
		{"nanoseconds", meta(func(m *pxar.Metadata) { m.Mtime.Nsec = 1e9 })},
		{"long xattr name", meta(func(m *pxar.Metadata) { m.Xattrs = []pxar.Xattr{{Name: long}} })},
		{"empty xattr name", meta(func(m *pxar.Metadata) { m.Xattrs = []pxar.Xattr{{}} })},
		{"NUL in an xattr name", meta(func(m *pxar.Metadata) { m.Xattrs = []pxar.Xattr{{Name: "user.\x00"}} })},
		{"xattr one byte too long", meta(func(m *pxar.Metadata) {
			m.Xattrs = []pxar.Xattr{{Name: strings.Repeat("n", 255), Value: make([]byte, 64<<10)}}
		})},
		{"long fcaps", meta(func(m *pxar.Metadata) { m.FCaps = make([]byte, pxar.MaxXattr+1) })},
		{"many xattrs", meta(func(m *pxar.Metadata) {
			m.Xattrs = slices.Repeat([]pxar.Xattr{{Name: "user.x", Value: make([]byte, 64<<10)}}, 600)
		})},
		{"empty target", symlink("")},
		{"long target", symlink(long)},
		{"NUL in a target", symlink("\x00")},
		{"hard link to itself", &pxar.Entry{Name: "h", Kind: pxar.Hardlink, Target: "f", Link: 56}},
		{"hard link forward", &pxar.Entry{Name: "h", Kind: pxar.Hardlink, Target: "f", Link: 1 << 40}},
		{"hard link without a path", &pxar.Entry{Name: "h", Kind: pxar.Hardlink}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var m, clean bytes.Buffer
			w := pxar.NewWriter(&m, pxar.WriterOptions{})
			must(t, w.BeginDir(dir("")))
			var err error
			if tc.e.Kind == pxar.File {
				_, err = w.AddFile(tc.e, strings.NewReader(""))
			} else {
				err = w.Add(tc.e)
			}
			if !errors.Is(err, pxar.ErrInvalid) {
				t.Fatalf("err = %v", err)
			}
			must(t, w.AddBytes(regular("x", 0), nil), w.EndDir(), w.Close())
			w = pxar.NewWriter(&clean, pxar.WriterOptions{})
			must(t, w.BeginDir(dir("")), w.AddBytes(regular("x", 0), nil), w.EndDir(), w.Close())
			if !bytes.Equal(m.Bytes(), clean.Bytes()) {
				t.Error("the refused entry left a trace")
			}
		})
	}
}

func TestWriterRefusesWrongOrder(t *testing.T) {
	v2 := func() *pxar.Writer { return pxar.NewWriter(io.Discard, pxar.WriterOptions{Payload: io.Discard}) }
	ref := func(at, size int64) *pxar.Entry {
		e := regular("r", size)
		e.Payload = at
		return e
	}
	w := v2()
	for what, err := range map[string]error{
		"a file before the root": w.AddBytes(regular("f", 0), nil),
		"a named root":           w.BeginDir(dir("x")),
		"a file as root":         w.BeginDir(regular("", 0)),
		"an end before a start":  w.EndDir(),
		"closing before a start": w.Close(),
		"advance before a start": w.Advance(1),
	} {
		if !errors.Is(err, pxar.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, w.BeginDir(dir("")))
	must(t, w.AddBytes(regular("a", 0), []byte("data"))) // up to 36
	for _, tc := range []struct {
		name string
		e    *pxar.Entry
	}{
		{"reference into what is written", ref(35, 1)},
		{"reference behind everything", ref(1<<62, 1)},
		{"reference of a directory", dir("d")},
	} {
		if err := w.AddReference(tc.e); !errors.Is(err, pxar.ErrInvalid) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	must(t, w.AddReference(ref(100, 50)))
	for _, at := range []int64{100, 99, 40} {
		if err := w.AddReference(ref(at, 1)); !errors.Is(err, pxar.ErrInvalid) {
			t.Errorf("reference to %d after one to 100: %v", at, err)
		}
	}
	if err := w.Add(regular("f", 0)); !errors.Is(err, pxar.ErrInvalid) {
		t.Errorf("a file without content: %v", err)
	}
	if err := w.AddExcludes(0, 0, "x"); !errors.Is(err, pxar.ErrInvalid) {
		t.Errorf("an exclude file in version 2: %v", err)
	}
	must(t, w.Advance(200))
	must(t, w.AddBytes(regular("b", 0), []byte("data")), w.EndDir())
	if err := w.BeginDir(dir("")); !errors.Is(err, pxar.ErrInvalid) {
		t.Errorf("a second root: %v", err)
	}
	must(t, w.Close())
	if err := w.Close(); err == nil {
		t.Error("closed twice")
	}

	w = v2()
	must(t, w.BeginDir(dir("")), w.AddReference(ref(100, 50)), w.Advance(149))
	if err := w.AddBytes(regular("b", 0), nil); err == nil || errors.Is(err, pxar.ErrInvalid) {
		t.Errorf("content before what was promised: %v", err)
	}
}

func TestReferencedDataIsRead(t *testing.T) {
	old := pxar.AppendItem([]byte("padding"), pxar.TypePayload, []byte("reused"))
	var m, p bytes.Buffer
	w := pxar.NewWriter(&m, pxar.WriterOptions{Payload: &p})
	must(t, w.BeginDir(dir("")), w.AddBytes(regular("a", 0), []byte("new")))
	e := regular("b", 6)
	e.Payload = w.PayloadPosition() + int64(len("padding"))
	must(t, w.AddReference(e))
	p.Write(old)
	must(t, w.Advance(int64(len(old))), w.AddBytes(regular("c", 0), []byte("last")), w.EndDir(), w.Close())
	all, _, err := walk(m.Bytes(), p.Bytes())
	if err != nil || len(all) != 4 || all[1].Content != "new" || all[2].Content != "reused" || all[3].Content != "last" {
		t.Fatalf("%+v, %v", all, err)
	}
	a, err := open(m.Bytes(), p.Bytes())
	must(t, err)
	again, _, err := roam(a, true, 4)
	must(t, err)
	same(t, "Archive", again, all)
}

func TestExcludeFileIsTheLastOfTheRoot(t *testing.T) {
	var m bytes.Buffer
	w := pxar.NewWriter(&m, pxar.WriterOptions{})
	must(t, w.BeginDir(dir("")), w.AddBytes(regular("z", 0), nil), w.AddExcludes(5, 6, "/tmp\n"), w.EndDir(), w.Close())
	all, _, err := walk(m.Bytes(), nil)
	want := seen{
		Path: "/.pxarexclude-cli", Kind: pxar.File, Content: "/tmp\n",
		Meta: pxar.Metadata{Mode: 0o100600, UID: 5, GID: 6},
	}
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	same(t, "Reader", all[2:], []seen{want})
}

func TestEntriesHeldAreBounded(t *testing.T) {
	w := pxar.NewWriter(io.Discard, pxar.WriterOptions{MaxEntries: 3})
	must(t, w.BeginDir(dir("")))
	for i := range 10 { // directories that have ended count as one
		must(t, w.BeginDir(dir("d")), w.AddBytes(regular("f", 0), nil), w.EndDir())
		if i == 1 {
			break
		}
	}
	if w.Held() != 2 || w.Depth() != 1 {
		t.Fatalf("%d held, depth %d", w.Held(), w.Depth())
	}
	must(t, w.AddBytes(regular("f", 0), nil))
	if err := w.AddBytes(regular("g", 0), nil); !errors.Is(err, pxar.ErrTooMany) {
		t.Fatalf("err = %v", err)
	}
	if err := w.EndDir(); !errors.Is(err, pxar.ErrTooMany) {
		t.Fatalf("an error is final: %v", err)
	}
}

func TestDepthIsBoundedAlikeWhenWrittenAndRead(t *testing.T) {
	var m bytes.Buffer
	w := pxar.NewWriter(&m, pxar.WriterOptions{})
	must(t, w.BeginDir(dir("")))
	for range pxar.MaxDepth {
		must(t, w.BeginDir(dir("d")))
	}
	if err := w.BeginDir(dir("d")); !errors.Is(err, pxar.ErrInvalid) {
		t.Fatalf("err = %v", err)
	}
	for w.Depth() > 0 {
		must(t, w.EndDir())
	}
	must(t, w.Close())
	r, err := pxar.NewReader(bytes.NewReader(m.Bytes()), nil)
	must(t, err)
	n := 0
	for ; ; n++ {
		if _, err = r.Next(); err != nil {
			break
		}
	}
	if !errors.Is(err, io.EOF) || n != 2*(pxar.MaxDepth+1) {
		t.Fatalf("%d entries, %v", n, err)
	}
	a, err := open(m.Bytes(), nil)
	must(t, err)
	if _, err := a.Lookup(slices.Repeat([]string{"d"}, pxar.MaxDepth)...); err != nil {
		t.Fatal(err)
	}
}

// failing fails the n-th write from now.
type failing struct {
	n   int
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.n--; f.n == 0 {
		return 0, f.err
	}
	return len(p), nil
}

func TestFirstWriteErrorIsKept(t *testing.T) {
	broken := errors.New("disk full")
	for version := 1; version <= 2; version++ {
		for at := 1; ; at++ {
			m, p := &failing{at, broken}, &failing{err: broken}
			o := pxar.WriterOptions{}
			if version == 2 {
				m, p = p, m
				o.Payload = p
			}
			w := pxar.NewWriter(m, o)
			err := w.BeginDir(dir(""))
			for range 5 {
				if _, e := w.AddFile(regular("f", 100_000), strings.NewReader("x")); err == nil {
					err = e
				}
			}
			if e := w.EndDir(); err == nil {
				err = e
			}
			last := w.Close()
			if err == nil && last == nil {
				if at < 6 {
					t.Errorf("version %d: only %d writes", version, at-1)
				}
				break
			}
			if !errors.Is(last, broken) || errors.Is(last, pxar.ErrInvalid) {
				t.Fatalf("version %d, write %d: %v", version, at, last)
			}
		}
	}
}

func TestFeedOfThePayloadStreamIsHeadersAndPiecesOf4MiB(t *testing.T) {
	var pieces []int
	w := pxar.NewWriter(io.Discard, pxar.WriterOptions{Payload: writeFunc(func(p []byte) { pieces = append(pieces, len(p)) })})
	must(t, w.BeginDir(dir("")))
	_, err := w.AddFile(regular("a", 9<<20), iotest.HalfReader(bytes.NewReader(make([]byte, 9<<20))))
	must(t, err, w.AddBytes(regular("b", 0), make([]byte, 5<<20)), w.EndDir(), w.Close())
	want := []int{16, 16, 4 << 20, 4 << 20, 1 << 20, 16, 4 << 20, 1 << 20, 16}
	if !slices.Equal(pieces, want) {
		t.Fatalf("%d, want %d", pieces, want)
	}
}

type writeFunc func([]byte)

func (f writeFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }
