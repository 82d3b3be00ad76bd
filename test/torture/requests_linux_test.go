package torture

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
	"github.com/holdfast-backup/holdfast/internal/repo/remote"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

var requests = flag.Int("requests", 20_000, "how many tiny requests a hostile client makes")

const mib = 1 << 20

// The memory that a server may take while it is flooded, beyond what it took when it
// was idle, and keep afterwards.
const (
	mayTake = 192 * mib
	mayKeep = 64 * mib
)

// A client with a token that may back up, and some that nobody knows, send as many
// tiny requests as they can: calls that there are, calls that there are not, with
// nonsense in them, on connections that are used again and on new ones, and in
// sessions. The server answers each, takes no more memory and files than it is
// allowed, and works as before for who comes then.
func TestAFloodOfTinyRequestsIsBorne(t *testing.T) {
	s := startServer(t)
	idle := s.memory()
	var answered atomic.Int64
	kinds := []struct {
		name  string
		parts int // of 100
		run   func(*served, int, *atomic.Int64) error
	}{
		{"calls", 40, (*served).calls},
		{"session", 50, (*served).session},
		{"connections that say nonsense", 2, (*served).nonsense},
		{"pipelined calls", 8, (*served).pipelined},
	}
	var wg sync.WaitGroup
	const clients = 4
	peak := s.watch()
	for _, k := range kinds {
		n := *requests * k.parts / 100 / clients
		for range clients {
			wg.Go(func() {
				if err := k.run(s, n, &answered); err != nil {
					t.Errorf("%s: %v", k.name, err)
				}
			})
		}
	}
	wg.Wait()
	took := peak()
	s.settle(idle)
	kept, files := s.memory(), s.files()
	t.Logf("%d requests answered; memory of the server: idle %d MiB, at most %d MiB, in the end %d MiB; %d descriptors, %d MiB of logs",
		answered.Load(), idle/mib, took/mib, kept/mib, files, s.logs()/mib)
	if want := int64(*requests) * 99 / 100; answered.Load() < want {
		t.Errorf("%d of %d requests were answered", answered.Load(), *requests)
	}
	if took > idle+mayTake || kept > idle+mayKeep {
		t.Errorf("the server took %d MiB, and keeps %d MiB", took/mib, kept/mib)
	}
	if files > 64 {
		t.Errorf("it keeps %d descriptors", files)
	}
	if s.logs() > 32*mib {
		t.Errorf("the logs of tasks have %d MiB", s.logs()/mib)
	}
	r, err := remote.Open(s.address, s.options())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Groups(t.Context(), names.Root); err != nil {
		t.Errorf("the server does not work any more: %v", err)
	}
}

// served is a server that runs, and a token that may back up.
type served struct {
	t       *testing.T
	dir     string
	pid     int
	address address.Address
	print   address.Fingerprint
	token   string
	secret  string
	next    atomic.Int64 // of groups
}

// startServer starts the program with a datastore and a token.
func startServer(t *testing.T) *served {
	t.Helper()
	r := &run{t: t, bin: *program, dir: t.TempDir()}
	s := &served{t: t, dir: r.dir, token: "flood@pbs!one"}
	if r.bin == "" {
		r.bin = filepath.Join(r.dir, "holdfast")
		tags := "-tags=" + os.Getenv("TAGS")
		if out, err := exec.CommandContext(t.Context(), "go", "build", tags, "-o", r.bin, "../../cmd/holdfast").CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	env := append(os.Environ(), "HOLDFAST_SERVER_CONFIG="+r.dir+"/conf", "PBS_NEW_USER_PASSWORD=a long password")
	do := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), r.bin, args...)
		cmd.Env, cmd.Dir = env, r.dir
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return out
	}
	do("init", "--lazy", "tank")
	do("server", "init")
	do("server", "datastore", "add", "tank", "tank", "--reuse")
	do("server", "user", "add", "flood@pbs")
	var token struct{ Value string }
	if err := json.Unmarshal(do("server", "token", "add", s.token, "--output-format", "json"), &token); err != nil {
		t.Fatal(err)
	}
	s.secret = token.Value
	for _, who := range []string{"flood@pbs", s.token} {
		do("server", "acl", "grant", "/datastore/tank", who, "DatastorePowerUser")
	}
	log, err := os.Create(filepath.Join(r.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), r.bin, "server", "run", "--listen", "127.0.0.1:0", "--max-requests", "1000000000")
	cmd.Env, cmd.Dir, cmd.Stderr = env, r.dir, log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
		_ = log.Close()
	})
	s.pid = cmd.Process.Pid
	line, err := bufio.NewReader(out).ReadString('\n')
	var at, print string
	if _, serr := fmt.Sscanf(line, "serving on %s fingerprint %s", &at, &print); err != nil || serr != nil {
		t.Fatalf("the server says %q: %v, %v", line, err, serr)
	}
	host, port, err := net.SplitHostPort(strings.TrimSuffix(at, ","))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	if s.print, err = address.ParseFingerprint(print); err != nil {
		t.Fatal(err)
	}
	auth, err := names.ParseAuthID(s.token)
	if err != nil {
		t.Fatal(err)
	}
	s.address = address.Address{Auth: auth, Host: host, Port: uint16(n), Store: "tank"}
	return s
}

func (s *served) options() remote.Options {
	return remote.Options{
		Fingerprint: s.print, Password: func(context.Context) (secret.Secret, error) { return secret.New([]byte(s.secret)), nil },
	}
}

