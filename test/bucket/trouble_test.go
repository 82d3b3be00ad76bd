package bucket

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// size is how many MiB an image has: 6 packs.
const size = 96

// Times for a backup that follows another within the second, and for the other.
var (
	later   = []string{"--backup-time", "2100-01-01T00:00:00Z"}
	earlier = []string{"--backup-time", "2020-01-01T00:00:00Z"}
)

func TestAnEngineThatIsStartedAgainIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("a.img", 1, size)
	away := func() {
		go func() {
			r.kill()
			r.start()
		}()
	}
	r.line.after(size/3<<20, away)
	r.holds(exitOK, "backup", "disk.img:a.img", "--backup-type", "vm", "--backup-id", "1")
	r.happened()
	r.line.after(size/3<<20, away)
	r.restores("vm/1", "a.img")
	r.happened()
	r.line.after(size/3<<20, away)
	r.holds(exitOK, "verify")
	r.happened()
	r.line.after(1, away)
	r.holds(exitOK, "list")
	r.happened()
}

func TestABucketThatVanishesEndsABackupAndALaterOneWorks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("a.img", 1, size)
	r.holds(exitOK, append([]string{"backup", "disk.img:a.img", "--backup-type", "vm", "--backup-id", "1"}, earlier...)...)
	r.image("b.img", 2, size)
	aside := r.bucket() + "-aside"
	r.line.after(size/3<<20, func() {
		go func() { // who carries bytes must not wait for himself
			r.kill()
			if err := os.Rename(r.bucket(), aside); err != nil {
				t.Error(err)
			}
			r.start()
		}()
	})
	r.says("no such bucket", exitNotFound, "backup", "disk.img:b.img", "--backup-type", "vm", "--backup-id", "1")
	r.happened()
	r.says("no such bucket", exitNotFound, "restore", "vm/1", "disk.img", "out.img")
	if _, err := os.Stat(filepath.Join(r.dir, "out.img")); err == nil {
		t.Error("half a restore is left")
	}
	if err := os.Rename(aside, r.bucket()); err != nil {
		t.Fatal(err)
	}
	r.restores("vm/1", "a.img")
	r.holds(exitOK, append([]string{"backup", "disk.img:b.img", "--backup-type", "vm", "--backup-id", "1"}, later...)...)
	r.restores("vm/1", "b.img")
	r.holds(exitOK, "verify")
}

func TestABackupThatIsEndedIsInNobodysWay(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct {
		signal os.Signal
		code   int
	}{"interrupted": {os.Interrupt, exitInterrupted}, "killed": {os.Kill, exitKilled}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.image("a.img", 1, size)
			backup := []string{"backup", "disk.img:a.img", "--backup-type", "vm", "--backup-id", "1"}
			cmd, out := r.command(backup...)
			if code := r.ends(cmd, size/2<<20, end.signal); code != end.code {
				t.Fatalf("exit %d, want %d\n%s", code, end.code, out)
			}
			r.holds(exitOK, append(backup, later...)...)
			r.restores("vm/1", "a.img")
			if snapshots := strings.Count(r.holds(exitOK, "snapshot", "list"), "vm/1/"); snapshots != 1 {
				t.Errorf("%d snapshots are listed", snapshots)
			}
			r.holds(exitOK, "gc")
			r.restores("vm/1", "a.img")
		})
	}
}

func TestARestoreThatIsInterruptedGoesOnInPlace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("a.img", 1, size)
	r.holds(exitOK, "backup", "disk.img:a.img", "--backup-type", "vm", "--backup-id", "1")
	if err := os.WriteFile(filepath.Join(r.dir, "out.img"), make([]byte, size<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	restore := []string{"restore", "vm/1", "disk.img", "out.img", "--in-place"}
	cmd, out := r.command(restore...)
	if code := r.ends(cmd, size/2<<20, os.Interrupt); code != exitInterrupted {
		t.Fatalf("exit %d\n%s", code, out)
	}
	r.holds(exitOK, restore...)
	r.same("out.img", "a.img")
}

func TestAWrongClockIsSaidToBeOne(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	at, err := url.Parse(r.engine.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	// The engine sees requests that were signed a day ago.
	old := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(at)
		p.Out.Host = p.In.Host
		p.Out.Header.Set("X-Amz-Date", time.Now().UTC().AddDate(0, 0, -1).Format("20060102T150405Z"))
	}})
	defer old.Close()
	r.repo = strings.Replace(r.repo, "http://"+r.line.address(), old.URL, 1)
	for _, args := range [][]string{{"list"}, {"init"}, {"backup", "disk.img:" + r.bin}} {
		if out := r.holds(exitFailed, args...); !strings.Contains(out, "clock") {
			t.Errorf("%q says nothing of the clock:\n%s", args, out)
		}
	}
}

func TestWrongKeysAreSaidToBeWrong(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cmd, out := r.command("list")
	cmd.Env = append(cmd.Env, "HOLDFAST_S3_SECRET_KEY=another")
	if code := r.code(cmd.Run()); code != exitRefused || !strings.Contains(out.String(), "HOLDFAST_S3_SECRET_KEY") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestAnEngineWithoutRoomEndsABackupAndALaterOneWorks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.image("a.img", 1, size)
	at, err := url.Parse(r.engine.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	room := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(at)
		p.Out.Host = p.In.Host
	}}
	var stored atomic.Int64
	full := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodPut && strings.Contains(q.URL.Path, "/p0") {
			if stored.Add(q.ContentLength) > size/2<<20 {
				w.WriteHeader(http.StatusInsufficientStorage)
				_, _ = w.Write([]byte(`<Error><Code>NoSpace</Code><Message>No space left on device</Message></Error>`))
				return
			}
		}
		room.ServeHTTP(w, q)
	}))
	defer full.Close()
	good := r.repo
	r.repo = strings.Replace(good, "http://"+r.line.address(), full.URL, 1)
	r.says("No space left on device", exitFailed, "backup", "disk.img:a.img", "--backup-type", "vm", "--backup-id", "1")
	if out := r.holds(exitOK, "snapshot", "list"); strings.Contains(out, "vm/1/") {
		t.Errorf("half a backup is listed:\n%s", out)
	}
	r.repo = good
	r.holds(exitOK, "backup", "disk.img:a.img", "--backup-type", "vm", "--backup-id", "1")
	r.restores("vm/1", "a.img")
}
