package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/server/api"
)

// item is what a call of the tests answers with.
type item struct {
	Name  string   `json:"name" doc:"what it is called"`
	Size  *int64   `json:"size,omitempty"`
	Files []string `json:"files"`
	Next  *item    `json:"next"`
}

var (
	store = api.Parsed("store", "The datastore.", `[A-Za-z0-9_][A-Za-z0-9._-]*`, 32, func(s string) (string, error) { return s, names.CheckStore(s) })
	count = api.Int("count", "How many.", 1, 9)
	yes   = api.Bool("yes", "Whether.")
	kind  = api.Choice("kind", "Which.", names.VM, names.CT)
	many  = api.List(api.Match("many", "Some.", "[a-z]+", 4))
	text  = api.Text("text", "Words.", 10)
)

func table() *api.Table {
	echo := api.Data(func(_ context.Context, r *api.Request) (map[string]any, error) {
		out := map[string]any{"store": store.Of(r), "yes": yes.Of(r), "kind": kind.Of(r), "many": many.Of(r), "text": text.Of(r)}
		if n, ok := count.Given(r); ok {
			out["count"] = n
		}
		return out, nil
	})
	params := []api.AnyParam{store, count.Optional(), yes.Default(true), kind.Optional(), many, text.Optional()}
	return api.NewTable([]api.Call{
		{Method: "GET", Path: "/things/{store}", Doc: "Echo.", Guard: api.Everybody(), Params: params, Do: echo},
		{Method: "POST", Path: "/things/{store}", Doc: "Echo.", Guard: api.LoggedIn(""), Params: params, Do: echo},
		{Method: "GET", Path: "/things/list", Doc: "List.", Guard: api.Everybody(), Do: api.Data(func(context.Context, *api.Request) ([]item, error) {
			return []item{{Name: "<a>"}, {Name: "b"}}, nil
		})},
		{Method: "PUT", Path: "/raw", Doc: "Raw.", Guard: api.Everybody(), Others: true, Params: []api.AnyParam{count}, Do: api.Nothing(func(_ context.Context, r *api.Request) error {
			r.Set("total", count.Of(r))
			return nil
		}).WithBody()},
	})
}

// call makes a call of the table.
func call(t *testing.T, method, target, media, body string) (int, string) {
	t.Helper()
	tab := table()
	hr := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
	hr.URL.Path, hr.URL.RawQuery, _ = strings.Cut(target, "?")
	if media != "" {
		hr.Header.Set("Content-Type", media)
	}
	parts, err := rest.Path(hr)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	c, vars := tab.Find(method, parts)
	if c == nil {
		return http.StatusNotFound, ""
	}
	r := &api.Request{HTTP: hr, Call: c}
	if err := r.Read(vars); err != nil {
		api.JSON.Fail(w, err)
	} else if err := c.Run(w, r, api.JSON); err != nil {
		api.JSON.Fail(w, err)
	}
	return w.Code, w.Body.String()
}

