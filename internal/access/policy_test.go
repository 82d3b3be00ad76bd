package access_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

func TestPrivilegesAtAPath(t *testing.T) {
	const (
		audit  = access.DatastoreAudit
		backup = access.DatastoreBackup
	)
	for _, tc := range []struct {
		name, acl, who string
		path           access.Path
		here, below    access.Privs
	}{
		{"nothing is given", "", "u@pbs", "/datastore/a", 0, 0},
		{"given here", "acl:1:/datastore/a:u@pbs:DatastoreAudit", "u@pbs", "/datastore/a", audit, audit},
		{"given here alone", "acl:0:/datastore/a:u@pbs:DatastoreAudit", "u@pbs", "/datastore/a", audit, 0},
		{"given above", "acl:1:/:u@pbs:DatastoreAudit", "u@pbs", "/datastore/a/b", audit, audit},
		{"given above alone", "acl:0:/datastore:u@pbs:DatastoreAudit", "u@pbs", "/datastore/a", 0, 0},
		{"given at a name that begins alike", "acl:1:/datastore/a:u@pbs:DatastoreAudit", "u@pbs", "/datastore/ab", 0, 0},
		{"given to another", "acl:1:/:v@pbs:DatastoreAudit", "u@pbs", "/datastore/a", 0, 0},
		{"two roles here", "acl:1:/datastore/a:u@pbs:DatastoreAudit\nacl:0:/datastore/a:u@pbs:DatastoreBackup", "u@pbs", "/datastore/a", audit | backup, audit},
		{"nearer takes the place of farther", "acl:1:/:u@pbs:DatastoreAdmin\nacl:1:/datastore/a:u@pbs:DatastoreAudit", "u@pbs", "/datastore/a/x", audit, audit},
		{"nearer that does not hold below is passed over", "acl:1:/:u@pbs:DatastoreAudit\nacl:0:/datastore/a:u@pbs:DatastoreBackup", "u@pbs", "/datastore/a/x", audit, audit},
		{"NoAccess takes away", "acl:1:/:u@pbs:Admin\nacl:1:/datastore/a:u@pbs:NoAccess", "u@pbs", "/datastore/a/x", 0, 0},
		{"NoAccess here alone", "acl:1:/:u@pbs:DatastoreAudit\nacl:0:/datastore/a:u@pbs:NoAccess", "u@pbs", "/datastore/a/x", audit, audit},
		{"given again below NoAccess", "acl:1:/:u@pbs:NoAccess\nacl:1:/datastore/a:u@pbs:DatastoreAudit", "u@pbs", "/datastore/a", audit, audit},
		{"an unknown role gives nothing and takes the place", "acl:1:/:u@pbs:Admin\nacl:1:/datastore/a:u@pbs:Future", "u@pbs", "/datastore/a", 0, 0},
		{"a group has no members", "acl:1:/:@u:Admin\nacl:1:/:@u@pbs:Admin", "u@pbs", "/", 0, 0},
		{"a token has nothing of its user's", "acl:1:/:u@pbs:Admin", "u@pbs!one", "/", 0, 0},
		{"a token has what both have", "acl:1:/:u@pbs:DatastoreAdmin\nacl:1:/datastore/a:u@pbs!one:DatastoreAudit,RemoteAdmin", "u@pbs!one", "/datastore/a", audit, audit},
		{"a token has no more than its user there", "acl:1:/:u@pbs!one:Admin\nacl:0:/datastore/a:u@pbs:DatastoreAudit", "u@pbs!one", "/datastore/a", audit, 0},
		{"a token of root has what it was given", "acl:1:/datastore/a:root@pam!one:DatastoreAudit", "root@pam!one", "/datastore/a", audit, audit},
		{"a token of root is not root", "", "root@pam!one", "/", 0, 0},
		{"root of another realm is not root", "", "root@pbs", "/", 0, 0},
		{"a later line counts", "acl:1:/:u@pbs:NoAccess\nacl:1:/:u@pbs:DatastoreAudit", "u@pbs", "/", audit, audit},
		{"later NoAccess counts", "acl:1:/:u@pbs:DatastoreAudit\nacl:1:/:u@pbs:NoAccess", "u@pbs", "/", 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			here, below := policy(t, tc.acl, "").Privs(id(t, tc.who), tc.path)
			if here != tc.here || below != tc.below {
				t.Errorf("here %v, below %v; want %v and %v", here, below, tc.here, tc.below)
			}
		})
	}
}

func TestRootMayDoEverythingWhateverIsWritten(t *testing.T) {
	p := policy(t, "acl:1:/:root@pam:NoAccess", "")
	here, below := p.Privs(access.Root(), "/datastore/a")
	for _, r := range access.Roles() {
		if here&r.Privs() != r.Privs() || below != here {
			t.Errorf("root lacks something of %s", r)
		}
	}
}

