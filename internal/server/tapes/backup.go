package tapes

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/replicate"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/param"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
	"github.com/holdfast-backup/holdfast/internal/tape/config"
	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

var (
	storeParam = param.Store()
	nsParam    = param.Namespace()
	depthParam = param.Depth().Optional()
	filters    = api.List(api.Parsed("group-filter", "[include:|exclude:]type:TYPE, group:GROUP or regex:RE.", "", 256, replicate.ParseFilter))
	latestOnly = api.Bool("latest-only", "Only the newest snapshot of each group.").Default(false)
	eject      = api.Bool("eject-media", "Eject the medium at the end.").Default(false)
	exportSet  = api.Bool("export-media-set", "Move the media of the set to slots for import and export at the end.").Default(false)
	forceSet   = api.Bool("force-media-set", "Begin a new media set.").Default(false)
	threads    = api.Int("worker-threads", "How many chunks are read at a time.", 1, 32).Optional()
	notifyUser = api.Text("notify-user", "Of no effect here: the task says how it ended.", 64).Optional()
	notifyMode = api.Choice("notification-mode", "Of no effect here, as notify-user.", "legacy-sendmail", "notification-system").Optional()
)

// needBackup is what a backup to tape needs.
const needBackup = "Needs Datastore.Read on /datastore/{store}, and Tape.Write on /tape/drive/{drive} and /tape/pool/{pool}."

func (t *Tapes) backupCalls() []api.Call {
	return []api.Call{{
		Method: "POST", Path: "/tape/backup", Doc: "Write snapshots of a datastore to tape. The task is the answer.", Guard: api.LoggedIn(needBackup),
		Params: []api.AnyParam{
			storeParam, poolParam, driveParam, nsParam, depthParam, filters, latestOnly, eject, exportSet, forceSet, threads, notifyUser, notifyMode,
		},
		Do: api.Data(t.backup),
	}}
}

func (t *Tapes) backup(_ context.Context, r *api.Request) (string, error) {
	c := config.JobConfig{
		Store: storeParam.Of(r), Pool: poolParam.Of(r), Drive: driveParam.Of(r), Namespace: nsParam.Of(r), Depth: config.AllDepths,
		Filters: filters.Of(r), LatestOnly: latestOnly.Of(r), Eject: eject.Of(r), Export: exportSet.Of(r), Workers: int(threads.Of(r)),
	}
	if deep, limited := depthParam.Given(r); limited {
		c.Depth = int(deep)
	}
	if err := MayBackup(r.Policy, r.Caller, c.Store, c.Drive, c.Pool); err != nil {
		return "", err
	}
	as := tasks.Job{Type: "tape-backup", Worker: fmt.Sprintf("%s:%s:%s", c.Store, c.Pool, c.Drive), Auth: r.Caller.String()}
	id, err := t.startBackup(as, c, forceSet.Of(r))
	return id.String(), err
}

// MayBackup returns nil if somebody may write a datastore to tape.
func MayBackup(p *access.Policy, who names.AuthID, store, drive, pool string) error {
	return errors.Join(
		p.RequireAny(who, access.StorePath(store, names.Root), access.DatastoreRead),
		p.RequireAny(who, drivePath(drive), access.TapeWrite), p.RequireAny(who, poolPath(pool), access.TapeWrite),
	)
}

// StartJob starts a job of the configuration.
func (t *Tapes) StartJob(id string, as tasks.Job) (upid.UPID, error) {
	c, err := t.config.Job(id)
	if err != nil {
		return upid.UPID{}, err
	}
	return t.startBackup(as, c, false)
}

func (t *Tapes) startBackup(as tasks.Job, c config.JobConfig, force bool) (upid.UPID, error) {
	pool, err := t.config.Pool(c.Pool)
	if err != nil {
		return upid.UPID{}, err
	}
	if _, err := t.opt.Stores.Find(c.Store); err != nil {
		return upid.UPID{}, err
	}
	b := job.Backup{
		Store: c.Store, Selection: job.Selection{Namespace: c.Namespace, MaxDepth: c.Depth, LatestOnly: c.LatestOnly},
		ForceMediaSet: force, EjectMedia: c.Eject, ExportSet: c.Export, Readers: c.Workers,
	}
	if len(c.Filters) > 0 {
		b.Groups = c.Filters.Match
	}
	return t.startAs(as, c.Drive, func(ctx context.Context, task *tasks.Task, w *job.World) (err error) {
		h, err := t.opt.Stores.Open(c.Store, stores.Read)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.Close()) }()
		b.Repo = h
		st, err := w.Backup(ctx, pool, b)
		task.Logf("snapshots: %d written, %d on tape already; chunks: %d written, %d on tape already; %d bytes", st.Snapshots, st.Skipped, st.Chunks, st.Known, st.Bytes)
		if err == nil && st.Failed > 0 {
			err = fmt.Errorf("%d snapshots could not be read, see the log", st.Failed)
		}
		return err
	})
}

// NextLabel is the medium that a job would write to now, "" where none is known.
func (t *Tapes) NextLabel(id string) string {
	c, err := t.config.Job(id)
	if err != nil {
		return ""
	}
	pool, err := t.config.Pool(c.Pool)
	if err != nil {
		return ""
	}
	st, err := t.state()
	if err != nil {
		return ""
	}
	inv, err := st.Inventory()
	if err != nil {
		return ""
	}
	v, err := media.NewView(inv, pool, t.opt.Now(), t.opt.Location)
	if err != nil {
		return ""
	}
	m, err := v.Next(t.opt.Now())
	if err != nil {
		return ""
	}
	return m.Label.Text
}
