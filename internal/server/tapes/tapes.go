// Package tapes is the tapes of a server: its drives, changers and media, as calls
// and as tasks. What is done with them is in internal/tape/job; here it is decided
// who may have it done, and told what became of it.
//
// # Rights
//
//	/tape/device/{drive}   Tape.Audit to see a drive or changer, Tape.Read to move
//	                       media and read labels, Tape.Write to label and format,
//	                       Tape.Modify to configure it
//	/tape/drive/{drive}    Tape.Write for backups, Tape.Read for restores
//	/tape/pool/{pool}      the same, and Tape.Audit to see media, Tape.Modify to
//	                       change what is known of them
//
// The two paths of a drive are PBS's. Backups need Datastore.Read, restores
// Datastore.Backup, and Datastore.Modify for groups of others.
//
// # Drives
//
// One task at a time uses a drive; while it does, the drive's state names the task.
// A virtual library is open while anything of it is used.
//
// # Source
//
// proxmox-backup: src/api2/tape/, src/api2/config/{drive,changer,media_pool,
// tape_encryption_keys}.rs.
package tapes

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/config"
	"github.com/holdfast-backup/holdfast/internal/tape/device"
	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/holdfast-backup/holdfast/internal/tape/keys"
	"github.com/holdfast-backup/holdfast/internal/tape/keysvc"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
	"github.com/holdfast-backup/holdfast/internal/tape/runstate"
)

// Options say where the tapes of a server are.
type Options struct {
	Config   confdir.Dir
	StateDir string // what is known of media
	RunDir   string // locks and states of drives, until the machine is started again
	Location *time.Location
	Version  string // of this program
	// Encrypter brings keys into drives; nil: those of the configuration, by the
	// service for keys where this process may not read them.
	Encrypter tape.Encrypter
	Stores    *stores.Set
	// Start runs a task.
	Start func(tasks.Job, func(context.Context, *tasks.Task) error) (upid.UPID, error)
	// Running says whether a task runs: one of this server, or of another process.
	Running func(upid.UPID) bool
	// Ask hears what people have to do at a drive; may be nil.
	Ask func(drive, what string)
	Now func() time.Time
}

// Tapes are the tapes of a server. They are safe for concurrent use.
type Tapes struct {
	opt    Options
	config config.Config
	keys   keys.Store
	run    runstate.Dir
	opener *device.Opener

	mu   sync.Mutex
	uses int // of the opener
}

// New returns the tapes of a server. Nothing is opened before it is used.
func New(o Options) *Tapes {
	t := &Tapes{opt: o, config: config.New(o.Config), keys: keys.New(o.Config), run: runstate.New(o.RunDir)}
	t.opener = &device.Opener{
		Config: t.config, Locks: filepath.Join(o.RunDir, "drive-lock"), Encrypter: o.Encrypter, Version: o.Version,
	}
	if o.Encrypter == nil {
		t.opener.Encrypter = keysvc.Encrypter{Keys: t.keys}
	}
	return t
}

// Calls are the calls about tapes.
func (t *Tapes) Calls() (list []api.Call) {
	for _, more := range [][]api.Call{t.configCalls(), t.keyCalls(), t.driveCalls(), t.changerCalls(), t.mediaCalls(), t.backupCalls(), t.restoreCalls()} {
		list = append(list, more...)
	}
	return list
}

// open keeps the opener from closing what it has opened until done is called.
func (t *Tapes) open() (o *device.Opener, done func() error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.uses++
	return t.opener, func() error {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.uses--; t.uses > 0 {
			return nil
		}
		return t.opener.Close()
	}
}

// state is what is known of media.
func (t *Tapes) state() (*media.State, error) { return media.Open(t.opt.StateDir, t.opt.Location) }

// keyFile is a key under its password, as it goes onto media.
func (t *Tapes) keyFile(f chunkcrypt.Fingerprint) ([]byte, error) {
	k, err := t.keys.File(f)
	if err != nil {
		return nil, err
	}
	return k.Marshal()
}

// at runs f with a drive and what serves it.
func (t *Tapes) at(ctx context.Context, drive string, f func(*device.Opener, *job.Station) error) (err error) {
	o, done := t.open()
	defer func() { err = errors.Join(err, done()) }()
	st, closeStation, err := o.Station(ctx, drive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeStation()) }()
	if st.Changer != nil { // what it holds may be another thing now
		defer func() { err = errors.Join(err, t.run.ForgetChanger(st.ChangerName)) }()
	}
	return f(o, st)
}

// busy is what a drive is busy with, "" for nothing. What a process left behind that
// died says nothing.
func (t *Tapes) busy(drive string) (string, error) {
	text, err := t.run.Drive(drive)
	if id, perr := upid.Parse(text); perr == nil && !t.opt.Running(id) {
		return "", err
	}
	return text, err
}

// work runs f with a drive and what is known of media. log hears of it.
func (t *Tapes) work(ctx context.Context, drive string, log logger, f func(*job.World) error) error {
	return t.at(ctx, drive, func(_ *device.Opener, st *job.Station) error {
		known, err := t.state()
		if err != nil {
			return err
		}
		st.Logf = log.Logf
		st.Ask = func(what string) {
			log.Logf("%s", what)
			if t.opt.Ask != nil {
				t.opt.Ask(drive, what)
			}
		}
		return f(&job.World{State: known, Station: st, KeyFile: t.keyFile, Now: t.opt.Now, Logf: log.Logf, Warnf: log.Warnf})
	})
}

// logger is where work tells what it does; a task is one.
type logger interface {
	Logf(format string, args ...any)
	Warnf(format string, args ...any)
}

// silent hears and forgets.
type silent struct{}

func (silent) Logf(string, ...any)  {}
func (silent) Warnf(string, ...any) {}

// start runs f with a drive in a task, and answers with that.
func (t *Tapes) start(typ, drive string, by names.AuthID, f func(context.Context, *tasks.Task, *job.World) error) (string, error) {
	id, err := t.startAs(tasks.Job{Type: typ, Worker: drive, Auth: by.String()}, drive, f)
	return id.String(), err
}

func (t *Tapes) startAs(as tasks.Job, drive string, f func(context.Context, *tasks.Task, *job.World) error) (upid.UPID, error) {
	if _, err := t.config.Drive(drive); err != nil {
		return upid.UPID{}, err
	}
	return t.opt.Start(as, func(ctx context.Context, task *tasks.Task) error {
		return t.work(ctx, drive, task, func(w *job.World) (err error) {
			if err := t.run.SetDrive(drive, task.ID().String()); err != nil {
				task.Warnf("the state of the drive is not written: %v", err)
			}
			defer func() { err = errors.Join(err, t.run.SetDrive(drive, "")) }()
			return f(ctx, task, w)
		})
	})
}
