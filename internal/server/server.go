// Package server is a backup server: it serves datastores to the clients of a
// Proxmox Backup Server, by the API and the protocols of that (docs/guide/server.md).
//
// # What comes in
//
//	TCP, 8007 -> limits -> front: TLS, Host mended -> net/http -> ServeHTTP
//	    who is it? (accounts) -> which call? (api) -> parameters -> may they? -> handler
//	    GET backup, GET reader: a task, the connection becomes HTTP/2 -> backupserver, readerserver
//
// All calls are rows of one table (see the methods ...Calls, and package api): what
// is not in it is not answered, and what it says of a call, its limits and needed
// privileges, is what is checked and what openapi.json says.
//
// # Where things are
//
// The configuration directory holds files of PBS, see package confdir. Logs of
// tasks are in LogDir/tasks, see package tasks; how full the datastores were is in
// StateDir/usage, see package usage, and with the figures of the machine in
// StateDir/history, see package history; when jobs ran last in JobDir, see package jobs.
//
// # Limits
//
// Connections, in all and from one address; sessions and requests of one user or
// token; time to send a request; bytes of paths, headers and bodies; memory of all
// sessions together. See [Limits], and packages api and backupserver.
//
// # Errors
//
// A request that is refused for lack of rights is answered half a second after it
// came, one of somebody who cannot log in after three, as PBS does. What a client
// still sends is read before an error is answered, or it would not see it.
//
// # The log
//
// One line for each request and for the end of each session, with the keys method,
// path, status, user, peer, bytes, ms and error. Queries, bodies and headers are
// not in it.
//
// # The end
//
// When its context ends, the server takes no more connections, waits for sessions
// and tasks as long as Grace says, and then ends them: a backup that is not finished
// leaves nothing behind.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1/backupserver"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/cert"
	"github.com/holdfast-backup/holdfast/internal/server/history"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/metrics"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
	"github.com/holdfast-backup/holdfast/internal/server/tapes"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
	"github.com/holdfast-backup/holdfast/internal/server/usage"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// Options say what a server serves. All but Config has a default.
type Options struct {
	Config   confdir.Dir
	LogDir   string // default: log in the configuration directory
	StateDir string // default: state in it
	JobDir   string // states of jobs; default: jobstates in StateDir
	Version  string // of this program
	Node     string // name of this machine
	Realms   map[string]accounts.Realm
	Location *time.Location // of calendar days and of task logs
	Log      *slog.Logger
	Limits   Limits
	Grace    time.Duration // default: a minute and 20 seconds
	Delay    Delays

	// TapeDir is what is known of tapes; default: tape in StateDir. RunDir is for
	// what does not outlive the machine's being switched off; default: run in it.
	TapeDir, RunDir string
	// TapeKeys brings keys into tape drives; nil: those of the configuration.
	TapeKeys tape.Encrypter

	// Remotes reaches other servers; nil: there is no way to them.
	Remotes Remotes
	// JobEnded hears of each run of a job that has ended; may be nil.
	JobEnded func(jobs.Job, upid.UPID, tasks.State)
	Journal  string // path of journalctl; default /usr/bin/journalctl
	Sendmail string // path of the program that takes mail; default /usr/sbin/sendmail
	// Silent says that nobody is notified of jobs, whatever the configuration says.
	Silent bool
}

// Remotes reaches the servers of remote.cfg.
type Remotes interface {
	// Open opens a datastore of a server.
	Open(ctx context.Context, r jobs.Remote, store string) (repo.Repository, error)
	// Stores lists the datastores that a server shows us.
	Stores(ctx context.Context, r jobs.Remote) ([]items.Store, error)
}

// Delays are how long after a request somebody hears of being refused.
type Delays struct {
	Unauthorized time.Duration // default: 3 s
	Forbidden    time.Duration // default: 500 ms
}

// Server is a backup server. Its methods are safe for concurrent use.
type Server struct {
	opt         Options
	log         *slog.Logger
	store       *accounts.Store
	gate        *accounts.Gate
	certificate *cert.Certificate
	stores      *stores.Set
	tasks       *tasks.Log
	usage       *usage.Record
	history     *history.Record
	schedule    *jobs.Scheduler
	tapes       *tapes.Tapes
	figures     *metrics.Counters
	table       *api.Table
	cache       *archive.Cache
	memory      *backupserver.Memory
	rates       rates
	machine     machine

	life context.Context // of tasks; ends after Grace
	end  context.CancelCauseFunc

	mu         sync.Mutex
	collecting map[string]bool      // datastores with a garbage collection
	sessions   map[names.AuthID]int // by who has them
	stopping   bool
}

// browseCache is the memory for chunks of archives that people look into.
const browseCache = 64 << 20

