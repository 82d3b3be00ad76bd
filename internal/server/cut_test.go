package server_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo/remote"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// cutter is a network between a client and the server that breaks for good when
// clients have sent so many bytes.
type cutter struct {
	listener net.Listener
	server   string
	left     atomic.Int64
	over     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newCutter(t *testing.T, server string, left int64) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: l, server: server}
	c.left.Store(left)
	c.over.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			c.over.Go(func() { c.carry(near) })
		}
	})
	return c
}

func (c *cutter) carry(near net.Conn) {
	far, err := net.Dial("tcp", c.server)
	if err != nil || !c.keep(near, far) {
		_ = near.Close()
		return
	}
	c.over.Go(func() {
		_, _ = io.Copy(near, far)
		_ = near.Close()
	})
	_, _ = io.Copy(far, io.TeeReader(near, c))
	_ = far.Close()
}

// keep notes connections that end with the cut; false: it has happened.
func (c *cutter) keep(conns ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, conns...)
	if c.left.Load() < 0 {
		for _, one := range conns {
			_ = one.Close()
		}
		return false
	}
	return true
}

// Write counts what a client sent, and fails before it is passed on when that is
// too much.
func (c *cutter) Write(p []byte) (int, error) {
	if c.left.Add(-int64(len(p))) >= 0 {
		return len(p), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.conns {
		_ = one.Close()
	}
	return 0, net.ErrClosed
}

func (c *cutter) close() {
	_ = c.listener.Close()
	c.left.Store(-1)
	_, _ = c.Write([]byte{0})
	c.over.Wait()
}

// Wherever the network breaks in a whole backup, from the login to the last
// answer: the client says which server it lost, no snapshot is there unless the
// server finished it, and the next backup works.
func TestBackupIsCutAnywhere(t *testing.T) {
	s := newSite(t).start()
	direct, c := s.remote("admin@pbs", password), s.login("admin@pbs")
	img := make([]byte, 5<<20) // holes, and noise at the end of each chunk
	noise := rand.NewChaCha8([32]byte{1})
	_, _ = noise.Read(img[4<<20-200<<10 : 4<<20+200<<10])
	dir := tree(t)
	group, backups := 100, int64(0)
	run := func(r *remote.Repository) (names.Snapshot, error) {
		backups++
		n := snapshot("", fmt.Sprintf("vm/%d", group), day1+60*backups)
		_, err := backup.Run(t.Context(), r, job(n, img, dir, nil))
		return n, err
	}
	through := func(left int64) (*remote.Repository, *cutter) {
		net := newCutter(t, s.addr, left)
		t.Cleanup(net.close)
		return s.remoteAt(net.listener.Addr().String()), net
	}

	const plenty = 1 << 40
	r, line := through(plenty)
	_, err := run(r)
	s.ok(err)
	total := plenty - line.left.Load()
	for at := int64(0); at < total+total/60; at += total / 60 {
		s.emptyStore("tank") // in a new group everything is sent again
		group++
		r, line := through(at)
		n, cerr := run(r)
		line.close()
		finished := s.finished(c, n)
		seen := s.sees(direct, n)
		if cerr == nil && !seen || seen != finished {
			t.Fatalf("cut after %d of %d bytes: snapshot %v, the server finished it %v, the client says %v", at, total, seen, finished, cerr)
		}
		if cerr != nil && !strings.Contains(cerr.Error(), line.listener.Addr().String()) {
			t.Errorf("cut after %d of %d bytes: %v, which does not name the server", at, total, cerr)
		}
		next, err := run(direct)
		if err != nil {
			t.Fatalf("the next backup after a cut at %d of %d bytes: %v", at, total, err)
		}
		if group%8 == 0 { // reading everything takes longer than all else
			wantContent(t, direct, next, img, dir, nil)
		}
	}
}

// remoteAt opens the datastore by way of another address; it waits for nothing
// between attempts.
func (s *site) remoteAt(addr string) *remote.Repository {
	s.t.Helper()
	host, port, err := net.SplitHostPort(addr)
	s.ok(err)
	n, err := strconv.ParseUint(port, 10, 16)
	s.ok(err)
	fp, err := address.ParseFingerprint(s.server.Fingerprint())
	s.ok(err)
	r, err := remote.Open(address.Address{Auth: auth("admin@pbs"), Host: host, Port: uint16(n), Store: "tank"}, remote.Options{
		Fingerprint: fp,
		Password:    func(context.Context) (secret.Secret, error) { return secret.New([]byte(password)), nil },
		Sleep:       func(context.Context, time.Duration) error { return nil },
	})
	s.ok(err)
	s.t.Cleanup(func() { _ = r.Close() })
	return r
}

// finished waits until no backup runs and reports whether the task that made a
// snapshot ended well.
func (s *site) finished(c *client, n names.Snapshot) bool {
	s.t.Helper()
	for range 1000 {
		var running []struct{ UPID string }
		c.get("/nodes/localhost/tasks", "running", "1", "typefilter", "backup").data(&running)
		if len(running) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	var list []struct{ UPID, Status string }
	c.get("/nodes/localhost/tasks", "typefilter", "backup", "limit", "1").data(&list)
	if len(list) == 0 || list[0].Status != "OK" {
		return false
	}
	var log []struct{ T string }
	c.get("/nodes/localhost/tasks/" + pathEscape(list[0].UPID) + "/log").data(&log)
	for _, line := range log {
		if strings.Contains(line.T, fmt.Sprintf("%q", n.Path())) {
			return true
		}
	}
	return false
}

func (s *site) sees(r *remote.Repository, n names.Snapshot) bool {
	s.t.Helper()
	list, err := r.Snapshots(s.t.Context(), n.NS, nil)
	s.ok(err)
	for _, info := range list {
		if info.Snapshot == n {
			return true
		}
	}
	return false
}

// emptyStore removes all chunks, so that the next backup sends everything.
func (s *site) emptyStore(store string) {
	s.t.Helper()
	chunks, err := filepath.Glob(filepath.Join(s.path(store), ".chunks", "*", "*"))
	s.ok(err)
	for _, path := range chunks {
		s.ok(os.Remove(path))
	}
}
