package tapes

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
	"github.com/holdfast-backup/holdfast/internal/tape/job"
)

var (
	restoreSet = uuidParam.As("media-set", "The media set.")
	storeMap   = api.Parsed("store", "Where backups go: a datastore for all, or a list with commas of SOURCE=TARGET, in which one TARGET may stand alone.", "", 4096, job.ParseStoreMap)
	someOf     = api.List(api.Parsed("snapshots", "A snapshot, as STORE:[ns/NS/...]TYPE/ID/TIME; without any all come back.", "", 512, job.ParseChoice))
	someSpaces = api.List(api.Parsed("namespaces", "store=STORE[,source=NS][,target=NS][,max-depth=N].", "", 1024, job.ParseNamespaceMap))
	ownerParam = api.Parsed("owner", "Who owns new groups, and whose groups are touched; oneself without it.", "", 128, names.ParseAuthID).Optional()
)

const needRestore = "Needs Tape.Read on /tape/drive/{drive} and on /tape/pool/{pool} of the media set, and Datastore.Backup on the datastores and namespaces " +
	"that snapshots come back into; for another owner than oneself Datastore.Modify."

func (t *Tapes) restoreCalls() []api.Call {
	return []api.Call{{
		Method: "POST", Path: "/tape/restore", Doc: "Bring snapshots back from tape. The task is the answer.", Guard: api.LoggedIn(needRestore),
		Params: []api.AnyParam{restoreSet, storeMap, driveParam, someOf, someSpaces, ownerParam, notifyUser, notifyMode}, Do: api.Data(t.restore),
	}}
}

// grant is what somebody may have brought back, and where.
type grant struct {
	policy *access.Policy
	who    names.AuthID
	owner  names.AuthID
}

// may returns nil if backups may come into a namespace of a datastore.
func (g grant) may(store string, ns names.Namespace) error {
	need := access.DatastoreBackup
	if !g.who.MayUse(g.owner) {
		need |= access.DatastoreModify
	}
	return g.policy.RequireAll(g.who, access.StorePath(store, ns), need)
}

func (t *Tapes) restore(_ context.Context, r *api.Request) (string, error) {
	set, into, drive := restoreSet.Of(r), storeMap.Of(r), driveParam.Of(r)
	g := grant{r.Policy, r.Caller, r.Caller}
	if owner, given := ownerParam.Given(r); given {
		g.owner = owner
	}
	some := job.Some{Snapshots: someOf.Of(r), Namespaces: someSpaces.Of(r)}
	if err := t.mayRestore(r, set, drive, into, g, some); err != nil {
		return "", err
	}
	as := tasks.Job{Type: "tape-restore", Worker: fmt.Sprintf("%s:%s", drive, set), Auth: r.Caller.String()}
	id, err := t.startAs(as, drive, func(ctx context.Context, task *tasks.Task, w *job.World) (err error) {
		targets := map[string]*job.Target{}
		for _, name := range into.Targets() {
			h, err := t.opt.Stores.Open(name, stores.Write)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, h.Close()) }()
			targets[name] = &job.Target{Repo: h, Owner: g.owner.String(), May: func(s names.Snapshot) error { return g.may(name, s.NS) }}
		}
		opt := job.Restore{MediaSet: set, Target: func(store string) *job.Target {
			name, ok := into.Target(store)
			if !ok {
				return nil
			}
			return targets[name]
		}}
		var st job.RestoreStats
		if len(some.Snapshots)+len(some.Namespaces) > 0 {
			st, err = w.RestoreSome(ctx, opt, some)
		} else {
			st, err = w.RestoreAll(ctx, opt)
		}
		task.Logf("snapshots: %d restored, %d were there; chunks: %d, %d bytes", st.Snapshots, st.Skipped, st.Chunks, st.Bytes)
		if err == nil && st.Failed+st.Damaged > 0 {
			err = fmt.Errorf("%d snapshots could not be restored, %d files or chunks on the media cannot be read: see the log", st.Failed, st.Damaged)
		}
		return err
	})
	return id.String(), err
}

// mayRestore refuses what would only be seen in the log of the task. Namespaces that
// turn up on the media are looked at when they do.
func (t *Tapes) mayRestore(r *api.Request, set uuid.UUID, drive string, into job.StoreMap, g grant, some job.Some) error {
	st, err := t.state()
	if err != nil {
		return err
	}
	inv, err := st.Inventory()
	if err != nil {
		return err
	}
	pool, err := inv.SetPool(set)
	if err != nil {
		return err
	}
	errs := []error{
		r.Policy.RequireAny(r.Caller, drivePath(drive), access.TapeRead), r.Policy.RequireAny(r.Caller, poolPath(pool), access.TapeRead),
	}
	for _, name := range into.Targets() {
		if _, err := t.opt.Stores.Find(name); err != nil {
			return err
		}
		if len(some.Namespaces) == 0 {
			errs = append(errs, g.may(name, names.Root))
		}
	}
	for _, m := range some.Namespaces {
		if name, ok := into.Target(m.Store); ok {
			errs = append(errs, g.may(name, m.Target))
		}
	}
	return errors.Join(errs...)
}
