package access

import (
	"fmt"
	"strings"
)

// Privs is a set of privileges. Sets are joined with |.
type Privs uint64

// The privileges of PBS in its order, and at the end those it does not have.
const (
	SysAudit Privs = 1 << iota
	SysModify
	SysPowerManagement
	DatastoreAudit
	DatastoreAllocate
	DatastoreModify
	DatastoreRead
	DatastoreVerify
	DatastoreBackup
	DatastorePrune
	PermissionsModify
	RemoteAudit
	RemoteModify
	RemoteRead
	RemoteDatastoreBackup
	RemoteDatastoreModify
	RemoteDatastorePrune
	SysConsole
	TapeAudit
	TapeModify
	TapeWrite
	TapeRead
	RealmAllocate
	DatastoreWrite // add backups to groups of one's own, and no more

	end
	all = end - 1
)

// privNames are in the order of the bits.
var privNames = [...]string{
	"Sys.Audit", "Sys.Modify", "Sys.PowerManagement",
	"Datastore.Audit", "Datastore.Allocate", "Datastore.Modify", "Datastore.Read", "Datastore.Verify",
	"Datastore.Backup", "Datastore.Prune",
	"Permissions.Modify",
	"Remote.Audit", "Remote.Modify", "Remote.Read",
	"Remote.DatastoreBackup", "Remote.DatastoreModify", "Remote.DatastorePrune",
	"Sys.Console",
	"Tape.Audit", "Tape.Modify", "Tape.Write", "Tape.Read",
	"Realm.Allocate",
	"Datastore.Write",
}

// ParsePriv returns the privilege with a name such as "Datastore.Backup".
func ParsePriv(name string) (Privs, error) {
	for i, n := range privNames {
		if n == name {
			return 1 << i, nil
		}
	}
	return 0, fmt.Errorf("privilege %q: %w", name, ErrUnknown)
}

// Names lists the privileges of a set.
func (p Privs) Names() []string {
	var list []string
	for i, n := range privNames {
		if p&(1<<i) != 0 {
			list = append(list, n)
		}
	}
	return list
}

// String is for messages: "Datastore.Audit or Datastore.Backup".
func (p Privs) String() string {
	if p == 0 {
		return "none"
	}
	return strings.Join(p.Names(), " or ")
}
