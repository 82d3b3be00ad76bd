package server

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

// taskCalls are the calls about tasks.
func (s *Server) taskCalls() []api.Call {
	const at = "/nodes/{node}/tasks"
	const own = "One's own tasks, those of one's API tokens, and with Sys.Audit on /system/tasks all."
	return []api.Call{
		{
			Method: "GET", Path: at, Doc: "List tasks, the youngest first.",
			Guard: api.LoggedIn(own),
			Params: []api.AnyParam{
				params.node, taskFilter.start, taskFilter.limit, taskFilter.running, taskFilter.errors, taskFilter.user, taskFilter.typ,
				taskFilter.status, params.store.Optional(), taskFilter.since, taskFilter.until,
			},
			Do: api.Data(s.listTasks),
		},
		{
			Method: "GET", Path: at + "/{upid}/status", Doc: "Show how a task is doing.",
			Guard: api.LoggedIn(own), Params: []api.AnyParam{params.node, params.upid}, Do: api.Data(s.taskStatus),
		},
		{
			Method: "GET", Path: at + "/{upid}/log", Doc: "Read the log of a task.",
			Guard:  api.LoggedIn(own),
			Params: []api.AnyParam{params.node, params.upid, logStart, logLimit, testStatus, logDownload},
			Do:     api.Returning[[]items.LogLine](api.Stream("application/json", s.taskLog)),
		},
		{
			Method: "DELETE", Path: at + "/{upid}", Doc: "Ask a task to stop.",
			Guard:  api.LoggedIn("One's own tasks, those of one's API tokens, and with Sys.Modify on /system/tasks all."),
			Params: []api.AnyParam{params.node, params.upid}, Do: api.Nothing(s.stopTask),
		},
	}
}

var taskFilter = struct {
	start, limit, since, until api.Param[int64]
	running, errors            api.Param[bool]
	user, typ                  api.Param[string]
	status                     api.Param[[]tasks.Kind]
}{
	start:   api.Int("start", "How many are left out.", 0, math.MaxInt32).Default(0),
	limit:   api.Int("limit", "How many are listed; 0: all.", 0, math.MaxInt32).Default(50),
	since:   api.Int("since", "Those that began then or later, seconds since 1970.", 0, math.MaxInt64).Optional(),
	until:   api.Int("until", "Those that began then or earlier.", 0, math.MaxInt64).Optional(),
	running: api.Bool("running", "Those that run.").Default(false),
	errors:  api.Bool("errors", "Those that did not end well.").Default(false),
	user:    api.Line("userfilter", "Those of users with this in their ids.", 256).Optional(),
	typ:     api.Line("typefilter", "Those with this in their type.", 256).Optional(),
	status:  api.List(api.Choice("statusfilter", "Those that ended so.", tasks.OK, tasks.Warned, tasks.Failed, tasks.Unknown)),
}

var (
	logStart    = api.Int("start", "The first line, counted from 1.", 0, math.MaxInt32).Default(0)
	logLimit    = api.Int("limit", "How many lines; 0: all.", 0, math.MaxInt32).Default(50)
	testStatus  = api.Bool("test-status", "Say whether the task runs.").Default(false)
	logDownload = api.Bool("download", "The log as a file.").Default(false)
)

// mayRead reports whether the caller of a request sees a task: those who could have
// started a job see its tasks too.
func mayRead(r *api.Request, id upid.UPID) bool {
	by, err := names.ParseAuthID(id.Auth)
	if err != nil {
		by = names.AuthID{User: "nobody"} // equal to no caller
	}
	if r.Policy.MayReadTask(r.Caller, by) {
		return true
	}
	store := tasks.StoreOf(id)
	var need access.Privs
	switch id.Type {
	case "garbage_collection", "prunejob":
		need = access.DatastoreModify
	case "verificationjob":
		need = access.DatastoreVerify
	case "syncjob":
		return maySeeSync(r, id.Worker)
	}
	return need != 0 && names.CheckStore(store) == nil &&
		r.Policy.RequireAny(r.Caller, access.StorePath(store, names.Root), need) == nil
}

// maySeeSync reports whether the caller of a request could have started a sync, of
// which only the worker id is known: "remote:remote-store:store:ns:job".
func maySeeSync(r *api.Request, worker string) bool {
	p := strings.Split(worker, ":")
	if len(p) != 5 || names.CheckStore(p[2]) != nil {
		return false
	}
	ns, err := names.ParseNamespace(p[3])
	if err != nil || r.Policy.RequireAny(r.Caller, access.StorePath(p[2], ns), access.DatastoreBackup) != nil {
		return false
	}
	if p[0] == "-" {
		return names.CheckStore(p[1]) == nil && r.Policy.RequireAny(r.Caller, access.StorePath(p[1], names.Root), access.DatastoreRead|access.DatastoreBackup) == nil
	}
	const need = access.RemoteRead | access.RemoteDatastoreBackup
	return names.IsSafeID(p[0]) && names.CheckStore(p[1]) == nil && r.Policy.RequireAny(r.Caller, access.RemotePath(p[0], p[1], names.Root), need) == nil
}

