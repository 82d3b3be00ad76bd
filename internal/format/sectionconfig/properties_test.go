package sectionconfig_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
)

func TestPropertyStringsAreReadAndWritten(t *testing.T) {
	for _, tc := range []struct {
		name, text, key string
		want            sectionconfig.Properties
		written         string // if not as text
	}{
		{"nothing", "", "", nil, ""},
		{"one pair", "verify-new=true", "", sectionconfig.Properties{{Key: "verify-new", Value: "true"}}, ""},
		{"several", "gc=error,prune=never", "", sectionconfig.Properties{{Key: "gc", Value: "error"}, {Key: "prune", Value: "never"}}, ""},
		{"an empty value", "a=,b=", "", sectionconfig.Properties{{Key: "a"}, {Key: "b"}}, ""},
		{"equal sign in a value", "a=b=c", "", sectionconfig.Properties{{Key: "a", Value: "b=c"}}, ""},
		{"the default key", "offline,message=x", "type", sectionconfig.Properties{{Key: "type", Value: "offline"}, {Key: "message", Value: "x"}}, "type=offline,message=x"},
		{"quoted without key", `"a,b"`, "k", sectionconfig.Properties{{Key: "k", Value: "a,b"}}, `k="a,b"`},
		{"quoted", `type=read-only,message="a, \"b\" \\ c\nd"`, "", sectionconfig.Properties{{Key: "type", Value: "read-only"}, {Key: "message", Value: "a, \"b\" \\ c\nd"}}, ""},
		{"quoted for a blank", `m="a b"`, "", sectionconfig.Properties{{Key: "m", Value: "a b"}}, ""},
		{"a blank without quotes", `m=a b`, "", sectionconfig.Properties{{Key: "m", Value: "a b"}}, `m="a b"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := sectionconfig.ParseProperties(tc.text, tc.key)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			want := tc.written
			if want == "" {
				want = tc.text
			}
			if got.String() != want {
				t.Errorf("written %s, want %s", got, want)
			}
		})
	}
}

func TestParsePropertiesRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"a value without key":   "x",
		"a key twice":           "a=1,a=2",
		"an open quote":         `a="b`,
		"an open escape":        `a="b\`,
		"an unknown escape":     `a="\t"`,
		"text behind the quote": `a="b"c`,
		"an empty key":          "=x",
	} {
		if got, err := sectionconfig.ParseProperties(text, ""); !errors.Is(err, sectionconfig.ErrFormat) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := sectionconfig.ParseProperties("x,y", "k"); !errors.Is(err, sectionconfig.ErrFormat) {
		t.Errorf("the default key twice: %v, %v", got, err)
	}
}

func FuzzProperties(f *testing.F) {
	f.Add("type=read-only,message=\"a, \\\"b\\\"\"", "type")
	f.Add("offline", "type")
	f.Add("a=1,b=,c=\"\\n\"", "")
	f.Fuzz(func(t *testing.T, s, key string) {
		list, err := sectionconfig.ParseProperties(s, key)
		if err != nil {
			if !errors.Is(err, sectionconfig.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		for _, p := range list {
			if p.Key == key {
				return // a key from outside may be one that no text could hold
			}
		}
		again, err := sectionconfig.ParseProperties(list.String(), "")
		if err != nil || !cmp.Equal(list, again) {
			t.Fatalf("%q: %v, then %v, %v", s, list, again, err)
		}
	})
}
