package server_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/upid"
)

// raw sends bytes on a connection of its own and returns the status lines and all
// else that comes back until the server closes it, or answers once.
func (s *site) raw(text string) string {
	s.t.Helper()
	c := s.dial()
	defer c.Close()
	_, _ = io.WriteString(c, text) // the server may close it before it has all
	return first(c)
}

func (s *site) dial() *tls.Conn {
	s.t.Helper()
	d := net.Dialer{Timeout: 10 * time.Second}
	c, err := tls.DialWithDialer(&d, "tcp", s.addr, &tls.Config{InsecureSkipVerify: true})
	s.ok(err)
	s.ok(c.SetDeadline(time.Now().Add(30 * time.Second)))
	return c
}

// first is the first answer on a connection: status and body.
func first(c net.Conn) string {
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "no answer: " + err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, b)
}

func TestRequestsThatNobodyShouldSend(t *testing.T) {
	s := newSite(t).start()
	c := s.login("admin@pbs")
	head := "Host: x\r\nCookie: " + c.cookie + "\r\n"
	get := func(target string) string { return "GET " + target + " HTTP/1.1\r\n" + head + "\r\n" }
	for _, tc := range []struct{ name, text, want string }{
		{"no Host, as the Go client upgrades", "GET /api2/json/version HTTP/1.1\r\nCookie: " + c.cookie + "\r\n\r\n", "200 "},
		{"doubled slashes", get("//api2//json///version"), "200 "},
		{"traversal", get("/api2/json/../../etc/passwd"), "400 "},
		{"escaped traversal", get("/api2/json/%2e%2e/version"), "400 "},
		{"half escaped traversal", get("/api2/json/.%2e/version"), "400 "},
		{"traversal in a store", get("/api2/json/admin/datastore/..%2f..%2fetc/groups"), "400 "},
		{"slash in a store", get("/api2/json/admin/datastore/a%2fb/groups"), "400 parameter verification failed"},
		{"zero byte", get("/api2/json/admin/datastore/tank%00/groups"), "400 "},
		{"broken escape", get("/api2/json/%zz"), "400 "},
		{"no path", get("*"), "4"},
		{"long path", get("/api2/json/" + strings.Repeat("a", 30000)), "414 URI too long"},
		{"long query", get("/api2/json/version?a=" + strings.Repeat("a", 30000)), "414 URI too long"},
		{"huge header", "GET /api2/json/version HTTP/1.1\r\n" + head + "X: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", "431 "},
		{"many headers", "GET /api2/json/version HTTP/1.1\r\n" + head + strings.Repeat("X: y\r\n", 100000) + "\r\n", "431 "},
		{"two lengths", "POST /api2/json/access/ticket HTTP/1.1\r\n" + head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400 "},
		{"length and chunks", "POST /api2/json/access/ticket HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 "},
		{"broken chunks", "POST /api2/json/access/ticket HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400 "},
		{"negative length", "POST /api2/json/access/ticket HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "400 "},
		{"no HTTP", "\x00\x01\x02\x03\r\n\r\n", "400 "},
		{"HTTP/2 without an upgrade", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "4"},
		{"another scheme", get("ftp://x/api2/json/version"), "200 "},
		{"deep JSON", "POST /api2/json/access/ticket HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("[", 200000), "400 "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := s.raw(tc.text); !strings.HasPrefix(got, tc.want) {
				t.Errorf("%.200s, want %s", got, tc.want)
			}
		})
	}
	c.get("/version").want(200, "4.2") // it is still there
}

func TestABodyOfAnErrorIsReadBeforeTheAnswer(t *testing.T) {
	s := newSite(t).start()
	// A client that reads no answer before it has sent all of its 8 MiB, to a call
	// that nobody may make without a login; and goes on with the connection.
	c := s.dial()
	defer c.Close()
	_, err := io.WriteString(c, "POST /api2/json/admin/datastore/tank/upload-backup-log HTTP/1.1\r\nHost: x\r\nContent-Length: 8388608\r\n\r\n"+strings.Repeat("x", 8<<20))
	s.ok(err)
	r := bufio.NewReader(c)
	for _, want := range []int{401, 200} {
		resp, err := http.ReadResponse(r, nil)
		s.ok(err)
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != want {
			t.Errorf("%d, %v, want %d", resp.StatusCode, err, want)
		}
		_, _ = io.WriteString(c, "GET /api2/json/ping HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	s.login("admin@pbs").send("POST", "/api2/json/no/such/call", "application/octet-stream", strings.Repeat("x", 8<<20)).want(404, "not found")
	// Who waits for leave to send gets the answer at once.
	got := s.raw("POST /api2/json/admin/datastore/tank/gc HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n")
	if !strings.HasPrefix(got, "401 ") {
		t.Errorf("with Expect: %s", got)
	}
}

func TestAConnectionServesManyRequestsAndPipelines(t *testing.T) {
	s := newSite(t).start()
	c := s.dial()
	defer c.Close()
	_, err := io.WriteString(c, strings.Repeat("GET /api2/json/ping HTTP/1.1\r\nHost: x\r\n\r\n", 50))
	s.ok(err)
	r := bufio.NewReader(c)
	for i := range 50 {
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("answer %d: %v, %v", i, resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
}

func TestHundredThousandRequestsLeaveNothingBehind(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a while")
	}
	s := newSite(t)
	s.opt.Limits.Requests = 1e9
	s.start()
	s.client().get("/ping").want(200, "pong")
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c := s.dial()
			defer c.Close()
			r := bufio.NewReader(c)
			for range 25000 / 100 {
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				_, _ = io.WriteString(c, strings.Repeat("GET /api2/json/ping HTTP/1.1\r\nHost: x\r\n\r\n", 100))
				for range 100 {
					resp, err := http.ReadResponse(r, nil)
					if err != nil || resp.StatusCode != 200 {
						t.Errorf("%v, %v", resp, err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
				}
			}
		})
	}
	wg.Wait()
	if n := strings.Count(s.log.String(), "msg=request"); n != 100001 {
		t.Errorf("%d lines in the log", n)
	}
	for range 500 {
		if runtime.NumGoroutine() <= before {
			break
		}
		time.Sleep(10 * time.Millisecond) // connections take a moment to end
	}
	if now := runtime.NumGoroutine(); now > before {
		t.Errorf("%d goroutines, %d before", now, before)
	}
	s.log.mu.Lock()
	s.log.b.Reset() // not to be shown
	s.log.mu.Unlock()
}

func TestTooManyRequestsAreSlowedDownAndRefused(t *testing.T) {
	s := newSite(t)
	s.opt.Limits.Requests, s.opt.Limits.Burst = 1, 3
	s.start()
	c := s.client()
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[int]int{}
	for range 30 {
		wg.Go(func() {
			r := c.get("/ping")
			mu.Lock()
			defer mu.Unlock()
			got[r.Status]++
			if r.Status == 429 && r.Header.Get("Retry-After") == "" {
				t.Error("nobody says when to come again")
			}
		})
	}
	wg.Wait()
	if got[200] < 3 || got[429] < 5 || got[200]+got[429] != 30 {
		t.Errorf("the answers are %v", got)
	}
}

func TestConnectionsBeyondTheLimitAreClosed(t *testing.T) {
	s := newSite(t)
	s.opt.Limits.PerAddress = 3
	s.start()
	var open []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", s.addr)
		s.ok(err)
		open = append(open, c)
	}
	closed := func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			return true
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
		_, err = c.Read(make([]byte, 1))
		ne, ok := errors.AsType[net.Error](err)
		return !ok || !ne.Timeout()
	}
	if !closed() {
		t.Error("the fourth connection stays")
	}
	for _, c := range open {
		_ = c.Close()
	}
	for range 100 {
		if !closed() {
			return
		}
		time.Sleep(20 * time.Millisecond) // until the server has seen that they ended
	}
	t.Error("there is no room after all connections ended")
}

func TestASlowBodyDoesNotHoldTheServer(t *testing.T) {
	s := newSite(t)
	s.opt.Grace = time.Second
	s.start()
	const n = 20
	for range n { // they say that they send a login, and do not
		c := s.dial()
		defer c.Close()
		_, err := io.WriteString(c, "POST /api2/json/access/ticket HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nusername=")
		s.ok(err)
	}
	s.login("admin@pbs").get("/version").want(200, "4.2")
	s.ok(s.stop()) // and the end does not wait for them longer than it should
}

func TestTaskLogsArePagedAsClientsPageThem(t *testing.T) {
	s := newSite(t)
	s.addUser("other@pbs")
	s.start()
	c := s.login("admin@pbs")
	id := s.gcTask(c)
	at := "/nodes/localhost/tasks/" + pathEscape(id)
	type page struct {
		Data []struct {
			N int
			T string
		}
		Total, Success int
		Active         *bool
	}
	read := func(params ...string) (p page) {
		t.Helper()
		c.get(at+"/log", params...).json(&p)
		return p
	}
	all := read("limit", "0")
	if all.Total < 5 || len(all.Data) != all.Total || all.Success != 1 || all.Active != nil || !strings.HasSuffix(all.Data[all.Total-1].T, ": TASK OK") {
		t.Fatalf("the log is %+v", all)
	}
	var lines []string
	for start := 1; ; {
		p := read("start", fmt.Sprint(start), "limit", "2", "test-status", "true")
		if p.Active == nil || *p.Active || p.Total != all.Total || start+1 < all.Total && len(p.Data) != 2 {
			t.Fatalf("the page from %d is %+v", start, p)
		}
		for _, l := range p.Data {
			if l.N != start {
				t.Fatalf("line %d comes as %d", start, l.N)
			}
			lines = append(lines, l.T)
			start++
		}
		if start > p.Total {
			break
		}
	}
	if len(lines) != all.Total {
		t.Errorf("paging gives %d lines of %d", len(lines), all.Total)
	}
	if p := read("start", "1000"); p.Total != all.Total || p.Data == nil || len(p.Data) != 0 {
		t.Errorf("behind the end: %+v", p)
	}
	r := c.get(at+"/log", "download", "1")
	if r.Header.Get("Content-Type") != "text/plain" || r.Body != strings.Join(lines, "\n")+"\n" || !strings.HasPrefix(r.Header.Get("Content-Disposition"), `attachment; filename="task-pbs1-garbage_collection-`) {
		t.Errorf("the download is %q with %v", r.Body, r.Header)
	}
	u, err := upid.Parse(id)
	s.ok(err)
	var st struct {
		UPID, Node, Type, ID, User, Status, Exitstatus string
		PID, PStart, Starttime, Endtime                int64
	}
	c.get(at + "/status").data(&st)
	if st.UPID != id || st.Node != "pbs1" || st.Type != "garbage_collection" || st.ID != "tank" || st.User != "admin@pbs" || st.Status != "stopped" ||
		st.Exitstatus != "OK" || st.PID != int64(u.PID) || st.PStart != int64(u.PStart) || st.Starttime != u.Time || st.Endtime < u.Time {
		t.Errorf("the status is %+v", st)
	}
	c.get("/nodes/localhost/tasks", "limit", "1").want(200, `"node":"localhost","pid":`)
	c.get("/nodes/localhost/tasks", "limit", "1").want(200, `"total":2`)
	c.get("/nodes/localhost/tasks", "statusfilter[]", "error", "statusfilter[]", "warning").want(200, `{"data":[],"total":0}`)
	c.get("/nodes/localhost/tasks", "running", "1").want(200, `{"data":[],"total":0}`)
	c.get("/nodes/localhost/tasks/"+pathEscape(strings.Replace(id, "tank", "tonk", 1))+"/log").want(400, "no such task")
	c.get("/nodes/localhost/tasks/nonsense/log").want(400, "'upid'")
	evil := "UPID:pbs1:00000001:00000001:00000001:00000001:x/../../../../etc/passwd:y:admin@pbs:"
	if r := c.get("/nodes/localhost/tasks/" + pathEscape(evil) + "/log"); r.Status != 400 {
		t.Errorf("a UPID with a path in it: %d %s", r.Status, r.Body)
	}
	other := s.login("other@pbs")
	other.get("/nodes/localhost/tasks").want(200, `{"data":[],"total":0}`)
	other.get(at+"/log").want(403, "task access not allowed")
	other.del(at).want(403, "Sys.Modify")
	s.grant("/datastore/tank", "other@pbs", "DatastoreAdmin")
	other.get(at+"/log").want(200, "TASK OK") // they could have started it
}

func TestTasksOfADeadServerAreUnknown(t *testing.T) {
	s := newSite(t)
	id := upid.UPID{Node: "pbs1", PID: 0x7fffffff, PStart: 0x12, Time: day1, Type: "verify", Worker: "tank", Auth: "admin@pbs"}
	dir := filepath.Join(s.conf.Path(), "log/tasks")
	s.ok(os.MkdirAll(filepath.Join(dir, "12"), 0o755))
	s.ok(os.WriteFile(filepath.Join(dir, "12", id.String()), []byte("2024-06-05T15:06:41+00:00: verify\n"), 0o644))
	s.ok(os.WriteFile(filepath.Join(dir, "active"), []byte(id.String()+"\n"), 0o644))
	c := s.start().login("admin@pbs")
	c.get("/nodes/localhost/tasks").want(200, `"endtime":1717600001,"status":"unknown"`)
	c.get("/nodes/localhost/tasks/"+pathEscape(id.String())+"/status").want(200, `"exitstatus":"unknown"`)
}

func TestATaskIsStopped(t *testing.T) {
	s := newSite(t).start()
	c := s.login("admin@pbs")
	r := c.post("/admin/datastore/tank/gc") // waits a second for its check of access times
	var id string
	r.data(&id)
	c.post("/admin/datastore/tank/gc").want(400, "already running")
	c.get("/nodes/localhost/tasks", "running", "1").want(200, id[:20])
	c.del("/nodes/localhost/tasks/"+pathEscape(id)).want(200, `{"data":null}`)
	if end := c.wait(r); end != "garbage collection: abort requested - aborting task" {
		t.Errorf("the task ended with %q", end)
	}
	if end := c.wait(c.post("/admin/datastore/tank/gc")); end != "OK" {
		t.Errorf("the next one ended with %q", end)
	}
}

func TestTheEndWaitsForTasksAndThenStopsThem(t *testing.T) {
	for _, tc := range []struct {
		grace time.Duration
		want  string
	}{{time.Minute, "OK"}, {time.Millisecond, "garbage collection: the server was stopped"}} {
		s := newSite(t)
		s.opt.Grace = tc.grace
		s.start()
		r := s.login("admin@pbs").post("/admin/datastore/tank/gc")
		r.data(nil)
		s.ok(s.stop())
		s.stop = nil
		s.start()
		s.login("admin@pbs").get("/nodes/localhost/tasks").want(200, `"status":"`+tc.want+`"`)
	}
}
