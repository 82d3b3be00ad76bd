package remote_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/remote"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// fake is a server of another making: calls are answered from a table.
type fake struct {
	mu    sync.Mutex
	calls []string // method, path and parameters, in order
	says  map[string]func(w http.ResponseWriter, r *http.Request)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	name := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/api2/json")
	f.mu.Lock()
	f.calls = append(f.calls, name+" "+r.Form.Encode())
	f.mu.Unlock()
	if say, ok := f.says[name]; ok {
		say(w, r)
		return
	}
	if name == "POST /access/ticket" {
		data(`{"username":"root@pam","ticket":"PBS:root@pam:66F00000::sig+nature","CSRFPreventionToken":"66F00000:x"}`)(w, r)
		return
	}
	http.Error(w, "Path not found", http.StatusNotFound)
}

// made lists the calls of one method and path.
func (f *fake) made(name string) (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		if strings.HasPrefix(c, name+" ") {
			list = append(list, strings.TrimPrefix(c, name+" "))
		}
	}
	return list
}

func data(json string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		_, _ = w.Write([]byte(`{"data":` + json + `}`))
	}
}

func refuse(status int, text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
	}
}

// askFake opens the fake server's datastore. Pauses take no time.
func askFake(t *testing.T, f *fake) *remote.Repository {
	t.Helper()
	s := httptest.NewUnstartedServer(f)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	a := addressOf(t, s.Listener.Addr().String(), "root@pam")
	return open(t, a, remote.Options{
		Fingerprint: address.FingerprintOf(s.Certificate().Raw),
		Password:    func(context.Context) (secret.Secret, error) { return secret.New([]byte("secret")), nil },
		Sleep:       func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
}

type says = map[string]func(http.ResponseWriter, *http.Request)

const tank = "/admin/datastore/tank/"

func TestOnlyQuestionsAreAskedAgain(t *testing.T) {
	cut := func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = c.(interface{ NetConn() net.Conn }).NetConn().Close()
		}
	}
	var n atomic.Int64
	f := &fake{says: says{
		"GET " + tank + "groups": func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) < 3 {
				cut(w, r)
				return
			}
			data(`[]`)(w, r)
		},
		"GET " + tank + "status":       cut,
		"PUT " + tank + "notes":        cut,
		"DELETE " + tank + "snapshots": cut,
	}}
	r := askFake(t, f)
	if _, err := r.Groups(t.Context(), names.Root); err != nil {
		t.Errorf("a list after two broken connections: %v", err)
	}
	if _, err := r.Usage(t.Context()); err == nil || len(f.made("GET "+tank+"status")) < 3 {
		t.Errorf("a question without an answer: %v, asked %d times", err, len(f.made("GET "+tank+"status")))
	}
	if err := r.SetNotes(t.Context(), vm100, "x"); err == nil || len(f.made("PUT "+tank+"notes")) != 1 {
		t.Errorf("a change: %v, made %d times", err, len(f.made("PUT "+tank+"notes")))
	}
	if err := r.Forget(t.Context(), vm100); err == nil || len(f.made("DELETE "+tank+"snapshots")) != 1 {
		t.Errorf("a removal: %v, made %d times", err, len(f.made("DELETE "+tank+"snapshots")))
	}
}

func TestExpiredTicketIsReplacedOnce(t *testing.T) {
	var n atomic.Int64
	f := &fake{says: says{
		"GET " + tank + "groups": func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 2 {
				refuse(401, "authentication failed - invalid ticket")(w, r)
				return
			}
			if got := r.Header.Get("Cookie"); got != "PBSAuthCookie=PBS%3Aroot%40pam%3A66F00000%3A%3Asig%2Bnature" {
				t.Errorf("cookie %q", got)
			}
			data(`[]`)(w, r)
		},
		"GET " + tank + "status": refuse(401, "authentication failed"),
		"PUT " + tank + "notes": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("CSRFPreventionToken") != "66F00000:x" {
				t.Error("a change without its token")
			}
			data(`null`)(w, r)
		},
	}}
	r := askFake(t, f)
	for range 2 {
		if _, err := r.Groups(t.Context(), names.Root); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(f.made("POST /access/ticket")); got != 2 {
		t.Errorf("%d logins, want 2", got)
	}
	if _, err := r.Usage(t.Context()); !errors.Is(err, remote.ErrLogin) || len(f.made("GET "+tank+"status")) != 2 {
		t.Errorf("a server that lets nobody in: %v", err)
	}
	if err := r.SetNotes(t.Context(), vm100, "x"); err != nil {
		t.Error(err)
	}
}

