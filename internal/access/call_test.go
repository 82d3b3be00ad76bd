package access_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// matrix is the whole truth of who may do what with backups: E every group, o
// groups of one's own, . none.
const matrix = `
                         Backup Previous Blob Restore List Files Notes SetNotes Forget Verify Log MoveFrom MoveTo GCStatus GC SeeNS NS
Admin                    o      o        E    E       E    E     E     E        E      E      o   E        E      E        E  E     E
Audit                    .      .        .    .       E    E     E     .        .      .      .   .        .      E        .  E     .
NoAccess                 .      .        .    .       .    .     .     .        .      .      .   .        .      .        .  .     .
DatastoreAdmin           o      o        E    E       E    E     E     E        E      E      o   E        E      E        E  E     E
DatastoreReader          .      .        E    E       E    E     E     .        .      E      .   .        .      E        .  E     .
DatastoreBackup          o      o        o    o       o    o     o     o        .      o      o   .        o      .        .  E     .
DatastorePowerUser       o      o        o    o       o    o     o     o        o      o      o   o        o      .        .  E     .
DatastoreAudit           .      .        .    .       E    E     E     .        .      .      .   .        .      E        .  E     .
RemoteAudit              .      .        .    .       .    .     .     .        .      .      .   .        .      .        .  .     .
RemoteAdmin              .      .        .    .       .    .     .     .        .      .      .   .        .      .        .  .     .
RemoteSyncOperator       .      .        .    .       .    .     .     .        .      .      .   .        .      .        .  .     .
RemoteSyncPushOperator   .      .        .    .       .    .     .     .        .      .      .   .        .      .        .  .     .
RemoteDatastorePowerUser .      .        .    .       .    .     .     .        .      .      .   .        .      .        .  .     .
RemoteDatastoreAdmin     .      .        .    .       .    .     .     .        .      .      .   .        .      .        .  .     .
TapeAudit                .      .        .    .       .    .     .     .        .      .      .   .        .      .        .  .     .
TapeAdmin                .      .        .    .       .    .     .     .        .      .      .   .        .      .        .  .     .
TapeOperator             .      .        .    .       .    .     .     .        .      .      .   .        .      .        .  .     .
TapeReader               .      .        .    .       .    .     .     .        .      .      .   .        .      .        .  .     .
DatastoreWriteOnly       o      o        .    .       o    .     .     .        .      .      o   .        .      .        .  E     .
`