func TestRefusalNamesWhatIsNeededAndWhere(t *testing.T) {
	p := policy(t, "acl:1:/datastore/a:u@pbs:DatastoreAudit", "")
	u := id(t, "u@pbs")
	if err := errors.Join(p.RequireAny(u, "/datastore/a", access.DatastoreAudit|access.DatastoreRead), p.RequireAll(u, "/datastore/a", access.DatastoreAudit)); err != nil {
		t.Error(err)
	}
	for err, want := range map[error]string{
		p.RequireAny(u, "/datastore/b", access.DatastoreAudit):                        "Datastore.Audit is needed on /datastore/b",
		p.RequireAll(u, "/datastore/a", access.DatastoreAudit|access.DatastoreRead):   "all of [Datastore.Audit Datastore.Read] are needed",
		p.RequireAny(u, "/datastore/a", access.DatastoreModify|access.DatastorePrune): "Datastore.Modify or Datastore.Prune is needed",
	} {
		if d, ok := errors.AsType[*access.DeniedError](err); !ok || !strings.Contains(err.Error(), want) || d.Path == "" {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestSomethingBelowIsFound(t *testing.T) {
	for _, tc := range []struct {
		name, acl, who string
		want           bool
	}{
		{"nothing", "", "u@pbs", false},
		{"here, and below too", "acl:1:/datastore/a:u@pbs:DatastoreAudit", "u@pbs", true},
		{"here alone", "acl:0:/datastore/a:u@pbs:DatastoreAudit", "u@pbs", false},
		{"above, and below too", "acl:1:/:u@pbs:DatastoreAudit", "u@pbs", true},
		{"in a namespace", "acl:0:/datastore/a/x/y:u@pbs:DatastoreAudit", "u@pbs", true},
		{"in another store", "acl:1:/datastore/ab:u@pbs:DatastoreAudit", "u@pbs", false},
		{"something else", "acl:1:/datastore/a/x:u@pbs:DatastoreBackup", "u@pbs", false},
		{"of the token alone", "acl:1:/datastore/a/x:u@pbs!one:DatastoreAudit", "u@pbs!one", false},
		{"of both", "acl:1:/datastore/a/x:u@pbs!one,u@pbs:DatastoreAudit", "u@pbs!one", true},
		{"of the token everywhere, of the user there", "acl:1:/:u@pbs!one:Audit\nacl:1:/datastore/a/x:u@pbs:DatastoreAudit", "u@pbs!one", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := policy(t, tc.acl, "").AnyBelow(id(t, tc.who), "/datastore/a", access.DatastoreAudit); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestWhoIsActive(t *testing.T) {
	u, err := access.ParseUsers([]byte(`user: on@pbs

user: off@pbs
	enable 0

user: old@pbs
	expire 1000

user: odd@pbs
	enable maybe

token: on@pbs!on

token: on@pbs!off
	enable false

token: on@pbs!old
	expire 1000

token: off@pbs!on

token: gone@pbs!on
`))
	if err != nil {
		t.Fatal(err)
	}
	p, err := access.NewPolicy(u, &access.ACL{})
	if err == nil || !strings.Contains(err.Error(), "odd@pbs") || p == nil {
		t.Fatalf("an account that cannot be read: %v", err)
	}
	for who, at := range map[string]struct{ before, after bool }{
		"root@pam": {true, true}, "on@pbs": {true, true}, "off@pbs": {}, "old@pbs": {true, false}, "odd@pbs": {}, "new@pbs": {},
		"on@pbs!on": {true, true}, "on@pbs!off": {}, "on@pbs!old": {true, false}, "off@pbs!on": {}, "gone@pbs!on": {}, "on@pbs!new": {}, "root@pam!x": {},
	} {
		for now, want := range map[time.Time]bool{time.Unix(999, 999_999_999): at.before, time.Unix(1000, 0): at.after} {
			err := p.Active(id(t, who), now)
			if _, ok := errors.AsType[*access.InactiveError](err); (err == nil) != want || err != nil && !ok {
				t.Errorf("%s at %d: %v", who, now.Unix(), err)
			}
		}
	}
}

// The rules once more, written as a walk down a tree.
func naive(entries []access.Entry, who names.AuthID, path access.Path) access.Privs {
	var held []access.Entry
	parts := strings.Split(strings.Trim(string(path), "/"), "/")
	if path == "/" {
		parts = nil
	}
	for depth := 0; depth <= len(parts); depth++ {
		at := access.Path("/" + strings.Join(parts[:depth], "/"))
		var here []access.Entry
		for _, e := range entries {
			if e.Path == at && e.Who.Group == "" && e.Who.ID == who && (e.Propagate || depth == len(parts)) {
				here = append(here, e)
			}
		}
		if here != nil {
			held = here
		}
	}
	var p access.Privs
	for _, e := range held {
		if e.Role == access.NoAccess {
			return 0
		}
		p |= e.Role.Privs()
	}
	return p
}

func TestDecisionsFollowTheRulesForAnyList(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		paths := []access.Path{"/", "/datastore", "/datastore/a", "/datastore/a/x", "/datastore/a/x/y", "/datastore/ab"}
		whos := []string{"u@pbs", "u@pbs!one", "v@pbs"}
		acl := &access.ACL{}
		for i := range rapid.IntRange(0, 8).Draw(rt, "entries") {
			acl.Grant(access.Entry{
				Path:      rapid.SampledFrom(paths).Draw(rt, fmt.Sprint("path", i)),
				Who:       access.Who{ID: id(t, rapid.SampledFrom(whos).Draw(rt, fmt.Sprint("who", i)))},
				Role:      rapid.SampledFrom([]access.Role{"Admin", "DatastoreAudit", "DatastoreBackup", access.NoAccess, "Future", access.DatastoreWriteOnly}).Draw(rt, fmt.Sprint("role", i)),
				Propagate: rapid.Bool().Draw(rt, fmt.Sprint("propagate", i)),
			})
		}
		var entries []access.Entry
		for e := range acl.Entries() {
			entries = append(entries, e)
		}
		pbs, own := texts(t, acl)
		p := policy(t, pbs, own) // through the files
		for _, path := range append(paths, "/datastore/b", "/system") {
			for _, w := range whos {
				want := naive(entries, id(t, w), path)
				if u, _, token := strings.Cut(w, "!"); token {
					want &= naive(entries, id(t, u), path)
				}
				if got, _ := p.Privs(id(t, w), path); got != want {
					rt.Fatalf("%s at %s: %v, want %v\n%s%s", w, path, got, want, pbs, own)
				}
			}
		}
	})
}
