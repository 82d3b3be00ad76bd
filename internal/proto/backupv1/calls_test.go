package backupv1

import (
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
)

var helloSum = digest.Of([]byte("hello\n"))

// call is one kind of call: how it is read, and written again.
type call struct {
	name  string
	good  string // a query as clients send it
	again func(p *rest.Params) (any, url.Values, error)
	bad   map[string][]string
}

var calls = []call{
	{
		"upload", "wid=1&digest=" + helloSum.String() + "&size=6&encoded-size=18",
		func(p *rest.Params) (any, url.Values, error) { u, err := ParseUpload(p); return u, u.Values(), err },
		map[string][]string{
			"wid": {"", "0", "257", "x"}, "digest": {"", "58", helloSum.String() + "zz", strings.Repeat("g", 64)},
			"size": {"", "0", "16777217", "-1"}, "encoded-size": {"", "12", "16777261"},
		},
	},
	{
		"blob", "file-name=index.json.blob&encoded-size=12",
		func(p *rest.Params) (any, url.Values, error) { b, err := ParseBlob(p); return b, b.Values(), err },
		map[string][]string{
			"file-name":    {"", "index.json", "x.fidx", "../x.blob", "a/b.blob", ".x.blob", ".blob", "x.blob\x00"},
			"encoded-size": {"", "11", "16777261"},
		},
	},
	{
		"create dynamic", "archive-name=root.pxar.didx",
		func(p *rest.Params) (any, url.Values, error) {
			c, err := ParseCreateDynamic(p)
			return c, c.Values(), err
		},
		map[string][]string{"archive-name": {"", "root.pxar", "a.fidx", "../a.didx", "/a.didx"}},
	},
	{
		"create fixed", "archive-name=drive-scsi0.img.fidx&size=8388608&reuse-csum=" + helloSum.String(),
		func(p *rest.Params) (any, url.Values, error) {
			c, err := ParseCreateFixed(p)
			return c, c.Values(), err
		},
		map[string][]string{"archive-name": {"", "a.didx", "..fidx/a.fidx"}, "size": {"0", "-1", "9223372036854775808"}, "reuse-csum": {"12"}},
	},
	{
		"close", "wid=1&chunk-count=1&size=6&csum=" + helloSum.String(),
		func(p *rest.Params) (any, url.Values, error) { c, err := ParseClose(p); return c, c.Values(), err },
		map[string][]string{"wid": {""}, "chunk-count": {"", "-1"}, "size": {"", "-1"}, "csum": {"", "x"}},
	},
}

func params(t testing.TB, query string) *rest.Params {
	q, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return rest.Values(q)
}

func TestCallsAreReadAsTheyAreWritten(t *testing.T) {
	for _, c := range calls {
		got, q, err := c.again(params(t, c.good))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		again, _, err := c.again(rest.Values(q))
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("%s: %+v is written as %v, which reads as %+v, %v", c.name, got, q, again, err)
		}
	}
}

func TestEveryBadParameterIsRefused(t *testing.T) {
	for _, c := range calls {
		for name, values := range c.bad {
			for _, v := range values {
				q, err := url.ParseQuery(c.good)
				if err != nil {
					t.Fatal(err)
				}
				q.Set(name, v)
				if v == "" {
					q.Del(name)
				}
				_, _, err = c.again(rest.Values(q))
				if rest.StatusOf(err) != 400 || err == nil || !strings.Contains(err.Error(), "'"+name+"'") {
					t.Errorf("%s: %s=%q: %v", c.name, name, v, err)
				}
			}
		}
	}
}

func TestAppendComesInOneBodyOfJSON(t *testing.T) {
	want := Append{Wid: 1, Digests: []digest.Digest{helloSum}, Offsets: []uint64{0}}
	b, err := want.JSON()
	if text := `{"wid":1,"digest-list":["` + helloSum.String() + `"],"offset-list":[0]}`; err != nil || string(b) != text {
		t.Fatalf("%s, %v, want %s", b, err, text)
	}
	p, err := rest.Parse("", "application/json", b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseAppend(p); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, bad := range []string{
		`{"wid":1,"digest-list":["` + helloSum.String() + `"],"offset-list":[]}`,
		`{"wid":1,"digest-list":["x"],"offset-list":[0]}`,
		`{"wid":1,"digest-list":["` + helloSum.String() + `"],"offset-list":[-1]}`,
		`{"wid":1,"digest-list":["` + helloSum.String() + `"],"offset-list":[1.5]}`,
		`{"digest-list":["` + helloSum.String() + `"],"offset-list":[0]}`,
	} {
		p, err := rest.Parse("", "application/json", []byte(bad))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseAppend(p); rest.StatusOf(err) != 400 || err == nil {
			t.Errorf("%s: %+v, %v", bad, got, err)
		}
	}
}

func FuzzCalls(f *testing.F) {
	for i, c := range calls {
		f.Add(i, c.good)
	}
	f.Fuzz(func(t *testing.T, kind int, query string) {
		q, err := url.ParseQuery(query)
		if err != nil || kind < 0 || kind >= len(calls) {
			return
		}
		c := calls[kind]
		got, out, err := c.again(rest.Values(q))
		if err != nil {
			if rest.StatusOf(err) != 400 {
				t.Fatalf("%s %q: %v has status %d", c.name, query, err, rest.StatusOf(err))
			}
			return
		}
		if again, _, err := c.again(rest.Values(out)); err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("%s: %+v is written as %v, which reads as %+v, %v", c.name, got, out, again, err)
		}
		if name := q.Get("archive-name") + q.Get("file-name"); strings.ContainsAny(name, "/\\\x00") || strings.HasPrefix(name, ".") {
			t.Fatalf("%s takes the name %q", c.name, name)
		}
	})
}
