package notify_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/property"
)

// both are the two files.
func both(t *testing.T, d confdir.Dir) (public, private string) {
	t.Helper()
	for name, to := range map[string]*string{"notifications.cfg": &public, "notifications-priv.cfg": &private} {
		b, err := os.ReadFile(filepath.Join(d.Path(), name))
		if err != nil {
			t.Fatal(err)
		}
		*to = string(b)
	}
	return public, private
}

func TestTargetsAreChangedInBothFiles(t *testing.T) {
	d := conf(t, "", "")
	apply := func(c notify.Change) {
		t.Helper()
		if err := c.Apply(t.Context(), d, options(t, t.Output())); err != nil {
			t.Fatal(err)
		}
	}
	apply(notify.Change{
		Type: "webhook", Name: "chat", Add: true, Values: property.Values{"url": {"https://example.org/{{secrets.key}}"}, "method": {"post"}},
		Secrets: property.Values{"secret": {"name=key,value=" + b64("one"), "name=other,value=" + b64("two")}},
	})
	apply(notify.Change{Type: "smtp", Name: "mail", Add: true, Values: property.Values{"mailto": {"a@example.org", "b@example.org"}, "server": {"localhost"}}})
	apply(notify.Change{Type: notify.Matcher, Name: "all", Add: true, Values: property.Values{"target": {"mail", "chat"}, "match-severity": {"error,warning"}}})
	// A secret without a value keeps it, one that is not named goes.
	apply(notify.Change{Type: "webhook", Name: "chat", Values: property.Values{"comment": {"x"}}, Secrets: property.Values{"secret": {"name=key", "name=new,value=" + b64("three")}}})
	public, private := both(t, d)
	const wantPublic = `webhook: chat
	comment x
	method post
	url https://example.org/{{secrets.key}}

smtp: mail
	mailto a@example.org
	mailto b@example.org
	server localhost

matcher: all
	match-severity error,warning
	target mail
	target chat
`
	if wantPrivate := "webhook: chat\n\tsecret name=key,value=b25l\n\tsecret name=new,value=dGhyZWU=\n"; public != wantPublic || private != wantPrivate {
		t.Errorf("%s\n%s", public, private)
	}
	if err := notify.Remove(t.Context(), d, "webhook", "chat", ""); err == nil {
		t.Error("a target that a matcher names was removed")
	}
	apply(notify.Change{Type: notify.Matcher, Name: "all", Values: property.Values{"target": {"mail"}}})
	if err := notify.Remove(t.Context(), d, "webhook", "chat", ""); err != nil {
		t.Error(err)
	}
	if _, private := both(t, d); private != "" {
		t.Errorf("its secrets stay: %s", private)
	}
}

func TestChangesThatCannotWorkAreRefusedAndChangeNothing(t *testing.T) {
	const public, private = "sendmail: mail\n\tmailto a@example.org\n", "gotify: old\n\ttoken x\n"
	d := conf(t, public, private)
	for name, c := range map[string]notify.Change{
		"a name that is used":         {Type: "sendmail", Name: "mail", Add: true, Values: property.Values{"mailto": {"a@example.org"}}},
		"a name of another type":      {Type: "smtp", Name: "mail", Add: true, Values: property.Values{"mailto": {"a@example.org"}, "server": {"x"}}},
		"a short name":                {Type: "sendmail", Name: "m", Add: true, Values: property.Values{"mailto": {"a@example.org"}}},
		"nobody to get it":            {Type: "sendmail", Name: "new", Add: true},
		"nobody left to get it":       {Type: "sendmail", Name: "mail", Values: property.Values{"mailto": nil}},
		"no mail server":              {Type: "smtp", Name: "new", Add: true, Values: property.Values{"mailto": {"a@example.org"}}},
		"no token":                    {Type: "gotify", Name: "new", Add: true, Values: property.Values{"server": {"https://x"}}},
		"an old token":                {Type: "gotify", Name: "old", Add: true, Values: property.Values{"server": {"https://x"}}},
		"a template that is none":     {Type: "webhook", Name: "new", Add: true, Values: property.Values{"url": {"https://x/{{"}, "method": {"post"}}},
		"a target that is not there":  {Type: notify.Matcher, Name: "new", Add: true, Values: property.Values{"target": {"none"}}},
		"one that is not there":       {Type: "smtp", Name: "none", Values: property.Values{"comment": {"x"}}},
		"another type than it has":    {Type: "smtp", Name: "mail", Values: property.Values{"comment": {"x"}}},
		"a file that was changed":     {Type: "sendmail", Name: "mail", Values: property.Values{"comment": {"x"}}, Digest: "00"},
		"a property that there isn't": {Type: "sendmail", Name: "mail", Values: property.Values{"server": {"x"}}},
	} {
		if err := c.Apply(t.Context(), d, options(t, t.Output())); err == nil {
			t.Errorf("%s was taken", name)
		}
		if a, b := both(t, d); a != public || b != private {
			t.Fatalf("%s changed the files: %s\n%s", name, a, b)
		}
	}
	if err := notify.Remove(t.Context(), d, "smtp", "mail", ""); !errors.Is(err, notify.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
