package access

import (
	"fmt"
	"slices"
)

// Role is the name of a set of privileges. A name that nobody knows may stand in
// a list; it gives nothing.
type Role string

// Roles that are spoken of by name.
const (
	Admin              Role = "Admin"
	NoAccess           Role = "NoAccess"
	DatastoreWriteOnly Role = "DatastoreWriteOnly"
)

// roles are sorted as PBS sorts them.
var roles = []struct {
	name    Role
	privs   Privs
	own     bool // PBS does not know it
	comment string
}{
	{Admin, all, false, "everything"},
	{"Audit", SysAudit | DatastoreAudit, false, "sees the system and what is in datastores"},
	{NoAccess, 0, false, "nothing, whatever was given above"},
	{"DatastoreAdmin", DatastoreAudit | DatastoreModify | DatastoreRead | DatastoreVerify | DatastoreBackup | DatastorePrune, false, "everything in a datastore"},
	{"DatastoreReader", DatastoreAudit | DatastoreVerify | DatastoreRead, false, "sees, verifies and restores every backup"},
	{"DatastoreBackup", DatastoreBackup, false, "adds backups and restores its own"},
	{"DatastorePowerUser", DatastoreBackup | DatastorePrune, false, "adds backups, restores and removes its own"},
	{"DatastoreAudit", DatastoreAudit, false, "sees what is in a datastore"},
	{"RemoteAudit", RemoteAudit, false, "sees which other servers are known"},
	{"RemoteAdmin", RemoteAudit | RemoteModify | RemoteRead, false, "changes other servers' settings and reads from them"},
	{"RemoteSyncOperator", RemoteAudit | RemoteRead, false, "reads from other servers"},
	{"RemoteSyncPushOperator", RemoteAudit | RemoteDatastoreBackup, false, "writes to other servers"},
	{"RemoteDatastorePowerUser", RemoteAudit | RemoteDatastoreBackup | RemoteDatastorePrune, false, "writes to other servers and removes what it wrote there"},
	{"RemoteDatastoreAdmin", RemoteAudit | RemoteDatastoreBackup | RemoteDatastoreModify | RemoteDatastorePrune, false, "writes to other servers and changes what is there"},
	{"TapeAudit", TapeAudit, false, "sees tapes and drives"},
	{"TapeAdmin", TapeAudit | TapeModify | TapeRead | TapeWrite, false, "everything with tapes"},
	{"TapeOperator", TapeAudit | TapeRead | TapeWrite, false, "writes to tape and restores from it"},
	{"TapeReader", TapeAudit | TapeRead, false, "restores from tape"},
	{DatastoreWriteOnly, DatastoreWrite, true, "adds backups, and neither restores nor removes them"},
}

// Roles lists all roles that are known.
func Roles() []Role {
	list := make([]Role, len(roles))
	for i, r := range roles {
		list[i] = r.name
	}
	return list
}

// ParseRole returns the role with a name.
func ParseRole(name string) (Role, error) {
	if slices.Contains(Roles(), Role(name)) {
		return Role(name), nil
	}
	return "", fmt.Errorf("role %q: %w", name, ErrUnknown)
}

// Privs returns what a role gives.
func (r Role) Privs() Privs {
	for _, k := range roles {
		if k.name == r {
			return k.privs
		}
	}
	return 0
}

// Own reports whether PBS does not know this role and we do.
func (r Role) Own() bool {
	for _, k := range roles {
		if k.name == r {
			return k.own
		}
	}
	return false
}

// Comment says in a few words what a role is for.
func (r Role) Comment() string {
	for _, k := range roles {
		if k.name == r {
			return k.comment
		}
	}
	return ""
}