func needTask(r *api.Request) (upid.UPID, error) {
	id := params.upid.Of(r)
	if !mayRead(r, id) {
		return id, rest.Errorf(http.StatusForbidden, "task access not allowed")
	}
	return id, nil
}

func (s *Server) listTasks(_ context.Context, r *api.Request) ([]items.Task, error) {
	f := tasks.Filter{
		Running: taskFilter.running.Of(r), Errors: taskFilter.errors.Of(r), User: taskFilter.user.Of(r), Type: taskFilter.typ.Of(r),
		Store: params.store.Of(r), Since: taskFilter.since.Of(r), Until: taskFilter.until.Of(r), Kinds: taskFilter.status.Of(r),
		Start: int(taskFilter.start.Of(r)), Limit: int(taskFilter.limit.Of(r)),
		See: func(id upid.UPID) bool { return mayRead(r, id) },
	}
	infos, total, err := s.tasks.List(f)
	if err != nil {
		return nil, err
	}
	list := make([]items.Task, len(infos))
	for i, info := range infos {
		list[i] = taskItem(info)
	}
	r.Set("total", total)
	return list, nil
}

func taskItem(info tasks.Info) items.Task {
	id := info.ID
	item := items.Task{
		UPID: id.String(), Node: "localhost", PID: int64(id.PID), PStart: id.PStart, StartTime: id.Time,
		Type: id.Type, Worker: workerOf(id), User: id.Auth,
	}
	if info.State != nil {
		item.EndTime, item.Status = &info.State.End, info.State.String()
	}
	return item
}

func workerOf(id upid.UPID) *string {
	if id.Worker == "" {
		return nil
	}
	return &id.Worker
}

func (s *Server) taskStatus(_ context.Context, r *api.Request) (items.TaskStatus, error) {
	id, err := needTask(r)
	if err != nil {
		return items.TaskStatus{}, err
	}
	st := items.TaskStatus{
		UPID: id.String(), Node: id.Node, PID: int64(id.PID), PStart: id.PStart, StartTime: id.Time,
		Type: id.Type, Worker: workerOf(id), User: id.Auth, Status: "running",
	}
	if by, err := names.ParseAuthID(id.Auth); err == nil && by.IsToken() {
		st.Token = by.Token
		by.Token = ""
		st.User = by.String()
	}
	state, err := s.tasks.State(id)
	if err != nil {
		return items.TaskStatus{}, err
	}
	if state != nil {
		st.Status, st.ExitStatus = "stopped", state.String()
		if state.End > 0 {
			st.EndTime = &state.End
		}
	}
	return st, nil
}

// taskLog writes the lines as they are read.
func (s *Server) taskLog(w http.ResponseWriter, r *api.Request) error {
	id, err := needTask(r)
	if err != nil {
		return err
	}
	if logDownload.Of(r) {
		return s.sendLog(w, id)
	}
	// Asked before the log is read: what is written in between is read next time.
	active := s.tasks.Running(id)
	out := lineWriter{w: w}
	total, err := s.tasks.Lines(id, int(logStart.Of(r)), int(logLimit.Of(r)), out.line)
	if err != nil {
		return err
	}
	return out.end(total, active, testStatus.Of(r))
}

func (s *Server) sendLog(w http.ResponseWriter, id upid.UPID) error {
	f, err := s.tasks.Open(id)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // was only read
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Disposition", attachment(fmt.Sprintf("task-%s-%s-%s.log", id.Node, id.Type, id.Start().UTC().Format(time.RFC3339))))
	_, err = io.Copy(w, f)
	return err
}

func (s *Server) stopTask(_ context.Context, r *api.Request) error {
	id := params.upid.Of(r)
	by, err := names.ParseAuthID(id.Auth)
	if err != nil || !r.Policy.MayStopTask(r.Caller, by) {
		return &access.DeniedError{Need: access.SysModify, Path: "/system/tasks"}
	}
	s.tasks.Abort(id)
	return nil
}

// lineWriter writes the answer with a log.
type lineWriter struct {
	w     http.ResponseWriter
	begun bool
}

// line writes one line; the answer begins with the first.
func (l *lineWriter) line(n int, text string) error {
	sep := ","
	if !l.begun {
		sep = l.begin()
	}
	b, err := api.Marshal(items.LogLine{N: n, Text: text})
	if err != nil {
		return err
	}
	_, err = io.WriteString(l.w, sep+string(b))
	return err
}

func (l *lineWriter) begin() string {
	l.begun = true
	l.w.Header().Set("Content-Type", api.Media)
	return `{"data":[`
}

func (l *lineWriter) end(total int, active, tell bool) error {
	text := ""
	if !l.begun {
		text = l.begin()
	}
	text += `],"total":` + strconv.Itoa(total) + `,"success":1`
	if tell {
		text += `,"active":` + strconv.FormatBool(active)
	}
	_, err := io.WriteString(l.w, text+"}")
	return err
}
