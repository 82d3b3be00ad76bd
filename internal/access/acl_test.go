package access_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/aclcfg"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

func id(t testing.TB, s string) names.AuthID {
	t.Helper()
	a, err := names.ParseAuthID(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func list(t testing.TB, pbs, own string) *access.ACL {
	t.Helper()
	a, err := access.ParseACL([]byte(pbs), []byte(own))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func texts(t testing.TB, a *access.ACL) (pbs, own string) {
	t.Helper()
	p, perr := a.AppendPBS(nil)
	o, oerr := a.AppendOwn(nil)
	if perr != nil || oerr != nil {
		t.Fatal(perr, oerr)
	}
	return string(p), string(o)
}

// policy has root@pam, the users u@pbs and v@pbs, and tokens of u.
func policy(t testing.TB, pbs, own string) *access.Policy {
	t.Helper()
	u, err := access.ParseUsers([]byte("user: u@pbs\n\nuser: v@pbs\n\ntoken: u@pbs!one\n\ntoken: u@pbs!two\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := access.NewPolicy(u, list(t, pbs, own))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestListIsWrittenAsTheServerWritesIt(t *testing.T) {
	const text = `acl:0:/:v@pbs:Audit
acl:1:/:u@pbs:Admin
acl:1:/datastore/a:@ops,u@pbs!one:DatastoreAudit,DatastoreBackup
acl:1:/datastore/a:v@pbs:NoAccess
acl:1:/datastore/a/ns1:u@pbs:DatastoreReader
acl:0:/datastore/a-b:u@pbs:DatastoreReader
acl:1:/datastore/a-b:u@pbs!one:DatastoreFuture
`
	if got, own := texts(t, list(t, text, "")); got != text || own != "" {
		t.Errorf("(-want +got):\n%s\n%s", cmp.Diff(text, got), own)
	}
	spread := "acl:1:/datastore/a-b:u@pbs!one:DatastoreFuture\n" +
		"acl:0:/datastore/a-b/:u@pbs:DatastoreReader\n" +
		"acl:1:/datastore/a:v@pbs:Audit\nacl:1:/datastore/a:v@pbs:NoAccess\n" +
		"acl:1:/datastore/a:u@pbs!one,@ops:DatastoreBackup\nacl:1:/datastore/a:u@pbs!one,@ops:DatastoreAudit\n" +
		"acl:1:/datastore/a/ns1:u@pbs:DatastoreReader\n" +
		"acl:1:/:root@pam,u@pbs:Admin\nacl:1:/:v@pbs:Audit\nacl:0:/:v@pbs:Audit\n"
	if got, _ := texts(t, list(t, spread, "")); got != text {
		t.Errorf("lines in another order (-want +got):\n%s", cmp.Diff(text, got))
	}
}

func TestRolesOfOurOwnHaveTheirOwnFile(t *testing.T) {
	const own = "acl:1:/datastore/a:u@pbs!one:DatastoreWriteOnly\n"
	a := list(t, "acl:1:/datastore/a:u@pbs:DatastoreBackup\n", own)
	pbs, got := texts(t, a)
	if got != own || strings.Contains(pbs, "WriteOnly") || !strings.Contains(pbs, "DatastoreBackup") {
		t.Errorf("acl.cfg\n%sown\n%s", pbs, got)
	}
	// What PBS shut stays shut, also if our file does not know of it.
	p := policy(t, "acl:1:/datastore/a:u@pbs:NoAccess\n", "acl:1:/datastore/a:u@pbs:DatastoreWriteOnly\n")
	if here, _ := p.Privs(id(t, "u@pbs"), "/datastore/a"); here != 0 {
		t.Errorf("NoAccess in acl.cfg leaves %v", here)
	}
}

func TestListChanges(t *testing.T) {
	u, one := access.Who{ID: id(t, "u@pbs")}, access.Who{ID: id(t, "u@pbs!one")}
	a := &access.ACL{}
	a.Grant(access.Entry{Path: "/datastore/a", Who: u, Role: "DatastoreAudit", Propagate: true})
	a.Grant(access.Entry{Path: "/datastore/a", Who: u, Role: "DatastoreBackup"})
	a.Grant(access.Entry{Path: "/datastore/a/x", Who: one, Role: "DatastoreBackup"})
	a.Grant(access.Entry{Path: "/datastore/ab", Who: one, Role: "DatastoreBackup", Propagate: true})
	want := func(when, text string) {
		t.Helper()
		if got, _ := texts(t, a); got != text {
			t.Fatalf("%s (-want +got):\n%s", when, cmp.Diff(text, got))
		}
	}
	rest := "acl:0:/datastore/a/x:u@pbs!one:DatastoreBackup\nacl:1:/datastore/ab:u@pbs!one:DatastoreBackup\n"
	want("granted", "acl:0:/datastore/a:u@pbs:DatastoreBackup\nacl:1:/datastore/a:u@pbs:DatastoreAudit\n"+rest)
	a.Grant(access.Entry{Path: "/datastore/a", Who: u, Role: access.NoAccess})
	want("NoAccess takes the others away", "acl:0:/datastore/a:u@pbs:NoAccess\n"+rest)
	a.Grant(access.Entry{Path: "/datastore/a", Who: u, Role: "DatastoreAudit"})
	want("another role takes NoAccess away", "acl:0:/datastore/a:u@pbs:DatastoreAudit\n"+rest)
	if a.Revoke("/datastore/a", u, "DatastoreReader") || !a.Revoke("/datastore/a", u, "DatastoreAudit") || a.Revoke("/datastore/a", u, "DatastoreAudit") {
		t.Fatal("Revoke does not say what was there")
	}
	want("revoked", rest)
	a.ForgetBelow("/datastore/a")
	want("a datastore is gone", "acl:1:/datastore/ab:u@pbs!one:DatastoreBackup\n")
	a.Forget(u.ID)
	want("a user is gone with its tokens", "")
}

func TestForgettingATokenLeavesItsUser(t *testing.T) {
	a := list(t, "acl:1:/:@u,u@pbs,u@pbs!one,u@pbs!two,uu@pbs:Audit\n", "")
	a.Forget(id(t, "u@pbs!one"))
	if got, _ := texts(t, a); got != "acl:1:/:@u,u@pbs,u@pbs!two,uu@pbs:Audit\n" {
		t.Error(got)
	}
	a.Forget(id(t, "u@pbs"))
	if got, _ := texts(t, a); got != "acl:1:/:@u,uu@pbs:Audit\n" {
		t.Error(got)
	}
}

func TestEntriesAreListed(t *testing.T) {
	a := list(t, "acl:1:/datastore/a:@ops:Audit\nacl:0:/:u@pbs:Audit,Admin\n", "acl:1:/:u@pbs:DatastoreWriteOnly\n")
	u := access.Who{ID: id(t, "u@pbs")}
	want := []access.Entry{
		{"/", u, "Admin", false},
		{"/", u, "Audit", false},
		{"/", u, "DatastoreWriteOnly", true},
		{"/datastore/a", access.Who{Group: "ops"}, "Audit", true},
	}
	if diff := cmp.Diff(want, slices.Collect(a.Entries())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestListRefusesWhatIsNobody(t *testing.T) {
	for _, s := range []string{"acl:1:/:nobody:Audit", "acl:1:/:a@b!:Audit", "acl:1:/:@a/b:Audit", "acl"} {
		if _, err := access.ParseACL([]byte(s), nil); err == nil {
			t.Errorf("%s was accepted", s)
		}
	}
	if _, err := access.ParseWho("@"); !errors.Is(err, access.ErrInvalid) {
		t.Errorf("a group without a name: %v", err)
	}
}

func TestPathsThatThereAre(t *testing.T) {
	for in, want := range map[string]access.Path{
		"": "/", "/": "/", "//": "/", "/datastore": "/datastore", "/datastore//tank/": "/datastore/tank",
		"/datastore/t/1/2/3/4/5/6/7": "/datastore/t/1/2/3/4/5/6/7",
		"/remote/r/s":                "/remote/r/s", "/access/acl": "/access/acl", "/access/openid/x": "/access/openid/x",
		"/system/network/interfaces/eth0": "/system/network/interfaces/eth0", "/system/network/dns": "/system/network/dns",
		"/system/services/x": "/system/services/x", "/system": "/system", "/tape/pool/p": "/tape/pool/p",
	} {
		if got, err := access.ParsePath(in); got != want || err != nil {
			t.Errorf("%q is %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"/nowhere", "/datastore/t/1/2/3/4/5/6/7/8", "/access/acl/x", "/system/dns", "/tape/x/y", "/system/network/interfaces/a/b",
		"/datastore/..", "/datastore/a b", "/datastore/-a", "/datastore/" + strings.Repeat("x", 128), "/datastore/a:b",
	} {
		if got, err := access.ParsePath(in); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("%q is %q, %v", in, got, err)
		}
	}
	if p := access.StorePath("tank", "a/b"); p != "/datastore/tank/a/b" {
		t.Error(p)
	}
	if p := access.RemotePath("r", "s", "a/b"); p != "/remote/r/s/a/b" {
		t.Error(p)
	}
}

func FuzzParseACL(f *testing.F) {
	f.Add([]byte("acl:1:/datastore/a:@ops,u@pbs!one:DatastoreAudit,DatastoreBackup\nacl:0:/:v@pbs:NoAccess\n"), []byte("acl:1:/:u@pbs:DatastoreWriteOnly\n"))
	f.Fuzz(func(t *testing.T, pbs, own []byte) {
		a, err := access.ParseACL(pbs, own)
		if err != nil {
			return
		}
		p, perr := a.AppendPBS(nil)
		o, oerr := a.AppendOwn(nil)
		if perr != nil || oerr != nil {
			t.Fatal(perr, oerr)
		}
		b, err := access.ParseACL(p, o)
		if err != nil {
			t.Fatal(err)
		}
		p2, _ := b.AppendPBS(nil)
		o2, _ := b.AppendOwn(nil)
		if !bytes.Equal(p, p2) || !bytes.Equal(o, o2) {
			t.Fatalf("%s%sthen\n%s%s", p, o, p2, o2)
		}
		if lines, err := aclcfg.Parse(p); err != nil || bytes.Contains(p, []byte("WriteOnly")) && !bytes.Contains(pbs, []byte("WriteOnly")) {
			t.Fatal(lines, err)
		}
	})
}
