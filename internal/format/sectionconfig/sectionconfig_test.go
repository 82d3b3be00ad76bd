package sectionconfig_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
)

// The files below testdata have the form that PBS 3 writes: sorted keys, a
// blank behind a key without a value.
func vectors(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.cfg")
	if err != nil || len(names) < 3 {
		t.Fatal(names, err)
	}
	all := map[string][]byte{}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(n)] = b
	}
	return all
}

func parse(t testing.TB, text string) *sectionconfig.File {
	t.Helper()
	f, err := sectionconfig.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func text(t testing.TB, f *sectionconfig.File) string {
	t.Helper()
	b, err := f.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWhatTheServerWroteComesBackByteForByte(t *testing.T) {
	for name, b := range vectors(t) {
		if diff := cmp.Diff(string(b), text(t, parse(t, string(b)))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestSectionsAndTheirValuesAreFound(t *testing.T) {
	f := parse(t, string(vectors(t)["sync.cfg"]))
	s := f.Find("s-2d1")
	if s == nil || s.Type != "sync" || f.Find("other") != nil {
		t.Fatalf("found %v", s)
	}
	if got, ok := s.Get("schedule"); got != "sat *-1..7 15:00" || !ok {
		t.Errorf("schedule %q", got)
	}
	if diff := cmp.Diff([]string{"type:vm", "group:ct/101", "exclude:regex:^host/test"}, s.All("group-filter")); diff != "" {
		t.Errorf("all values of a key (-want +got):\n%s", diff)
	}
	if v, err := s.Bool("remove-vanished", true); v || err != nil {
		t.Errorf("remove-vanished is %v, %v", v, err)
	}
	users := parse(t, string(vectors(t)["user.cfg"]))
	ids := []string{}
	for u := range users.Of("user") {
		ids = append(ids, u.ID)
	}
	if diff := cmp.Diff([]string{"root@pam", "backup@pbs"}, ids); diff != "" {
		t.Errorf("sections of a type (-want +got):\n%s", diff)
	}
	if n, err := users.Find("backup@pbs").Int("expire", 0); n != 1767225600 || err != nil {
		t.Errorf("expire is %d, %v", n, err)
	}
}

func TestWhatIsThereInsteadOfAValueIsSaid(t *testing.T) {
	s := parse(t, "user: a@pbs\n\tenable perhaps\n\texpire 1e3\n").Find("a@pbs")
	if b, err := s.Bool("missing", true); !b || err != nil {
		t.Errorf("a missing boolean is %v, %v", b, err)
	}
	if n, err := s.Int("missing", 7); n != 7 || err != nil {
		t.Errorf("a missing number is %d, %v", n, err)
	}
	_, boolErr := s.Bool("enable", true)
	_, intErr := s.Int("expire", 0)
	for key, err := range map[string]error{"enable": boolErr, "expire": intErr} {
		if !errors.Is(err, sectionconfig.ErrFormat) || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "a@pbs") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestHandWrittenTextGetsTheServersForm(t *testing.T) {
	const hand = "\n\ndatastore :  tank  \r\n    path\t /mnt/tank \r\n  comment\r\n \t \n\n\nfuture: x y\n b 2\n a 1\n b 1"
	const want = "datastore: tank\n\tcomment \n\tpath /mnt/tank\n\nfuture: x y\n\ta 1\n\tb 2\n\tb 1\n"
	if diff := cmp.Diff(want, text(t, parse(t, hand))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestChangesLeaveTheRestAlone(t *testing.T) {
	f := parse(t, "a: 1\n\tunknown kept\n\nb: 2\n\nc: 3\n\tx 1\n\tx 2\n")
	if s, fresh := f.Add("d", "4"); !fresh {
		t.Fatal("a new section was there")
	} else {
		s.Set("key", "value")
	}
	if s, fresh := f.Add("z", "1"); fresh || s.Type != "a" {
		t.Fatal("an id was given twice")
	}
	f.Find("3").Set("x", "3")
	f.Find("1").Set("missing")
	if !f.Remove("2") || f.Remove("2") {
		t.Error("removal does not say what was there")
	}
	if diff := cmp.Diff("a: 1\n\tunknown kept\n\nc: 3\n\tx 3\n\nd: 4\n\tkey value\n", text(t, f)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ name, text, where string }{
		{"a property first", "\tpath /x\n", "line 1"},
		{"a header within a section", "a: 1\n\tk v\nb: 2\n", "line 3"},
		{"a line without colon", "datastore tank\n", "line 1"},
		{"a comment", "# hello: you\n", "line 1"},
		{"no type", ": x\n", "line 1"},
		{"no id", "\na:\n", "line 2"},
		{"white space in a type", "a b: x\n", "line 1"},
		{"an id twice", "a: 1\n\nb: 1\n", "line 1"},
		{"a control character in a value", "a: 1\n\tk v\x01\n", "line 2"},
		{"a control character in a key", "a: 1\n\tk\x01 v\n", "line 2"},
		{"a control character in an id", "a: 1\x7f2\n", "line 1"},
		{"other than UTF-8", "a: \xff\n", "UTF-8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := sectionconfig.Parse([]byte(tc.text))
			if !errors.Is(err, sectionconfig.ErrFormat) || !strings.Contains(err.Error(), tc.where) {
				t.Fatalf("err = %v, want ErrFormat at %s", err, tc.where)
			}
		})
	}
}

func TestWhatCouldNotBeReadBackIsNotWritten(t *testing.T) {
	section := func(kind, id string, p ...sectionconfig.Property) []*sectionconfig.Section {
		return []*sectionconfig.Section{{Type: kind, ID: id, Props: p}}
	}
	for name, list := range map[string][]*sectionconfig.Section{
		"line end in a value":  section("a", "1", sectionconfig.Property{Key: "k", Value: "v\n\nuser: root@pam"}),
		"white space around":   section("a", "1", sectionconfig.Property{Key: "k", Value: " v"}),
		"no key":               section("a", "1", sectionconfig.Property{Value: "v"}),
		"white space in a key": section("a", "1", sectionconfig.Property{Key: "k k", Value: "v"}),
		"line end in an id":    section("a", "1\n2"),
		"colon in a type":      section("a:", "1"),
		"no id":                section("a", ""),
		"digit first":          section("1", "1"),
		"id twice":             append(section("a", "1"), section("b", "1")...),
	} {
		f := &sectionconfig.File{Sections: list}
		if b, err := f.Append(nil); !errors.Is(err, sectionconfig.ErrFormat) {
			t.Errorf("%s: written as %q, %v", name, b, err)
		}
	}
}

func TestBooleansHaveTheSpellingsOfTheServer(t *testing.T) {
	for s, want := range map[string]bool{"1": true, "on": true, "YES": true, "True": true, "0": false, "Off": false, "no": false, "false": false} {
		if got, err := sectionconfig.ParseBool(s); got != want || err != nil {
			t.Errorf("%s is %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "2", "t", " true"} {
		if _, err := sectionconfig.ParseBool(s); !errors.Is(err, sectionconfig.ErrFormat) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range vectors(f) {
		f.Add(b)
	}
	f.Add([]byte("a: 1\n k v\n\n\nb : 2\r\n\tk\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := sectionconfig.Parse(b)
		if err != nil {
			if !errors.Is(err, sectionconfig.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		once := text(t, file) // what was read can be written
		again, err := sectionconfig.Parse([]byte(once))
		if err != nil {
			t.Fatalf("what was written does not read: %v\n%s", err, once)
		}
		if twice := text(t, again); once != twice {
			t.Fatalf("written %q, then %q", once, twice)
		}
		if len(file.Sections) != len(again.Sections) {
			t.Fatalf("%d sections, then %d", len(file.Sections), len(again.Sections))
		}
		for _, s := range file.Sections {
			for _, p := range s.Props {
				if diff := cmp.Diff(s.All(p.Key), again.Find(s.ID).All(p.Key)); diff != "" {
					t.Fatalf("%s of %s (-want +got):\n%s", p.Key, s.ID, diff)
				}
			}
		}
		if len(once) > 4*len(b)+16 || bytes.Contains([]byte(once), []byte("\n\n\n")) {
			t.Fatalf("%d bytes became %d", len(b), len(once))
		}
	})
}