func TestParametersBecomeValues(t *testing.T) {
	const full = `{"data":{"count":3,"kind":"vm","many":["a","b"],"store":"tank","text":"a b+c","yes":false}}`
	const form = "application/x-www-form-urlencoded"
	for _, tc := range []struct{ name, method, target, media, body, want string }{
		{"query", "GET", "/things/tank?count=3&kind=vm&many=a&many=b&text=a+b%2Bc&yes=off", "", "", full},
		{"query with brackets and _dc", "GET", "//things//tank?count=3&kind=vm&many[]=a&many%5B%5D=b&text=a%20b%2bc&yes=NO&_dc=17", "", "", full},
		{"form", "POST", "/things/tank", form, "count=3&kind=vm&many=a&many=b&text=a+b%2Bc&yes=0", full},
		{"form and query", "POST", "/things/tank?kind=vm&many=a", "", "count=3&many=b&text=a+b%2Bc&yes=0", `{"data":{"count":3,"kind":"vm","many":["b","a"],"store":"tank","text":"a b+c","yes":false}}`},
		{"json", "POST", "/things/tank?count=nonsense", "application/json; charset=UTF-8", `{"count":3,"kind":"vm","many":["a","b"],"text":"a b+c","yes":false}`, full},
		{"json with texts", "POST", "/things/tank", "application/json", `{"count":"3","kind":"vm","many":["a","b"],"text":"a b+c","yes":0}`, full},
		{"defaults", "GET", "/things/tank", "", "", `{"data":{"kind":"","many":null,"store":"tank","text":"","yes":true}}`},
		{"null", "POST", "/things/tank", "application/json", `{"kind":null}`, `{"data":{"kind":"","many":null,"store":"tank","text":"","yes":true}}`},
		{"the path wins", "POST", "/things/tank", "application/json", `{"store":"other"}`, `{"data":{"kind":"","many":null,"store":"tank","text":"","yes":true}}`},
		{"a name before a variable", "GET", "/things/list", "", "", `{"data":[{"name":"<a>","files":null,"next":null},{"name":"b","files":null,"next":null}]}`},
		{"data in the body", "PUT", "/raw?count=2&more=1", "image/png", "\x89PNG", `{"data":null,"total":2}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, got := call(t, tc.method, tc.target, tc.media, tc.body)
			if status != 200 || got != tc.want {
				t.Errorf("%d %s, want\n%s", status, got, tc.want)
			}
		})
	}
}

func TestParametersAreRefused(t *testing.T) {
	for _, tc := range []struct{ name, method, target, media, body, want string }{
		{"missing", "PUT", "/raw", "", "", "parameter verification failed - 'count': parameter is missing and it is not optional"},
		{"two wrong", "GET", "/things/x?count=0", "", "", "parameter verification failed - 'count': \"0\" is no whole number from 1 to 9; 'store': "},
		{"unknown name", "GET", "/things/tank?cuont=1", "", "", "parameter verification failed - 'cuont': the call has no such parameter"},
		{"too large", "GET", "/things/tank?count=99999999999999999999", "", "", "is no whole number"},
		{"no integer", "POST", "/things/tank", "application/json", `{"count":1.5}`, "is no whole number"},
		{"no boolean", "GET", "/things/tank?yes=maybe", "", "", "is neither true nor false"},
		{"no choice", "GET", "/things/tank?kind=host", "", "", "is none of [vm ct]"},
		{"no match", "GET", "/things/tank?many=a&many=B", "", "", `"B" does not match [a-z]+`},
		{"too long", "GET", "/things/tank?text=12345678901", "", "", "11 bytes, at most 10"},
		{"control character", "GET", "/things/tank?text=%00", "", "", "control characters"},
		{"not UTF-8", "GET", "/things/tank?text=%ff", "", "", "control characters"},
		{"given twice", "GET", "/things/tank?text=a&text=b", "", "", "it is given 2 times"},
		{"an object", "POST", "/things/tank", "application/json", `{"text":{}}`, "text"},
		{"no object", "POST", "/things/tank", "application/json", `[]`, "no JSON object"},
		{"other content", "POST", "/things/tank", "text/plain", `a=b`, "unsupported content type"},
		{"large body", "POST", "/things/tank", "", "text=" + strings.Repeat("x", 600<<10), "body too large"},
		{"long list", "POST", "/things/tank", "", strings.Repeat("many=a&", 1001), "1001 values"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, got := call(t, tc.method, tc.target, tc.media, tc.body)
			if status != 400 || !strings.Contains(got, tc.want) {
				t.Errorf("%d %s, want %q in it", status, got, tc.want)
			}
		})
	}
}

func TestPathsAndMethodsThatAreNotThere(t *testing.T) {
	for _, target := range []string{"GET /", "GET /things", "DELETE /things/tank", "GET /things/tank/more", "GET /raw"} {
		method, path, _ := strings.Cut(target, " ")
		if status, _ := call(t, method, path, "", ""); status != 404 {
			t.Errorf("%s: %d", target, status)
		}
	}
	if c, _ := table().Find("HEAD", []string{"things", "tank"}); c == nil || c.Method != "GET" {
		t.Errorf("HEAD is answered by %v", c)
	}
}

func TestErrorsHaveTheirStatus(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
		kind   string
	}{
		{errors.New("plain"), 400, ""},
		{rest.Errorf(404, "gone"), 404, ""},
		{fmt.Errorf("so: %w", &access.DeniedError{Need: access.DatastoreAudit, Path: "/datastore/tank"}), 403, ""},
		{fmt.Errorf("snapshot: %w", repo.ErrNotFound), 400, "not-found"},
		{fmt.Errorf("snapshot: %w", repo.ErrProtected), 400, "protected"},
	} {
		w := httptest.NewRecorder()
		api.JSON.Fail(w, tc.err)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.err.Error()) || w.Header().Get(rest.KindHeader) != tc.kind {
			t.Errorf("%v: %d %q %q", tc.err, w.Code, w.Body, w.Header().Get(rest.KindHeader))
		}
		if len(w.Body.String()) < 8 {
			t.Errorf("%v: the text has less than 8 bytes", tc.err)
		}
		w = httptest.NewRecorder()
		api.ExtJS.Fail(w, tc.err)
		var got struct {
			Success bool
			Status  int
			Message string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || got.Success || got.Status != tc.status || got.Message != tc.err.Error() {
			t.Errorf("%v: extjs: %d %s, %v", tc.err, w.Code, w.Body, err)
		}
	}
}

func TestAWrongTableIsNoTable(t *testing.T) {
	do := api.Nothing(func(context.Context, *api.Request) error { return nil })
	for name, calls := range map[string][]api.Call{
		"twice":            {{Method: "GET", Path: "/a", Guard: api.Everybody(), Do: do}, {Method: "GET", Path: "/a", Guard: api.Everybody(), Do: do}},
		"no guard":         {{Method: "GET", Path: "/a", Do: do}},
		"no handler":       {{Method: "GET", Path: "/a", Guard: api.Everybody()}},
		"unknown variable": {{Method: "GET", Path: "/a/{b}", Guard: api.Everybody(), Do: do}},
		"two names":        {{Method: "GET", Path: "/a/{store}", Guard: api.Everybody(), Params: []api.AnyParam{store}, Do: do}, {Method: "PUT", Path: "/a/{text}", Guard: api.Everybody(), Params: []api.AnyParam{text}, Do: do}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: it was taken", name)
				}
			}()
			api.NewTable(calls)
		}()
	}
}

func TestTheDescriptionSaysWhatTheTableSays(t *testing.T) {
	b, err := json.Marshal(table().OpenAPI("Things", "1"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Security    []any
			Parameters  []struct {
				Name, In string
				Required bool
				Schema   map[string]any
			}
			RequestBody struct {
				Content map[string]struct {
					Schema struct {
						Required   []string
						Properties map[string]map[string]any
					}
				}
			}
			Responses map[string]any
		}
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	get := doc.Paths["/things/{store}"]["get"]
	if doc.OpenAPI != "3.1.0" || get.OperationID != "getThingsStore" || get.Security == nil || len(get.Parameters) != 6 {
		t.Errorf("get is %+v", get)
	}
	if p := get.Parameters[1]; p.Name != "count" || p.In != "query" || p.Required || p.Schema["minimum"] != 1.0 || p.Schema["maximum"] != 9.0 {
		t.Errorf("count is %+v", p)
	}
	post := doc.Paths["/things/{store}"]["post"]
	if len(post.Parameters) != 1 || post.Parameters[0].In != "path" || post.Security != nil {
		t.Errorf("post is %+v", post)
	}
	form := post.RequestBody.Content["application/json"].Schema
	if form.Required != nil || form.Properties["yes"]["default"] != true || form.Properties["many"]["type"] != "array" {
		t.Errorf("its body is %+v", form)
	}
	want := map[string]any{
		"type": "object", "required": []any{"name", "files", "next"},
		"properties": map[string]any{
			"name":  map[string]any{"type": "string", "description": "what it is called"},
			"size":  map[string]any{"type": "integer"},
			"files": map[string]any{"type": "array", "items": map[string]any{"type": "string"}},
			"next":  map[string]any{"oneOf": []any{map[string]any{"$ref": "#/components/schemas/item"}, map[string]any{"type": "null"}}},
		},
	}
	if d := cmp.Diff(want, doc.Components.Schemas["item"]); d != "" {
		t.Errorf("item, want -, got +:\n%s", d)
	}
}

// FuzzRead gives a call anything for parameters: the values it sees keep to the
// limits of the table.
func FuzzRead(f *testing.F) {
	f.Add("count=3&kind=vm&many=a&many=b&text=a+b&yes=off", "", "")
	f.Add("", "application/json", `{"count":3,"kind":"vm","many":["a","b"],"text":"x","yes":false}`)
	f.Add("a=%zz", "application/json", `{"count":1e3,"many":[[]]}`)
	f.Fuzz(func(t *testing.T, query, media, body string) {
		c, _ := table().Find("POST", []string{"things", "tank"})
		hr := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(body))
		hr.URL.RawQuery = query
		hr.Header.Set("Content-Type", media)
		r := &api.Request{HTTP: hr, Call: c}
		if r.Read(map[string]string{"store": "tank"}) != nil {
			return
		}
		n, ok := count.Given(r)
		if store.Of(r) != "tank" || ok && (n < 1 || n > 9) || len(text.Of(r)) > 10 || len(many.Of(r)) > 1000 {
			t.Fatalf("store %q count %d text %q, %d of many", store.Of(r), n, text.Of(r), len(many.Of(r)))
		}
	})
}