func TestOlderServersAreAskedInTheirOwnWords(t *testing.T) {
	f := &fake{says: says{
		"GET /version":                 data(`{"version":"3.1","release":"2","repoid":"x"}`),
		"GET " + tank + "snapshots":    data(`[{"backup-type":"vm","backup-id":"100","backup-time":5,"files":[{"filename":"index.json.blob","crypt-mode":"none","size":5}],"protected":false,"owner":"root@pam","size":5}]`),
		"DELETE " + tank + "groups":    data(`true`),
		"GET " + tank + "namespace":    data(`[{"ns":""},{"ns":"a/b"},{"ns":"a","comment":"x"}]`),
		"DELETE " + tank + "namespace": refuse(400, "cannot remove namespace: it is not empty"),
	}}
	r := askFake(t, f)
	res, err := r.ForgetGroup(t.Context(), names.Root, vm100.Group)
	if err != nil || res.Removed != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	if got := f.made("DELETE " + tank + "groups"); len(got) != 1 || got[0] != "backup-id=100&backup-type=vm" {
		t.Errorf("asked with %q", got)
	}
	if got, err := r.Namespaces(t.Context(), names.Root); err != nil || fmt.Sprint(got) != "[a a/b]" {
		t.Errorf("namespaces %q, %v", got, err)
	}
}

func TestWhatIsNoBackupServerIsFoundOut(t *testing.T) {
	page := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>Welcome")) }
	for name, say := range map[string]func(http.ResponseWriter, *http.Request){
		"a page": page,
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://example.org/", http.StatusFound)
		},
		"another JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"x":1}`))
		},
		"another data": data(`{"x":1}`),
		"a bad name":   data(`[{"backup-type":"vm","backup-id":"../x","files":[]}]`),
		"a bad type":   data(`[{"backup-type":"../vm","backup-id":"x","files":[]}]`),
	} {
		r := askFake(t, &fake{says: says{"GET " + tank + "groups": say, "GET /backup": page}})
		if got, err := r.Groups(t.Context(), names.Root); err == nil {
			t.Errorf("%s: %v", name, got)
		}
		if _, err := r.Begin(t.Context(), repo.Begin{Snapshot: vm100}); err == nil || !strings.Contains(err.Error(), "is this a backup server") {
			t.Errorf("a session with %s: %v", name, err)
		}
	}
	r := askFake(t, &fake{says: says{"POST /access/ticket": data(`{"username":"root@pam","ticket":"PBS:!tfa!%7B%7D:66F00000::x","CSRFPreventionToken":"invalid"}`)}})
	if _, err := r.Groups(t.Context(), names.Root); !errors.Is(err, remote.ErrLogin) || !strings.Contains(err.Error(), "API token") {
		t.Errorf("a second factor: %v", err)
	}
}

const task = "UPID:pbs1:00000A2B:0003F1C2:00000007:66F00000:garbage_collection:tank:root@pam:"

