package access

import "github.com/holdfast-backup/holdfast/internal/format/names"

// Call is something that is asked of the content of a datastore.
//
//	call                                            for every group            for groups of one's own
//	CallBackup      open a backup session           -                          Backup or Write
//	CallPrevious    in it, the base's index files   -                          Backup or Write
//	                and manifest
//	CallPreviousBlob  in it, other blobs            Read                       Backup
//	CallRestore     open a reader session,          Read                       Backup
//	                download, catalog
//	CallList        list groups and snapshots       Audit                      Backup or Write
//	CallFiles       list the files of a snapshot    Audit or Read              Backup
//	CallNotes       read notes, group notes,        Audit                      Backup
//	                protection
//	CallSetNotes    change these                    Modify                     Backup
//	CallForget      remove snapshots and groups,    Modify                     Prune
//	                prune one or many
//	CallVerify      verify                          Verify                     Backup
//	CallUploadLog   store the log of a backup       -                          Backup or Write
//	CallMoveFrom    move a group away               Modify                     Prune
//	CallMoveTo      move a group to here            Modify                     Backup
//	CallGCStatus    status of the last collection   Audit                      -
//	CallGC          collect garbage                 Modify                     -
//	CallSeeNamespace  see that a namespace is there Modify, Read, Backup,      -
//	                                                Audit or Write
//	CallNamespace   make or remove a namespace,     Modify                     -
//	                asked at its parent
//
// The privileges are those of Datastore at the path of the namespace.
type Call int

// The calls.
const (
	CallBackup Call = iota
	CallPrevious
	CallPreviousBlob
	CallRestore
	CallList
	CallFiles
	CallNotes
	CallSetNotes
	CallForget
	CallVerify
	CallUploadLog
	CallMoveFrom
	CallMoveTo
	CallGCStatus
	CallGC
	CallSeeNamespace
	CallNamespace
)

// calls says what each needs: one of these.
var calls = [...]struct{ any, owned Privs }{
	CallBackup:       {0, DatastoreBackup | DatastoreWrite},
	CallPrevious:     {0, DatastoreBackup | DatastoreWrite},
	CallPreviousBlob: {DatastoreRead, DatastoreBackup},
	CallRestore:      {DatastoreRead, DatastoreBackup},
	CallList:         {DatastoreAudit, DatastoreBackup | DatastoreWrite},
	CallFiles:        {DatastoreAudit | DatastoreRead, DatastoreBackup},
	CallNotes:        {DatastoreAudit, DatastoreBackup},
	CallSetNotes:     {DatastoreModify, DatastoreBackup},
	CallForget:       {DatastoreModify, DatastorePrune},
	CallVerify:       {DatastoreVerify, DatastoreBackup},
	CallUploadLog:    {0, DatastoreBackup | DatastoreWrite},
	CallMoveFrom:     {DatastoreModify, DatastorePrune},
	CallMoveTo:       {DatastoreModify, DatastoreBackup},
	CallGCStatus:     {DatastoreAudit, 0},
	CallGC:           {DatastoreModify, 0},
	CallSeeNamespace: {DatastoreModify | DatastoreRead | DatastoreBackup | DatastoreAudit | DatastoreWrite, 0},
	CallNamespace:    {DatastoreModify, 0},
}

// Reach says to which groups a call of somebody extends.
type Reach int

// The reaches.
const (
	None  Reach = iota // to none: the caller is to be refused
	Owned              // to those that the caller owns
	Every              // to every group
)

// Reach returns how far a call of somebody reaches in a namespace of a datastore.
func (p *Policy) Reach(id names.AuthID, store string, ns names.Namespace, c Call) Reach {
	here, _ := p.Privs(id, StorePath(store, ns))
	switch {
	case here&calls[c].any != 0:
		return Every
	case here&calls[c].owned != 0:
		return Owned
	}
	return None
}

// Covers reports whether a reach has the group of an owner in it.
func (r Reach) Covers(id, owner names.AuthID) bool {
	return r == Every || r == Owned && id.MayUse(owner)
}

// Require returns nil if a call of somebody reaches some group at all, else a
// [*DeniedError].
func (p *Policy) Require(id names.AuthID, store string, ns names.Namespace, c Call) error {
	if p.Reach(id, store, ns, c) == None {
		return &DeniedError{calls[c].any | calls[c].owned, false, StorePath(store, ns)}
	}
	return nil
}

// MayChangeOwner reports whether somebody may give a group to another owner. With
// Datastore.Modify, to any; with Datastore.Backup, a user may pass groups around
// between itself and its tokens.
func (p *Policy) MayChangeOwner(id names.AuthID, store string, ns names.Namespace, from, to names.AuthID) bool {
	here, _ := p.Privs(id, StorePath(store, ns))
	switch {
	case here&DatastoreModify != 0:
		return true
	case here&DatastoreBackup == 0 || id.IsToken():
		return false
	}
	return userOf(from) == id && userOf(to) == id && (from.IsToken() || to.IsToken())
}

// SeesStore reports whether a datastore is in the list that somebody gets of them.
func (p *Policy) SeesStore(id names.AuthID, store string) bool {
	path := StorePath(store, names.Root)
	here, _ := p.Privs(id, path)
	return here&(DatastoreAudit|DatastoreBackup|DatastoreWrite) != 0 || p.AnyBelow(id, path, inStore)
}

// SeesUsage reports whether somebody may ask how full a datastore is, and whether
// the answer is the truth or zeros, for those who have a part of it only.
func (p *Policy) SeesUsage(id names.AuthID, store string) (ask, truth bool) {
	path := StorePath(store, names.Root)
	here, _ := p.Privs(id, path)
	truth = here&(DatastoreAudit|DatastoreBackup|DatastoreWrite) != 0
	return truth || here&DatastoreRead != 0 || p.AnyBelow(id, path, inStore), truth
}

// inStore are the privileges that have to do with what is in a datastore.
const inStore = DatastoreAudit | DatastoreModify | DatastoreRead | DatastoreVerify | DatastoreBackup | DatastorePrune | DatastoreWrite

// MayReadTask reports whether somebody sees a task that by started.
func (p *Policy) MayReadTask(id, by names.AuthID) bool {
	here, _ := p.Privs(id, "/system/tasks")
	return id.MayUse(by) || here&SysAudit != 0
}

// MayStopTask reports whether somebody may end a task that by started.
func (p *Policy) MayStopTask(id, by names.AuthID) bool {
	here, _ := p.Privs(id, "/system/tasks")
	return id.MayUse(by) || here&SysModify != 0
}
