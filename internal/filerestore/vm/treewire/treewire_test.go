package treewire

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

func root() *pxar.Entry {
	return &pxar.Entry{Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory | 0o755}}
}

func file(name string, size int64) *pxar.Entry {
	return &pxar.Entry{Name: name, Kind: pxar.File, Size: size, Metadata: pxar.Metadata{
		Mode: pxar.ModeFile | 0o644, UID: 7, Mtime: pxar.Time{Sec: -1, Nsec: 5}, Xattrs: []pxar.Xattr{{Name: "user.\xff", Value: []byte{0, 255}}},
	}}
}

// sample is a stream with everything that there is.
func sample(t testing.TB) []byte {
	var b bytes.Buffer
	w := NewWriter(&b)
	do := func(_ any, err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	do(w.Entry(root()))
	do(0, w.Notice("the journal was applied"))
	do(w.Entry(file("a\xff\n", 8)))
	do(w.Write([]byte("abc")))
	do(0, w.Zeros(4))
	do(w.Write([]byte("d")))
	do(0, w.EndFile(nil))
	do(w.Entry(&pxar.Entry{Name: "link", Kind: pxar.Hardlink, Target: "a\xff\n", Link: 2}))
	do(w.Entry(&pxar.Entry{Name: "dir", Kind: pxar.Directory, Metadata: root().Metadata}))
	do(0, w.Problem("/dir/x", errors.New("cannot be read")))
	do(w.Entry(file("broken", 10)))
	do(w.Write([]byte("12")))
	do(0, w.EndFile(errors.New("a bad sector")))
	do(w.Entry(&pxar.Entry{Kind: pxar.End}))
	do(w.Entry(&pxar.Entry{Kind: pxar.End}))
	do(0, w.End(nil))
	return b.Bytes()
}

func TestAStreamIsReadAsItWasWritten(t *testing.T) {
	var problems []string
	r := NewReader(bytes.NewReader(sample(t)), func(p string, err error) error {
		problems = append(problems, p+": "+err.Error())
		return nil
	})
	type step struct {
		kind    pxar.Kind
		path    string
		content string
		err     string
	}
	want := []step{
		{pxar.Directory, "", "", ""},
		{pxar.File, "a\xff\n", "abc\x00\x00\x00\x00d", ""},
		{pxar.Hardlink, "link", "", ""},
		{pxar.Directory, "dir", "", ""},
		{pxar.File, "dir/broken", "12", "a bad sector"},
		{pxar.End, "dir", "", ""},
		{pxar.End, "", "", ""},
	}
	for i, w := range want {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		got := step{e.Kind, strings.Join(r.Path(), "/"), string(content), ""}
		if err != nil {
			got.err = err.Error()
		}
		if got != w {
			t.Errorf("%d: %#v, want %#v", i, got, w)
		}
		if i == 1 && !reflect.DeepEqual(e.Metadata, file("", 0).Metadata) {
			t.Errorf("%+v", e.Metadata)
		}
		if i == 2 && (e.Link != 2 || e.Target != "a\xff\n") {
			t.Errorf("%+v", e)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if len(problems) != 1 || problems[0] != "/dir/x: cannot be read" || len(r.Notices()) != 1 {
		t.Errorf("%q, %q", problems, r.Notices())
	}
}

func TestAStreamThatIsCutIsAnError(t *testing.T) {
	all := sample(t)
	for n := range all {
		if err := drain(NewReader(bytes.NewReader(all[:n]), func(string, error) error { return nil })); err == nil {
			t.Fatalf("%d bytes of %d are taken for all", n, len(all))
		}
	}
}

// drain reads entries and contents; a file's own error does not count.
func drain(r *Reader) error {
	for {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20)) // Next tells what is wrong with the stream
	}
}

func TestWhatNoArchiveHasIsRefused(t *testing.T) {
	for name, e := range map[string]*pxar.Entry{
		"a name that leads up":     file("..", 0),
		"a name with a slash":      file("a/b", 0),
		"a name with a NUL":        file("a\x00", 0),
		"no name":                  file("", 0),
		"a size below zero":        file("a", -1),
		"a mode of another kind":   {Name: "a", Kind: pxar.Symlink, Target: "x", Metadata: file("", 0).Metadata},
		"a link to what comes":     {Name: "a", Kind: pxar.Hardlink, Target: "b", Link: 9},
		"a link without a target":  {Name: "a", Kind: pxar.Hardlink, Link: 1},
		"a kind that there is not": {Name: "a", Kind: 77},
	} {
		var b bytes.Buffer
		w := NewWriter(&b)
		_, err1 := w.Entry(root())
		_, err2 := w.Entry(e)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		r := NewReader(&b, nil)
		_, err := r.Next()
		if err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, ErrFormat) || strings.Contains(err.Error(), "ends early") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a reader gives, whatever the bytes, is a tree.
func FuzzReader(f *testing.F) {
	f.Add(sample(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b), func(string, error) error { return nil })
		depth := 0
		for {
			e, err := r.Next()
			if err != nil {
				if errors.Is(err, io.EOF) && depth != 0 {
					t.Fatalf("it ends %d deep", depth)
				}
				return
			}
			switch e.Kind {
			case pxar.Directory:
				depth++
			case pxar.End:
				depth--
			}
			if depth < 0 || e.Kind != pxar.End && depth > 0 && e.Name != "" && r.Path()[len(r.Path())-1] != e.Name {
				t.Fatalf("%d deep, %q at %q", depth, e.Name, r.Path())
			}
			_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
		}
	})
}
