package server

import (
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1/backupserver"
	"github.com/holdfast-backup/holdfast/internal/proto/readerv1/readerserver"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

// sessionCalls are the two calls that become a connection of another protocol.
func (s *Server) sessionCalls() []api.Call {
	return []api.Call{
		{
			Method: "GET", Path: "/backup", Doc: "Write a snapshot: the connection becomes one of proxmox-backup-protocol-v1.",
			Guard: content(access.CallBackup), Params: snapParams(debugLog, benchmark, noCache), Others: true,
			Do: api.Stream("application/http", s.backup).WithBody(),
		},
		{
			Method: "GET", Path: "/reader", Doc: "Read a snapshot: the connection becomes one of proxmox-backup-reader-protocol-v1.",
			Guard:  api.LoggedIn("Needs Datastore.Read on /datastore/{store}[/{ns}]; with Datastore.Backup for groups of one's own. The status is 400 without."),
			Params: snapParams(debugLog), Others: true, Do: api.Stream("application/http", s.reader).WithBody(),
		},
	}
}

var (
	debugLog  = api.Bool("debug", "Calls are named in the log of the task, the first 20,000.").Default(false)
	benchmark = api.Bool("benchmark", "Nothing is kept: the group is host/benchmark.").Default(false)
	noCache   = api.Bool("no-cache", "Chunks do not go through a cache; there is none here.").Default(false)
)

func upgradeRequest(r *api.Request) upgrade.Request {
	return upgrade.Request{Store: params.store.Of(r), Snapshot: snapOf(r), Debug: debugLog.Of(r)}
}

// backup writes a snapshot.
func (s *Server) backup(w http.ResponseWriter, r *api.Request) (err error) {
	req := upgradeRequest(r)
	req.Benchmark, req.NoCache = benchmark.Of(r), noCache.Of(r)
	leave, err := s.needSession(r.Caller)
	if err != nil {
		return err
	}
	defer leave()
	h, err := s.stores.Open(req.Store, stores.Write)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := upgrade.Check(r.HTTP, upgrade.Backup); err != nil {
		return err
	}
	log := new(lateLog)
	ses, err := backupserver.Begin(s.life, backupserver.Config{
		Repo: h, Request: req, Auth: r.Caller, Memory: s.memory, Hidden: hidden(r), Log: log.Logf, Trouble: s.log,
	})
	if err != nil {
		return err
	}
	j := job{"backup", fmt.Sprintf("%s:%s", req.Store, req.Snapshot.Group)}
	if req.Benchmark {
		j.typ = "benchmark"
	}
	t, conn, err := s.take(w, r, j, upgrade.Backup)
	if err != nil {
		return errors.Join(err, ses.End(err))
	}
	t.Logf("starting new %s on datastore '%s' from %s: \"%s\"", j.typ, req.Store, r.Peer, req.Snapshot.Path())
	log.begin(t)
	err = ses.Serve(t.Context(), conn)
	t.End(err)
	if err == nil && !req.Benchmark && h.Config.VerifyNew {
		err = s.verifyNew(req, r.Caller)
	}
	return err
}

// hidden says which files of the previous snapshot a writer may not have: one that
// may not read backups gets what it needs to add to them, and no more.
func hidden(r *api.Request) func(names.Archive) bool {
	if reach(r, access.CallPreviousBlob) != access.None {
		return nil // the group is the caller's: that was checked
	}
	return func(a names.Archive) bool { return a.Kind() == names.Blob && a != names.Manifest }
}

// reader reads a snapshot.
func (s *Server) reader(w http.ResponseWriter, r *api.Request) (err error) {
	req := upgradeRequest(r)
	if err := r.Policy.Require(r.Caller, req.Store, req.Snapshot.NS, access.CallRestore); err != nil {
		return rest.Errorf(http.StatusBadRequest, "permission check failed: %w", err)
	}
	leave, err := s.needSession(r.Caller)
	if err != nil {
		return err
	}
	defer leave()
	return s.withGroup(r.HTTP.Context(), r, access.CallRestore, stores.Read, func(h *stores.Handle) error {
		if err := upgrade.Check(r.HTTP, upgrade.Reader); err != nil {
			return err
		}
		log := new(lateLog)
		ses, err := readerserver.Open(s.life, readerserver.Config{Repo: h, Request: req, Log: log.Logf, Trouble: s.log})
		if err != nil {
			return err
		}
		worker := fmt.Sprintf("%s:%s/%08X", req.Store, req.Snapshot.Group, req.Snapshot.Time)
		t, conn, err := s.take(w, r, job{"reader", worker}, upgrade.Reader)
		if err != nil {
			return errors.Join(err, ses.Close())
		}
		t.Logf("starting new backup reader datastore '%s' from %s: \"%s\"", req.Store, r.Peer, req.Snapshot.Path())
		log.begin(t)
		err = ses.Serve(t.Context(), conn)
		t.Logf("reader finished")
		t.End(err)
		return err
	})
}

// take begins the task of a session and takes the connection over.
func (s *Server) take(w http.ResponseWriter, r *api.Request, j job, protocol string) (*tasks.Task, *upgrade.Conn, error) {
	t, err := s.tasks.Begin(s.life, j.by(r.Caller))
	if err != nil {
		return nil, nil, rest.Errorf(http.StatusServiceUnavailable, "%w", err)
	}
	conn, err := upgrade.Accept(w, protocol)
	if err != nil {
		t.End(err)
		return nil, nil, err
	}
	if a, ok := w.(*answer); ok {
		a.taken, a.status = true, http.StatusSwitchingProtocols
		a.visit.name = j.typ + " " + j.worker
	}
	return t, conn, nil
}

// verifyNew starts the verification of a backup that has come.
func (s *Server) verifyNew(req upgrade.Request, auth names.AuthID) error {
	n := req.Snapshot
	_, err := s.StartVerify(Verify{
		Store: req.Store, NS: n.NS, Group: &n.Group, Time: n.Time, Auth: auth,
		Type: "verify", Worker: fmt.Sprintf("%s:%s/%08X", req.Store, n.Group, n.Time),
	})
	if err != nil {
		return fmt.Errorf("start the verification of %s: %w", n, err)
	}
	return nil
}

// lateLog keeps what a session says before its task has begun.
type lateLog struct {
	mu    sync.Mutex
	lines []string
	task  *tasks.Task
}

// Logf writes a line.
func (l *lateLog) Logf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.task != nil {
		l.task.Logf(format, args...)
		return
	}
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *lateLog) begin(t *tasks.Task) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		t.Logf("%s", line)
	}
	l.task, l.lines = t, nil
}