// log answers with the lines of a task, at most a page of them.
func log(lines []string, active *atomic.Int64) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		var start, limit int
		_, _ = fmt.Sscan(r.Form.Get("start"), &start)
		_, _ = fmt.Sscan(r.Form.Get("limit"), &limit)
		var out []string
		for i := max(start, 1); i <= len(lines) && len(out) < limit; i++ {
			out = append(out, fmt.Sprintf(`{"n":%d,"t":%q}`, i, lines[i-1]))
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"data":[%s],"total":%d,"success":1,"active":%v}`, strings.Join(out, ","), len(lines), active.Add(-1) > 0)
	}
}

func TestLongLogOfATaskIsReadToItsEnd(t *testing.T) {
	lines := []string{"2026-01-01T00:00:00+00:00: starting", "2026-01-01T00:00:00+00:00: WARN: a chunk is missing"}
	for i := range 1300 {
		lines = append(lines, fmt.Sprintf("2026-01-01T00:00:00+00:00: marked %d%% (%d of 1300 index files)", i*100/1300, i))
	}
	lines = append(lines, "2026-01-01T00:00:00+00:00: processed 50% (5 chunks)", "2026-01-01T00:00:00+00:00: TASK WARNINGS: 1")
	path := "/nodes/localhost/tasks/" + task
	var active atomic.Int64
	active.Store(5)
	f := &fake{says: says{
		"POST " + tank + "gc":     data(`"` + task + `"`),
		"GET " + tank + "gc":      data(`{"store":"tank","upid":"` + task + `","index-file-count":7,"disk-bytes":5}`),
		"GET " + path + "/log":    log(lines, &active),
		"GET " + path + "/status": data(`{"upid":"` + task + `","status":"stopped","exitstatus":"WARNINGS: 1"}`),
	}}
	r := askFake(t, f)
	var seen []repo.GCProgress
	st, err := r.GC(t.Context(), repo.GCOptions{Progress: func(p repo.GCProgress) { seen = append(seen, p) }})
	if err != nil || st.IndexFiles != 7 || len(st.Warnings) != 1 || st.Warnings[0] != "a chunk is missing" {
		t.Fatalf("%+v, %v", st, err)
	}
	if last := (repo.GCProgress{Phase: "sweep", Done: 50, Total: 100, Of: "percent"}); len(seen) != 1301 || seen[1300] != last || seen[0].Phase != "mark" {
		t.Errorf("%d steps, the last %+v", len(seen), seen[len(seen)-1])
	}
	if got := f.made("GET " + path + "/log"); len(got) < 4 || !strings.Contains(got[1], "start=501") {
		t.Errorf("asked with %q", got)
	}
}

func TestTaskThatFailsSaysWhy(t *testing.T) {
	path := "/nodes/localhost/tasks/" + task
	var active atomic.Int64
	f := &fake{says: says{
		"POST " + tank + "gc":     data(`"` + task + `"`),
		"GET " + path + "/log":    log([]string{"x: TASK ERROR: unable to get exclusive lock"}, &active),
		"GET " + path + "/status": data(`{"upid":"` + task + `","status":"stopped","exitstatus":"unable to get exclusive lock"}`),
	}}
	_, err := askFake(t, f).GC(t.Context(), repo.GCOptions{})
	e, ok := errors.AsType[*remote.TaskError](err)
	if !ok || e.UPID != task || !strings.Contains(err.Error(), "unable to get exclusive lock") {
		t.Errorf("err = %v", err)
	}
	if _, err := askFake(t, f).GC(t.Context(), repo.GCOptions{DryRun: true}); err == nil {
		t.Error("a trial run on a server")
	}
}

func TestInterruptedTaskIsStopped(t *testing.T) {
	path := "/nodes/localhost/tasks/" + task
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	var active atomic.Int64
	active.Store(1 << 40)
	lines := log([]string{"x: starting"}, &active)
	f := &fake{says: says{
		"POST " + tank + "gc":  data(`"` + task + `"`),
		"DELETE " + path:       data(`null`),
		"GET " + path + "/log": func(w http.ResponseWriter, r *http.Request) { lines(w, r); cancel(why) },
	}}
	if _, err := askFake(t, f).GC(ctx, repo.GCOptions{}); !errors.Is(err, why) && !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	if got := f.made("DELETE " + path); len(got) != 1 {
		t.Errorf("the task was asked to stop %d times", len(got))
	}
}

func TestPrunedSnapshotThatIsStillThereIsTold(t *testing.T) {
	f := &fake{says: says{
		"POST " + tank + "prune": data(`[{"backup-type":"vm","backup-id":"100","backup-time":5,"keep":false,"protected":false},` +
			`{"backup-type":"vm","backup-id":"100","backup-time":6,"keep":true,"protected":false}]`),
		"GET " + tank + "snapshots": data(`[{"backup-type":"vm","backup-id":"100","backup-time":5,"files":[],"protected":false}]`),
	}}
	got, err := askFake(t, f).Prune(t.Context(), repo.PruneOptions{Group: &vm100.Group})
	if err != nil || len(got) != 2 || got[0].Err == nil || got[1].Err != nil {
		t.Errorf("%+v, %v", got, err)
	}
}
