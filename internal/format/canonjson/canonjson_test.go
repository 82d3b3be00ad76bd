package canonjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/canonjson"
)

func TestCanonicalFormMatchesTheGoldenCases(t *testing.T) {
	b, err := os.ReadFile("testdata/canonical-json.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		In  json.RawMessage
		Out *string
	}
	if err := json.Unmarshal(b, &cases); err != nil || len(cases) == 0 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, tc := range cases {
		v, err := canonjson.Parse(tc.In)
		if err != nil {
			t.Fatal(err)
		}
		got, err := canonjson.AppendCanonical(nil, v)
		switch {
		case tc.Out == nil && !errors.Is(err, canonjson.ErrNotCanonical):
			t.Errorf("%s = %s, %v, want ErrNotCanonical", tc.In, got, err)
		case tc.Out != nil && (err != nil || string(got) != *tc.Out):
			t.Errorf("%s\n got %s, %v\nwant %s", tc.In, got, err, *tc.Out)
		}
	}
}

func TestCanonicalStringsEscapeOnlyWhatTheyMust(t *testing.T) {
	var all strings.Builder
	for c := range 0x20 {
		all.WriteByte(byte(c))
	}
	all.WriteString("\"\\/<>&\x7f\u2028\u2029é\U0001f600")
	const want = `"\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e\u000f` +
		`\u0010\u0011\u0012\u0013\u0014\u0015\u0016\u0017\u0018\u0019\u001a\u001b\u001c\u001d\u001e\u001f` +
		`\"\\/<>&` + "\x7f\u2028\u2029é\U0001f600" + `"`
	if got, err := canonjson.AppendCanonical(nil, all.String()); err != nil || string(got) != want {
		t.Fatalf(" got %s, %v\nwant %s", got, err, want)
	}
}

func TestCanonicalFormRefuses(t *testing.T) {
	for _, s := range []string{`[null]`, `1.0`, `1e3`, `-0`, `18446744073709551616`, `-9223372036854775809`, `{"a":[{"b":null}]}`} {
		v, err := canonjson.Parse([]byte(s))
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if got, err := canonjson.AppendCanonical(nil, v); !errors.Is(err, canonjson.ErrNotCanonical) {
			t.Errorf("%s = %s, %v, want ErrNotCanonical", s, got, err)
		}
	}
	for _, v := range []any{1, 1.5, struct{}{}, "\xff", map[string]any{"\xff": true}} {
		if got, err := canonjson.AppendCanonical(nil, v); !errors.Is(err, canonjson.ErrNotCanonical) {
			t.Errorf("%#v = %s, %v, want ErrNotCanonical", v, got, err)
		}
	}
}

func TestIndentedFormKeepsEveryNumberAndNull(t *testing.T) {
	const text = `{
  "a": [],
  "b": {},
  "big": 123456789012345678901234567890,
  "c": [
    1.50e+3,
    null,
    {
      "x": "\n<&>"
    }
  ]
}`
	v, err := canonjson.Parse([]byte(strings.ReplaceAll(text, "\n  ", "\r\n\t ")))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := canonjson.AppendIndent(nil, v); err != nil || string(got) != text {
		t.Fatalf("got %s, %v", got, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ name, text string }{
		{"nothing", ""},
		{"two values", "{} {}"},
		{"trailing comma", "[1,]"},
		{"bare word", "nil"},
		{"comment", "{} // x"},
		{"not UTF-8", "\"\xff\""},
		{"lone high surrogate", `"\ud83d"`},
		{"lone low surrogate", `"\ude00"`},
		{"high surrogate before another escape", `"\ud83d\u0041"`},
		{"two high surrogates", `"\ud83d\ud83d"`},
		{"key twice", `{"a":1,"a":2}`},
		{"key twice under another spelling", `{"a":1,"\u0061":2}`},
		{"too deep", strings.Repeat("[", 129) + strings.Repeat("]", 129)},
		{"far too deep", strings.Repeat(`{"a":`, 100000)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if v, err := canonjson.Parse([]byte(tc.text)); !errors.Is(err, canonjson.ErrSyntax) {
				t.Fatalf("got %v, %v, want ErrSyntax", v, err)
			}
		})
	}
}

func TestSurrogatePairsAndEscapedBackslashesAreRead(t *testing.T) {
	v, err := canonjson.Parse([]byte(`"\ud83d\ude00\\ud83d\uD83D\uDE00"`))
	if want := "\U0001f600\\ud83d\U0001f600"; err != nil || v != want {
		t.Fatalf("got %q, %v, want %q", v, err, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"b":[true,false,null,"x\u00e9\ud83d\ude00"],"a":{"n":12345678901234567890123,"f":-1.5e-7}}`))
	f.Add([]byte(` [ ] `))
	f.Add([]byte("\t{ \"a\\\"b\" :\r\n[ 1 , { } , [ ] , \"\" ] , \"\": -0 } "))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := canonjson.Parse(b)
		if err != nil {
			return
		}
		if !json.Valid(b) {
			t.Fatal("accepts what is no JSON")
		}
		var want any
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err := d.Decode(&want); err != nil || !reflect.DeepEqual(v, want) {
			t.Fatalf("%q is %#v to us and %#v to encoding/json, %v", b, v, want, err)
		}
		text, err := canonjson.AppendIndent(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		again, err := canonjson.Parse(text)
		if err != nil || !reflect.DeepEqual(again, v) {
			t.Fatalf("%q does not survive a round trip: %s, %v", b, text, err)
		}
		canonical, err := canonjson.AppendCanonical(nil, v)
		if err != nil {
			return
		}
		if again, err := canonjson.Parse(canonical); err != nil || !reflect.DeepEqual(again, v) {
			t.Fatalf("%q does not survive a canonical round trip: %s, %v", b, canonical, err)
		}
	})
}
