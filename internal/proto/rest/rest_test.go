package rest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestParametersComeTheSameEveryWay(t *testing.T) {
	const list = `"digest-list":["a","b"]`
	for _, tc := range []struct{ name, query, kind, body string }{
		{"json", "wid=9", "application/json; charset=UTF-8", `{"wid":1,"debug":true,"ns":"",` + list + `,"none":null}`},
		{"json with texts", "", "application/json", `{"wid":"1","debug":"Yes","ns":"",` + list + `}`},
		{"form", "", "application/x-www-form-urlencoded", "wid=1&debug=1&ns=&digest-list=a&digest-list=b&_dc=5"},
		{"query", "wid=1&debug=on&ns=&digest-list=a&digest-list=b", "", ""},
		{"both", "wid=1&ns=", "application/x-www-form-urlencoded", "debug=true&digest-list=a&digest-list=b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := Parse(tc.query, tc.kind, []byte(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if got := Need(p, "wid", Int(1, 256)); got != 1 {
				t.Errorf("wid is %d", got)
			}
			if !Get(p, "debug", false, Bool) || Get(p, "benchmark", false, Bool) {
				t.Error("debug is not true, or benchmark is")
			}
			if got := List(p, "digest-list", Text); !slices.Equal(got, []string{"a", "b"}) {
				t.Errorf("list is %q", got)
			}
			if !p.Has("ns") || Get(p, "ns", "x", Text) != "" || p.Has("none") || p.Has("_dc") {
				t.Error("an empty text counts as absent, or null as present")
			}
			if err := p.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEveryWrongParameterIsNamed(t *testing.T) {
	p := Values(url.Values{"wid": {"257"}, "size": {"x"}, "debug": {"maybe"}, "two": {"1", "2"}})
	Need(p, "wid", Int(1, 256))
	Need(p, "size", Int(1, 5))
	Get(p, "debug", false, Bool)
	Need(p, "two", Text)
	Need(p, "none", Text)
	err := p.Err()
	if StatusOf(err) != 400 {
		t.Errorf("status %d", StatusOf(err))
	}
	for _, name := range []string{"'wid': value must be between 1 and 256", "'size'", "'debug'", "'two'", "'none': parameter is missing"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not tell of %s", err, name)
		}
	}
}

func TestBodiesThatAreNoParametersAreRefused(t *testing.T) {
	for _, tc := range []struct{ kind, body string }{
		{"application/json", "[1]"},
		{"application/json", `{"a":{}}`},
		{"application/json", `{"a":[null]}`},
		{"application/json", `{"a":[[]]}`},
		{"application/json", `{"a":1`},
		{"application/x-www-form-urlencoded", "a=%zz"},
		{"text/plain", ""},
		{"a b c;", ""},
	} {
		if _, err := Parse("", tc.kind, []byte(tc.body)); StatusOf(err) != 400 || err == nil {
			t.Errorf("%s %q: %v", tc.kind, tc.body, err)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("a", maxBody+1)))
	if _, err := Read(r); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("endless body: %v", err)
	}
}

func TestPathDropsEmptyComponentsAndRefusesDots(t *testing.T) {
	for path, want := range map[string][]string{
		"//api2/json//backup":       {"api2", "json", "backup"},
		"/":                         nil,
		"/tasks/UPID%3Aa%2Fb%5Cx2d": {"tasks", `UPID:a/b\x2d`},
		"/a+b":                      {"a+b"},
	} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		if got, err := Path(r); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"/a/../b", "/.hidden", "/a/%2e%2e/b"} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		if got, err := Path(r); StatusOf(err) != 400 || err == nil {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

func answer(status int, header http.Header, body string) *http.Response {
	if header == nil {
		header = http.Header{"Content-Type": {contentType}}
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status, " ", http.StatusText(status)), Header: header, Body: io.NopCloser(strings.NewReader(body))}
}

func TestWhatIsRepliedIsAnswered(t *testing.T) {
	w := httptest.NewRecorder()
	if err := Reply(w, []string{"a<b"}); err != nil {
		t.Fatal(err)
	}
	if got := w.Body.String(); got != `{"data":["a<b"]}` || w.Header().Get("Content-Type") != contentType {
		t.Fatalf("%q", got)
	}
	var got []string
	if err := Answer(w.Result(), &got); err != nil || len(got) != 1 || got[0] != "a<b" {
		t.Fatalf("%q, %v", got, err)
	}
	w = httptest.NewRecorder()
	if err := Reply(w, nil); err != nil || w.Body.String() != `{"data":null}` {
		t.Fatalf("%q, %v", w.Body, err)
	}
}

func TestRefusalArrivesWithStatusKindAndText(t *testing.T) {
	cause := errors.New("it is locked")
	for _, tc := range []struct {
		err  error
		want Error
	}{
		{errors.New("something went wrong"), Error{Status: 400, Text: "something went wrong"}},
		{fmt.Errorf("backup: %w", &Error{Status: 404, Kind: "not-found", Text: "no namespace"}), Error{Status: 404, Kind: "not-found", Text: "backup: no namespace"}},
		{Errorf(401, "no: %w", cause), Error{Status: 401, Text: "no: it is locked"}},
		{errors.New("no"), Error{Status: 400, Text: "error: no"}}, // at least eight bytes
	} {
		w := httptest.NewRecorder()
		Fail(w, tc.err)
		got, ok := errors.AsType[*Error](Answer(w.Result(), nil))
		if !ok || *got != tc.want {
			t.Errorf("%v: %+v, want %+v", tc.err, got, tc.want)
		}
	}
	if !errors.Is(Errorf(401, "no: %w", cause), cause) {
		t.Error("the cause is lost on the server's side")
	}
}

func TestStrangeAnswersAreErrors(t *testing.T) {
	for _, tc := range []struct {
		name string
		resp *http.Response
		want string
	}{
		{"no text", answer(500, nil, ""), "Internal Server Error"},
		{"control characters", answer(400, nil, "a\x1b[31m\nb\xff"), "a [31m b\uFFFD"},
		{"a page", answer(200, http.Header{"Content-Type": {"text/html"}}, "<html>"), "is this a backup server?"},
		{"no data", answer(200, nil, `{"x":1}`), "has no data"},
		{"no object", answer(200, nil, `[]`), "no JSON object"},
		{"other data", answer(200, nil, `{"data":"x"}`), "other data"},
	} {
		var n int
		if err := Answer(tc.resp, &n); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a=1", "", []byte("b=2"))
	f.Add("", "application/json", []byte(`{"wid":1,"digest-list":["5891","x"],"offset-list":[0,1e3],"t":true,"n":null}`))
	f.Fuzz(func(t *testing.T, query, kind string, body []byte) {
		p, err := Parse(query, kind, body)
		if err != nil {
			if StatusOf(err) != 400 {
				t.Fatalf("%v has status %d", err, StatusOf(err))
			}
			return
		}
		// What was understood can be written as a form and is then the same.
		again := Values(p.values)
		for name, list := range p.values {
			if len(list) == 0 {
				t.Fatalf("%q is there and has no value", name)
			}
			if got := List(again, name, Text); !slices.Equal(got, list) {
				t.Fatalf("%q: %q, want %q", name, got, list)
			}
			Get(p, name, 0, Int(0, 10))
			List(p, name, Bool)
		}
		_ = p.Err()
	})
}