func TestRolesAndCalls(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(matrix), "\n")
	var got []string
	for _, role := range access.Roles() {
		p := policy(t, fmt.Sprintf("acl:1:/datastore/tank:u@pbs:%s", role), "")
		row := []string{string(role)}
		for c := range len(strings.Fields(lines[0])) {
			row = append(row, string(".oE"[p.Reach(id(t, "u@pbs"), "tank", "a/b", access.Call(c))]))
			if p.Reach(id(t, "u@pbs"), "tank2", names.Root, access.Call(c)) != access.None {
				t.Errorf("%s reaches another datastore", role)
			}
		}
		got = append(got, strings.Join(row, " "))
	}
	var want []string
	for _, l := range lines[1:] {
		want = append(want, strings.Join(strings.Fields(l), " "))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteOnlyTokenOfAPowerfulUserNeitherReadsNorRemoves(t *testing.T) {
	p := policy(t, "acl:1:/:u@pbs:Admin", "acl:1:/datastore/tank:u@pbs!one:DatastoreWriteOnly")
	one := id(t, "u@pbs!one")
	own := func(c access.Call) bool { return p.Reach(one, "tank", names.Root, c).Covers(one, one) }
	for _, c := range []access.Call{access.CallBackup, access.CallPrevious, access.CallUploadLog, access.CallList} {
		if !own(c) {
			t.Errorf("call %d is refused", c)
		}
	}
	for _, c := range []access.Call{
		access.CallRestore, access.CallPreviousBlob, access.CallFiles, access.CallNotes, access.CallSetNotes,
		access.CallForget, access.CallVerify, access.CallMoveFrom, access.CallMoveTo, access.CallGC, access.CallNamespace,
	} {
		if own(c) {
			t.Errorf("call %d is allowed", c)
		}
	}
	if p.MayChangeOwner(one, "tank", names.Root, one, id(t, "u@pbs")) {
		t.Error("it gives its backups away")
	}
	if ask, truth := p.SeesUsage(one, "tank"); !ask || !truth || !p.SeesStore(one, "tank") {
		t.Error("it does not see the datastore it writes to")
	}
}

func TestReachCoversTheGroupsOfOwners(t *testing.T) {
	u, one, two, v := id(t, "u@pbs"), id(t, "u@pbs!one"), id(t, "u@pbs!two"), id(t, "v@pbs")
	for _, tc := range []struct {
		reach      access.Reach
		who, owner names.AuthID
		want       bool
	}{
		{access.None, u, u, false},
		{access.Every, v, u, true},
		{access.Owned, u, u, true},
		{access.Owned, u, one, true},
		{access.Owned, one, u, false},
		{access.Owned, one, one, true},
		{access.Owned, one, two, false},
		{access.Owned, v, u, false},
		{access.Owned, v, one, false},
	} {
		if got := tc.reach.Covers(tc.who, tc.owner); got != tc.want {
			t.Errorf("reach %d of %s covers groups of %s: %v", tc.reach, tc.who, tc.owner, got)
		}
	}
}

func TestOwnersChange(t *testing.T) {
	acl := "acl:1:/datastore/tank:u@pbs,u@pbs!one:DatastoreBackup\nacl:1:/datastore/tank:v@pbs:DatastoreAdmin\n"
	for _, tc := range []struct {
		who, from, to string
		want          bool
	}{
		{"u@pbs", "u@pbs", "u@pbs!one", true},
		{"u@pbs", "u@pbs!one", "u@pbs", true},
		{"u@pbs", "u@pbs!one", "u@pbs!two", true},
		{"u@pbs", "u@pbs", "v@pbs", false},
		{"u@pbs", "v@pbs", "u@pbs", false},
		{"u@pbs", "v@pbs!x", "u@pbs", false},
		{"u@pbs", "u@pbs", "u@pbs", false},
		{"u@pbs!one", "u@pbs!one", "u@pbs", false},
		{"u@pbs!one", "u@pbs", "u@pbs!one", false},
		{"v@pbs", "u@pbs", "v@pbs", true},
		{"root@pam", "u@pbs", "v@pbs", true},
		{"w@pbs", "w@pbs", "w@pbs!one", false},
	} {
		if got := policy(t, acl, "").MayChangeOwner(id(t, tc.who), "tank", names.Root, id(t, tc.from), id(t, tc.to)); got != tc.want {
			t.Errorf("%s, from %s to %s: %v", tc.who, tc.from, tc.to, got)
		}
	}
}

func TestDatastoresAndTheirUsageAreSeen(t *testing.T) {
	for _, tc := range []struct {
		name, acl        string
		store, ask, true bool
	}{
		{"nothing", "", false, false, false},
		{"audit", "acl:1:/datastore/tank:u@pbs:DatastoreAudit", true, true, true},
		{"backup", "acl:0:/datastore/tank:u@pbs:DatastoreBackup", true, true, true},
		{"read here alone", "acl:0:/datastore/tank:u@pbs:DatastoreReader", true, true, true},
		{"something below", "acl:1:/datastore/tank/a:u@pbs:DatastoreBackup", true, true, false},
		{"another store", "acl:1:/datastore/tank2:u@pbs:DatastoreAdmin", false, false, false},
		{"remotes", "acl:1:/:u@pbs:RemoteAdmin", false, false, false},
	} {
		p := policy(t, tc.acl, "")
		ask, truth := p.SeesUsage(id(t, "u@pbs"), "tank")
		if got := p.SeesStore(id(t, "u@pbs"), "tank"); got != tc.store || ask != tc.ask || truth != tc.true {
			t.Errorf("%s: store %v, ask %v, truth %v", tc.name, got, ask, truth)
		}
	}
}

func TestTasksAreSeenAndStoppedByTheirOwners(t *testing.T) {
	p := policy(t, "acl:1:/system/tasks:v@pbs:Audit", "")
	for _, tc := range []struct {
		who, by    string
		read, stop bool
	}{
		{"u@pbs", "u@pbs", true, true},
		{"u@pbs", "u@pbs!one", true, true},
		{"u@pbs!one", "u@pbs", false, false},
		{"u@pbs", "root@pam", false, false},
		{"v@pbs", "u@pbs", true, false},
		{"root@pam", "u@pbs", true, true},
	} {
		if read, stop := p.MayReadTask(id(t, tc.who), id(t, tc.by)), p.MayStopTask(id(t, tc.who), id(t, tc.by)); read != tc.read || stop != tc.stop {
			t.Errorf("%s, task of %s: read %v, stop %v", tc.who, tc.by, read, stop)
		}
	}
}

func TestNamesOfPrivilegesAndRolesAreFound(t *testing.T) {
	for _, n := range access.Privs(1<<24 - 1).Names() {
		if p, err := access.ParsePriv(n); err != nil || len(p.Names()) != 1 || p.Names()[0] != n {
			t.Errorf("%s is %v, %v", n, p, err)
		}
	}
	for _, r := range access.Roles() {
		if got, err := access.ParseRole(string(r)); got != r || err != nil || r.Comment() == "" {
			t.Errorf("%s is %v, %v", r, got, err)
		}
	}
	if _, err := access.ParseRole("admin"); err == nil {
		t.Error("a role of another case")
	}
	if _, err := access.ParsePriv("Datastore"); err == nil {
		t.Error("half a privilege")
	}
}