func (s *served) dial() (*tls.Conn, error) {
	d := net.Dialer{Timeout: time.Minute}
	return tls.DialWithDialer(&d, "tcp", s.address.Server(), &tls.Config{InsecureSkipVerify: true})
}

func (s *served) authorization() string { return "PBSAPIToken " + s.token + ":" + s.secret }

// calls makes calls that there are, and that there are not.
func (s *served) calls(n int, answered *atomic.Int64) error {
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxConnsPerHost: 1}
	defer tr.CloseIdleConnections()
	paths := []string{
		"GET /api2/json/ping", "GET /api2/json/version", "GET /", "GET /api2/json/no/such/path", "GET /api2/json/admin/datastore/tank/groups",
		"GET /api2/json/nodes/localhost/tasks?limit=1", "GET /api2/json/admin/datastore/tank/snapshots?backup-type=none", "PUT /api2/json/version",
		"POST /api2/json/admin/datastore/tank/prune?backup-type=vm&backup-id=1", "GET /api2/xml/ping", "GET /%2e%2e/etc/passwd",
	}
	for i := range n {
		method, path, _ := strings.Cut(paths[i%len(paths)], " ")
		req, err := http.NewRequestWithContext(s.t.Context(), method, "https://"+s.address.Server()+path, nil)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", s.authorization())
		if err := drain(tr.RoundTrip(req)); err != nil {
			return err
		}
		answered.Add(1)
	}
	return nil
}

func drain(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// session makes calls in backup sessions, 100,000 in each: more than their logs take.
func (s *served) session(n int, answered *atomic.Int64) error {
	const each = 100_000
	for n > 0 {
		if err := s.oneSession(min(n, each), answered); err != nil {
			return err
		}
		n -= each
	}
	return nil
}

func (s *served) oneSession(n int, answered *atomic.Int64) (err error) {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	id := s.next.Add(1)
	r := upgrade.Request{Store: "tank", Snapshot: names.Snapshot{Group: names.Group{Type: names.VM, ID: strconv.FormatInt(id, 10)}, Time: 1717600000}}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "https://"+s.address.Server()+"/api2/json/backup?"+r.Values().Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", s.authorization())
	c, resp, err := upgrade.Open(s.t.Context(), conn, req, upgrade.Backup)
	if err != nil {
		return err
	}
	if c == nil {
		return fmt.Errorf("no session: %s", resp.Status)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	calls := []struct{ method, path, body string }{
		{"GET", "/previous_backup_time", ""},
		{"GET", "/previous?archive-name=index.json.blob", ""},
		{"POST", "/no_such_call", ""},
		{"POST", "/fixed_chunk?wid=77&digest=00&size=1&encoded-size=1", "x"},
		{"PUT", "/dynamic_index", `{"wid":77,"digest-list":[],"offset-list":[]}`},
		{"POST", "/dynamic_close?wid=1", ""},
		{"POST", "/blob?file-name=../x.blob&encoded-size=1", "x"},
		{"POST", "/speedtest", "x"},
		{"GET", "/finish", ""},
	}
	for i := range n {
		k := calls[i%len(calls)]
		req, err := http.NewRequestWithContext(s.t.Context(), k.method, k.path, strings.NewReader(k.body))
		if err != nil {
			return err
		}
		if err := drain(c.Do(req)); err != nil {
			return err
		}
		answered.Add(1)
	}
	return nil
}

// nonsense says something else than HTTP, each time on a new connection.
func (s *served) nonsense(n int, answered *atomic.Int64) error {
	for i := range n {
		c, err := s.dial()
		if err != nil {
			return err
		}
		texts := []string{"\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", strings.Repeat("x", 100) + "\r\n\r\n"}
		_, _ = io.WriteString(c, texts[i%len(texts)]) // the server may be faster
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, c)
		_ = c.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		answered.Add(1)
	}
	return nil
}

// pipelined sends a hundred requests at once, and then reads a hundred answers.
func (s *served) pipelined(n int, answered *atomic.Int64) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	const many = 100
	text := bytes.Repeat([]byte("GET //api2/json/ping HTTP/1.1\r\nHost: x\r\n\r\n"), many)
	in := bufio.NewReader(c)
	for ; n > 0; n -= many {
		if _, err := c.Write(text); err != nil {
			return err
		}
		for range many {
			resp, err := http.ReadResponse(in, nil)
			if err := drain(resp, err); err != nil {
				return err
			}
			answered.Add(1)
		}
	}
	return nil
}

// memory is what the server holds, in bytes.
func (s *served) memory() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return kib << 10
}

// watch looks at the memory until it is asked for the most that was seen.
func (s *served) watch() (peak func() int64) {
	stop, done := make(chan struct{}), make(chan int64)
	go func() {
		most := s.memory()
		for {
			select {
			case <-stop:
				done <- most
				return
			case <-time.After(20 * time.Millisecond):
				most = max(most, s.memory())
			}
		}
	}()
	return func() int64 { close(stop); return <-done }
}

// settle waits until the server has given memory back, as long as that takes within
// reason: what it keeps is for the test to judge.
func (s *served) settle(idle int64) {
	for range 100 {
		if s.memory() < idle+mayKeep && s.files() <= 64 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// files counts the open descriptors of the server.
func (s *served) files() int {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(list)
}

// logs is how much the logs of tasks take, in bytes.
func (s *served) logs() (sum int64) {
	err := filepath.WalkDir(filepath.Join(s.dir, "conf", "log"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return sum
}
