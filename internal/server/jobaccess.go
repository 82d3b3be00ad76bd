package server

import (
	"errors"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/tapes"
)

// What jobs need, for the description of their calls.
const (
	seeJobs = "Shown are prune jobs with Datastore.Audit on /datastore/{store}[/{ns}], verify jobs with that or Datastore.Verify, " +
		"and sync jobs with Datastore.Audit there and Remote.Audit on /remote/{remote}, or Datastore.Audit on the other datastore of this server."
	seeTapeJobs  = "Shown are those with Tape.Audit on /tape/job/{id}."
	changeTape   = "Needs Tape.Modify on /tape/job/{id}."
	runTape      = "Needs Tape.Write on /tape/job/{id} and /tape/drive/{drive} and /tape/pool/{pool} of the job, and Datastore.Read on its datastore."
	changePrune  = "Needs Datastore.Modify on /datastore/{store}[/{ns}] of the job."
	changeVerify = "Needs Datastore.Verify on /datastore/{store}[/{ns}] of the job."
	changeSync   = "Needs Datastore.Audit on /datastore/{store}[/{ns}]; for another owner than oneself Datastore.Modify. To pull, " + needPull + " To push, " + needPush
	needPull     = "needs Datastore.Backup on /datastore/{store}[/{ns}], with remove-vanished Datastore.Prune, and Remote.Read on /remote/{remote}/{remote-store}; " +
		"without remote Datastore.Read on the other datastore, or Datastore.Backup for groups of one's own."
	needPush = "needs Datastore.Read on /datastore/{store}[/{ns}], or Datastore.Backup for groups of one's own, and Remote.DatastoreBackup on " +
		"/remote/{remote}/{remote-store}[/{remote-ns}], with remove-vanished Remote.DatastorePrune; without remote Datastore.Backup and Datastore.Prune on the other datastore."
)

// maySeeJob returns nil if somebody sees a job in listings.
func maySeeJob(p *access.Policy, who names.AuthID, j jobs.Job) error {
	at := access.StorePath(j.Store, j.Namespace())
	switch j.Kind {
	case jobs.Verify:
		return p.RequireAny(who, at, access.DatastoreAudit|access.DatastoreVerify)
	case jobs.Sync:
		if err := p.RequireAny(who, at, access.DatastoreAudit); err != nil {
			return err
		}
		other := j.Other()
		switch {
		case other.Remote == "":
			return p.RequireAny(who, access.StorePath(other.Store, names.Root), access.DatastoreAudit)
		case j.Pulls():
			return p.RequireAny(who, access.RemotePath(other.Remote, "", ""), access.RemoteAudit)
		}
		return p.RequireAny(who, access.RemotePath(other.Remote, other.Store, other.NS), access.RemoteAudit)
	case jobs.Tape:
		return p.RequireAny(who, tapeJobPath(j), access.TapeAudit)
	case jobs.GC, jobs.Prune, jobs.OldPrune:
	}
	return p.RequireAny(who, at, access.DatastoreAudit)
}

// mayChangeJob returns nil if somebody may add, change, remove and run a job.
func mayChangeJob(p *access.Policy, who names.AuthID, j jobs.Job) error {
	at := access.StorePath(j.Store, j.Namespace())
	switch j.Kind {
	case jobs.Verify:
		return p.RequireAny(who, at, access.DatastoreVerify)
	case jobs.Sync:
		if err := p.RequireAny(who, at, access.DatastoreAudit); err != nil {
			return err
		}
		return maySync(p, who, j)
	case jobs.Tape:
		return p.RequireAny(who, tapeJobPath(j), access.TapeModify)
	case jobs.GC, jobs.Prune, jobs.OldPrune:
	}
	return p.RequireAny(who, at, access.DatastoreModify)
}

// mayRunJob returns nil if somebody may run a job.
func mayRunJob(p *access.Policy, who names.AuthID, j jobs.Job) error {
	if j.Kind != jobs.Tape {
		return mayChangeJob(p, who, j)
	}
	return errors.Join(p.RequireAny(who, tapeJobPath(j), access.TapeWrite), tapes.MayBackup(p, who, j.Store, j.Drive(), j.Pool()))
}

func tapeJobPath(j jobs.Job) access.Path { return access.Path("/tape/job/" + j.ID) }

// maySync returns nil if somebody may do what a sync job does.
func maySync(p *access.Policy, who names.AuthID, j jobs.Job) error {
	at := access.StorePath(j.Store, j.Namespace())
	if j.Pulls() {
		return mayPull(p, who, j, at)
	}
	return mayPush(p, who, j, at)
}

// owns reports whether a sync job runs in the name of somebody, or of an API token
// of that one.
func owns(who names.AuthID, j jobs.Job) bool {
	owner, err := names.ParseAuthID(j.Owner())
	return err == nil && who.MayUse(owner)
}

func mayPull(p *access.Policy, who names.AuthID, j jobs.Job, at access.Path) error {
	need := access.DatastoreBackup
	if j.RemovesVanished() {
		need |= access.DatastorePrune
	}
	if !owns(who, j) {
		need |= access.DatastoreModify
	}
	if err := p.RequireAll(who, at, need); err != nil {
		return err
	}
	other := j.Other()
	if other.Remote == "" {
		return mayReadSource(p, who, j, access.StorePath(other.Store, other.NS))
	}
	return p.RequireAny(who, access.RemotePath(other.Remote, other.Store, names.Root), access.RemoteRead)
}

func mayPush(p *access.Policy, who names.AuthID, j jobs.Job, at access.Path) error {
	if err := mayReadSource(p, who, j, at); err != nil {
		return err
	}
	other := j.Other()
	if other.Remote == "" {
		need := access.DatastoreBackup
		if j.RemovesVanished() {
			need |= access.DatastorePrune
		}
		return p.RequireAll(who, access.StorePath(other.Store, other.NS), need)
	}
	need := access.RemoteDatastoreBackup
	if j.RemovesVanished() {
		need |= access.RemoteDatastorePrune
	}
	return p.RequireAll(who, access.RemotePath(other.Remote, other.Store, other.NS), need)
}

// mayReadSource asks for the right to read the source of a sync, all of it or backups of
// one's own; those of others only with the right to give them to others.
func mayReadSource(p *access.Policy, who names.AuthID, j jobs.Job, at access.Path) error {
	if p.RequireAny(who, at, access.DatastoreRead) == nil {
		return nil
	}
	need := access.DatastoreBackup
	if !owns(who, j) {
		need |= access.DatastoreModify
	}
	return p.RequireAll(who, at, need)
}
