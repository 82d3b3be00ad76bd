package filerestore

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestAPathNamesAnArchiveAndWhatIsBelow(t *testing.T) {
	for in, want := range map[string]string{
		"/":                               "/",
		"":                                "/",
		"root.pxar.didx":                  "/root.pxar.didx",
		"//d.img.fidx/part/1//etc/./x/":   "/d.img.fidx/part/1/etc/x",
		"/d.img.fidx/raw/\xff\xfe/a\nb":   "/d.img.fidx/raw/\xff\xfe/a\nb",
		"/d.img.fidx/lvm/pve/root/.hid..": "/d.img.fidx/lvm/pve/root/.hid..",
	} {
		p, err := ParsePath(in)
		if err != nil || p.String() != want {
			t.Errorf("%q: %q, %v", in, p, err)
		}
	}
	for _, in := range []string{"/d.img/raw/../x", "..", "/a/\x00"} {
		if p, err := ParsePath(in); !errors.Is(err, ErrPath) {
			t.Errorf("%q: %v, %v", in, p, err)
		}
	}
}

func TestAnEntryIsWrittenAsFileBrowsersReadIt(t *testing.T) {
	size := int64(5)
	b, err := json.Marshal(Entry{Path: Path{Archive: "d.img.fidx", Names: []string{"raw", "\xff"}}, Type: File, Size: &size})
	const want = `{"filepath":"L2QuaW1nLmZpZHgvcmF3L/8=","text":"\ufffd","type":"f","leaf":true,"size":5}`
	if err != nil || string(b) != want && string(b) != `{"filepath":"L2QuaW1nLmZpZHgvcmF3L/8=","text":"�","type":"f","leaf":true,"size":5}` {
		t.Errorf("%s, %v", b, err)
	}
}

func FuzzParsePath(f *testing.F) {
	f.Add("/d.img.fidx/part/1/etc")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePath(s)
		if err != nil {
			return
		}
		if q, err := ParsePath(p.String()); err != nil || q.String() != p.String() {
			t.Errorf("%q: %q, %q, %v", s, p, q, err)
		}
	})
}
