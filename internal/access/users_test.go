package access_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

const userCfg = `user: root@pam
	comment Superuser
	email root@example.com

user: ann@pbs
	enable false
	expire 1767225600
	firstname Ann
	future kept

token: ann@pbs!nas
	comment writes only
	enable true
	expire 0
`

func users(t testing.TB, text string) *access.Users {
	t.Helper()
	u, err := access.ParseUsers([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func userText(t testing.TB, u *access.Users) string {
	t.Helper()
	b, err := u.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestUsersAndTokensAreRead(t *testing.T) {
	u := users(t, userCfg)
	list, err := u.List()
	want := []access.Account{
		{ID: id(t, "root@pam"), Comment: "Superuser", Email: "root@example.com"},
		{ID: id(t, "ann@pbs"), Disabled: true, Expires: time.Unix(1767225600, 0), FirstName: "Ann"},
	}
	if diff := cmp.Diff(want, list); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	tokens, err := u.Tokens(id(t, "ann@pbs"))
	if diff := cmp.Diff([]access.Account{{ID: id(t, "ann@pbs!nas"), Comment: "writes only"}}, tokens); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if others, err := u.Tokens(access.Root()); len(others) != 0 || err != nil {
		t.Errorf("tokens of root: %v, %v", others, err)
	}
	if _, err := u.Find(id(t, "bob@pbs")); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("err = %v", err)
	}
}

func TestRootIsThereWithoutAFile(t *testing.T) {
	u := &access.Users{}
	if list, err := u.List(); len(list) != 1 || list[0].ID != access.Root() || err != nil {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := u.Find(access.Root()); err != nil {
		t.Error(err)
	}
	if err := u.Change(access.Account{ID: access.Root(), Email: "root@example.com"}); err != nil || userText(t, u) != "user: root@pam\n\temail root@example.com\n" {
		t.Errorf("%v\n%s", err, userText(t, u))
	}
	if _, err := u.Remove(access.Root()); !errors.Is(err, access.ErrInvalid) {
		t.Errorf("root was removed: %v", err)
	}
}

func TestChangesOfUsersKeepWhatIsNotKnown(t *testing.T) {
	u := users(t, userCfg)
	ann, err := u.Find(id(t, "ann@pbs"))
	if err != nil {
		t.Fatal(err)
	}
	ann.Disabled, ann.Expires, ann.Email, ann.FirstName = false, time.Time{}, "ann@example.com", ""
	bob := access.Account{ID: id(t, "bob@pam"), Disabled: true}
	token := access.Account{ID: id(t, "bob@pam!one"), Expires: time.Unix(5, 0)}
	if err := errors.Join(u.Change(ann), u.Add(bob), u.Add(token)); err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(userCfg, "	enable false\n	expire 1767225600\n	firstname Ann\n", "	email ann@example.com\n	enable true\n	expire 0\n", 1) +
		"\nuser: bob@pam\n\tenable false\n\ntoken: bob@pam!one\n\texpire 5\n"
	if diff := cmp.Diff(want, userText(t, u)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	gone, err := u.Remove(bob.ID)
	if diff := cmp.Diff([]names.AuthID{bob.ID, token.ID}, gone); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if gone, err := u.Remove(id(t, "ann@pbs!nas")); len(gone) != 1 || err != nil {
		t.Error(gone, err)
	}
	if s := userText(t, u); strings.Contains(s, "bob") || strings.Contains(s, "nas") || !strings.Contains(s, "future kept") {
		t.Error(s)
	}
}

func TestChangesOfUsersAreRefused(t *testing.T) {
	u := users(t, userCfg)
	for _, tc := range []struct {
		name string
		err  error
		want error
	}{
		{"a user twice", u.Add(access.Account{ID: id(t, "ann@pbs")}), access.ErrExists},
		{"a token twice", u.Add(access.Account{ID: id(t, "ann@pbs!nas")}), access.ErrExists},
		{"a token of nobody", u.Add(access.Account{ID: id(t, "bob@pbs!nas")}), access.ErrUnknown},
		{"a change of nobody", u.Change(access.Account{ID: id(t, "bob@pbs")}), access.ErrUnknown},
		{"a long name", u.Add(access.Account{ID: id(t, strings.Repeat("x", 61)+"@pbs")}), access.ErrInvalid},
		{"a short realm", u.Add(access.Account{ID: id(t, "bob@p")}), access.ErrInvalid},
		{"a short token", u.Add(access.Account{ID: id(t, "ann@pbs!x")}), access.ErrInvalid},
		{"no name", u.Add(access.Account{ID: names.AuthID{Realm: "pbs"}}), names.ErrName},
		{"a name that is two", u.Add(access.Account{ID: names.AuthID{User: "a:b", Realm: "pbs"}}), names.ErrName},
		{"a line in a comment", u.Add(access.Account{ID: id(t, "bob@pbs"), Comment: "x\nuser: y"}), access.ErrInvalid},
		{"a long comment", u.Add(access.Account{ID: id(t, "bob@pbs"), Comment: strings.Repeat("ä", 129)}), access.ErrInvalid},
		{"a short first name", u.Add(access.Account{ID: id(t, "bob@pbs"), FirstName: "B"}), access.ErrInvalid},
		{"an end before 1970", u.Add(access.Account{ID: id(t, "bob@pbs"), Expires: time.Unix(-1, 0)}), access.ErrInvalid},
	} {
		if !errors.Is(tc.err, tc.want) {
			t.Errorf("%s: %v", tc.name, tc.err)
		}
	}
	if _, err := u.Remove(id(t, "bob@pbs")); !errors.Is(err, access.ErrUnknown) {
		t.Error(err)
	}
	if diff := cmp.Diff(userCfg, userText(t, u)); diff != "" {
		t.Errorf("a refused change changed something (-want +got):\n%s", diff)
	}
}