// New opens the files of a server, and makes those that are missing.
func New(opt Options) (_ *Server, err error) {
	setDefaults(&opt)
	if err := opt.Config.Make(); err != nil {
		return nil, err
	}
	s := &Server{
		opt: opt, log: opt.Log, store: accounts.NewStore(opt.Config, opt.Log),
		stores: stores.New(opt.Config), rates: newRates(opt.Limits),
		collecting: map[string]bool{}, sessions: map[names.AuthID]int{},
	}
	if s.gate, err = accounts.OpenGate(s.store, opt.Realms); err != nil {
		return nil, err
	}
	if s.certificate, err = cert.Open(opt.Config, opt.Log); err != nil {
		return nil, err
	}
	if s.usage, err = usage.Open(filepath.Join(opt.StateDir, "usage")); err != nil {
		return nil, err
	}
	if s.history, err = history.Open(filepath.Join(opt.StateDir, "history")); err != nil {
		return nil, err
	}
	s.figures = metrics.New(opt.Version)
	s.tasks, err = tasks.Open(tasks.Options{
		Ended: func(id upid.UPID, end tasks.State) { s.figures.Task(id.Type, string(end.Kind)) },
		Dir:   filepath.Join(opt.LogDir, "tasks"), Node: opt.Node, Location: opt.Location, Log: opt.Log,
	})
	if err != nil {
		return nil, err
	}
	if s.schedule, err = s.newScheduler(); err != nil {
		return nil, err
	}
	s.tapes = tapes.New(tapes.Options{
		Config: opt.Config, StateDir: opt.TapeDir, RunDir: opt.RunDir, Location: opt.Location, Version: opt.Version,
		Encrypter: opt.TapeKeys, Stores: s.stores, Start: s.StartTask, Ask: s.mediumWanted, Now: s.now,
		Running: func(id upid.UPID) bool { end, err := s.tasks.State(id); return end == nil && err == nil },
	})
	s.cache = archive.NewCache(browseCache)
	s.memory = backupserver.NewMemory(backupserver.MemoryOptions{})
	s.life, s.end = context.WithCancelCause(context.Background())
	s.table = s.calls()
	return s, nil
}

// calls is the table.
func (s *Server) calls() *api.Table {
	return api.NewTable(
		s.nodeCalls(), s.loginCalls(), s.accountCalls(), s.tfaCalls(), s.aclCalls(), s.storeCalls(), s.listCalls(), s.changeCalls(),
		s.moveCalls(), s.jobCalls(), s.jobConfigCalls(), s.jobRunCalls(), s.remoteCalls(), s.syncCalls(), s.noticeCalls(), s.historyCalls(), s.machineCalls(), s.metricsCalls(),
		s.downloadCalls(), s.browseCalls(), s.taskCalls(), s.configCalls(), s.bucketCalls(), s.sessionCalls(),
		s.tapes.Calls(), s.tapeJobCalls(),
	)
}

func setDefaults(o *Options) {
	dir := o.Config.Path()
	if o.LogDir == "" {
		o.LogDir = filepath.Join(dir, "log")
	}
	if o.StateDir == "" {
		o.StateDir = filepath.Join(dir, "state")
	}
	if o.JobDir == "" {
		o.JobDir = filepath.Join(o.StateDir, "jobstates")
	}
	if o.TapeDir == "" {
		o.TapeDir = filepath.Join(o.StateDir, "tape")
	}
	if o.RunDir == "" {
		o.RunDir = filepath.Join(o.StateDir, "run")
	}
	if o.Journal == "" {
		o.Journal = "/usr/bin/journalctl"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Location == nil {
		o.Location = time.Local
	}
	if o.Grace == 0 {
		o.Grace = 80 * time.Second
	}
	if o.Delay == (Delays{}) {
		o.Delay = Delays{3 * time.Second, 500 * time.Millisecond}
	}
	o.Limits = o.Limits.orDefaults()
}

// JobDir is where a server with these options keeps the states of jobs.
func JobDir(o Options) string {
	setDefaults(&o)
	return o.JobDir
}

func (s *Server) now() time.Time { return time.Now() }

// Table is all calls of the server.
func (s *Server) Table() *api.Table { return s.table }

// Fingerprint is that of the server's certificate.
func (s *Server) Fingerprint() string { return s.certificate.Fingerprint() }

// errStopping is the cause by which tasks end that are left when the server ends.
var errStopping = errors.New("the server was stopped")

// Close ends the server: no task begins any more; those that run have until ctx
// ends, and then end with its cause. It returns when all have ended.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	defer context.AfterFunc(ctx, func() { s.end(errStopping) })() // messages about jobs are not tried again for ever
	s.tasks.Close(ctx)
	s.schedule.Wait()
	s.end(errStopping)
	s.memory.Close()
	s.cache.Close()
	if err := s.stores.Close(); err != nil {
		return fmt.Errorf("close datastores: %w", err)
	}
	return nil
}
