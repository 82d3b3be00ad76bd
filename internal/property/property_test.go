package property_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
)

// known are one property of each kind.
var known = []property.Property{
	property.Of("host", "a host", func(s string) error {
		if s == "" {
			return errors.New("want a host")
		}
		return nil
	}).Must(),
	property.Int("port", "a port", 1, 65535),
	property.Bool("disable", "true: off"),
	property.Choice("mode", "how", "tls", "insecure"),
	property.Line("comment", "words", 8),
	property.Line("to", "who", 8).List(),
}

func section(t *testing.T, text string) *sectionconfig.Section {
	t.Helper()
	f, err := sectionconfig.Parse([]byte("thing: a\n" + text))
	if err != nil {
		t.Fatal(err)
	}
	return f.Find("a")
}

func TestASectionHasItsTypesInJSON(t *testing.T) {
	sec := section(t, "\tdisable 1\n\tport 70\n\thost h\n\tto x\n\tto y\n\tother 5\n")
	want := map[string]any{"disable": true, "port": int64(70), "host": "h", "to": []any{"x", "y"}, "other": "5"}
	if diff := cmp.Diff(want, property.Item(sec, known)); diff != "" {
		t.Error(diff)
	}
	sec = section(t, "\tdisable perhaps\n\tport many\n")
	if diff := cmp.Diff(map[string]any{"disable": "perhaps", "port": "many"}, property.Item(sec, known)); diff != "" {
		t.Errorf("what is none of its type: %s", diff)
	}
}

func TestWhatIsWrongWithASectionIsSaid(t *testing.T) {
	if err := property.Check(section(t, "\thost h\n\tport 1\n\tmode tls\n\tto x\n\tnew thing\n"), known); err != nil {
		t.Error(err)
	}
	err := property.Check(section(t, "\tport 0\n\tmode none\n\tdisable perhaps\n\tcomment a long comment\n\tto x\n\tto longer than it may be\n"), known)
	for _, want := range []string{"host is missing", `port "0"`, `mode "none": want tls or insecure`, `disable "perhaps"`, "at most 8 bytes", `to "longer`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestValuesChangeASection(t *testing.T) {
	sec := section(t, "\thost h\n\tport 1\n\tnew thing\n")
	if err := (property.Values{"port": nil, "to": {"x", "y"}, "host": {"i"}}).Set(sec, known); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"host": "i", "to": []any{"x", "y"}, "new": "thing"}
	if diff := cmp.Diff(want, property.Item(sec, known)); diff != "" {
		t.Error(diff)
	}
	for name, v := range map[string]property.Values{
		"an unknown key": {"prot": {"1"}}, "two values": {"port": {"1", "2"}}, "a bad value": {"port": {"x"}}, "one bad of many": {"to": {"x", "longer than it may be"}},
	} {
		if err := v.Set(sec, known); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
