package qemu_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/qemu"
	"github.com/holdfast-backup/holdfast/internal/guest/qemu/qemutest"
)

// fakeAgent is a guest agent that only remembers. The real one is tried in
// test/guest.
type fakeAgent struct {
	mu     sync.Mutex
	frozen bool
	calls  []string
	refuse string // a command that fails
}

// serveAgent listens until the test ends.
func serveAgent(t *testing.T, path string) *fakeAgent {
	t.Helper()
	a := &fakeAgent{}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			a.talk(c)
			_ = c.Close()
		}
	}()
	return a
}

func (a *fakeAgent) talk(c net.Conn) {
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var cmd struct {
			Execute   string
			Arguments struct{ ID int64 }
		}
		if json.Unmarshal(bytes.TrimPrefix(line, []byte{0xff}), &cmd) != nil {
			return
		}
		_, _ = fmt.Fprint(c, a.answer(cmd.Execute, cmd.Arguments.ID))
	}
}

func (a *fakeAgent) answer(command string, id int64) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if command == "guest-sync-delimited" {
		return fmt.Sprintf("\xff{\"return\": %d}\n", id)
	}
	a.calls = append(a.calls, strings.TrimPrefix(command, "guest-fsfreeze-"))
	if command == a.refuse {
		return `{"error": {"class": "GenericError", "desc": "refused"}}` + "\n"
	}
	switch command {
	case "guest-fsfreeze-freeze":
		a.frozen = true
	case "guest-fsfreeze-thaw":
		a.frozen = false
	}
	return "{\"return\": 1}\n"
}

// is returns whether the guest is frozen, and what was asked since the last call.
func (a *fakeAgent) is() (frozen bool, calls string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	calls = strings.Join(a.calls, " ")
	a.calls = nil
	return a.frozen, calls
}

func TestGuestIsFrozenForTheMomentOnly(t *testing.T) {
	s := newSite(t, func(spec *qemutest.Spec) { spec.Paused = false })
	s.opts.Agent = filepath.Join(filepath.Dir(s.vm.QMP), "agent")
	a := serveAgent(t, s.opts.Agent)
	s.backup(t, func(j *guest.Job) {
		j.Taken = func(guest.Point) {
			if frozen, calls := a.is(); frozen || calls != "freeze thaw" {
				t.Errorf("frozen %v after %q", frozen, calls)
			}
		}
	})

	a.refuse = "guest-fsfreeze-freeze" // and perhaps it froze all the same
	s.backup(t)
	if _, calls := a.is(); calls != "freeze thaw" {
		t.Errorf("after a refusal: %q", calls)
	}
	s.opts.MustFreeze = true
	if _, err := s.try(t); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("err = %v", err)
	}
	s.clean(t)

	a.refuse = "guest-fsfreeze-thaw"
	if _, err := s.try(t); err == nil || !strings.Contains(err.Error(), "may still be frozen") {
		t.Errorf("err = %v", err)
	}
	a.refuse = ""
	if left := s.vm.Left(t); !slices.Contains(left, "object holdfast-state") {
		t.Errorf("nothing in QEMU says that the guest may be frozen: %q", left)
	}
	s.backup(t) // thaws it
	if frozen, _ := a.is(); frozen {
		t.Error("the guest is still frozen")
	}
}

func TestJobThatEndsBreaksThePoint(t *testing.T) {
	s := newSite(t)
	s.opts.Method = qemu.Job
	s.write(t, "root", 0, 8*mib, 0x11)
	_, err := s.try(t, func(j *guest.Job) {
		j.Taken = func(guest.Point) {
			s.vm.Run(t, "job-cancel", map[string]any{"id": "holdfast-backup-1"}, nil)
			s.write(t, "root", 0, 8*mib, 0x12) // nothing is copied any more
		}
	})
	if err == nil || !strings.Contains(err.Error(), "job") {
		t.Fatalf("err = %v", err)
	}
	if s.repo.Snapshots() != 0 {
		t.Error("the snapshot is visible")
	}
	s.clean(t)
}

func TestStoredRangesAreGivenBack(t *testing.T) {
	s := newSite(t)
	s.write(t, "root", 0, 8*mib, 0x11)
	g, err := qemu.Open(t.Context(), s.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	p, err := g.Begin(t.Context(), guest.Request{Owner: "0123456789abcdef", ChunkSize: chunk})
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "root", 0, 8*mib, 0x12)
	img, ok := p.Disks()[1].Image.(interface {
		ReadAt(b []byte, off int64) (int, error)
		Consumed(off, n int64)
	})
	if !ok {
		t.Fatal("the image takes no hints")
	}
	b := make([]byte, 4096)
	if _, err := img.ReadAt(b, 0); err != nil || b[0] != 0x11 {
		t.Fatalf("%#x, %v", b[0], err)
	}
	img.Consumed(0, 4*mib)
	if _, err := img.ReadAt(b, 0); err == nil {
		t.Error("what was given back can still be read")
	}
	if _, err := img.ReadAt(b, 4*mib); err != nil || b[0] != 0x11 {
		t.Errorf("%#x, %v", b[0], err)
	}
	if err := p.Release(t.Context(), false); err != nil {
		t.Error(err)
	}
	s.clean(t)
}

func TestBitmapsThatCannotBeTrustedAreReplaced(t *testing.T) {
	for _, tc := range []struct {
		name, why string
		spoil     func(t *testing.T, s *site, name string)
	}{
		{"disabled", "disabled", func(t *testing.T, s *site, name string) {
			s.vm.Run(t, "block-dirty-bitmap-disable", map[string]any{"node": "node-root", "name": name}, nil)
		}},
		{"other granularity", "chunks", func(t *testing.T, s *site, name string) {
			s.vm.Run(t, "block-dirty-bitmap-remove", map[string]any{"node": "node-root", "name": name}, nil)
			s.vm.Run(t, "block-dirty-bitmap-add", map[string]any{"node": "node-root", "name": name, "granularity": 65536}, nil)
		}},
		{"removed", "gone", func(t *testing.T, s *site, name string) {
			s.vm.Run(t, "block-dirty-bitmap-remove", map[string]any{"node": "node-root", "name": name}, nil)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite(t)
			s.backup(t)
			for _, l := range s.vm.Left(t) {
				if name, ok := strings.CutPrefix(l, "bitmap "); ok {
					tc.spoil(t, s, name)
					break
				}
			}
			s.write(t, "root", 0, 4096, 0x11)
			r := s.backup(t)
			wantModes(t, r, modes(guest.MissingRecreated, guest.Reuse))
			if !strings.Contains(r.Disks[1].Why, tc.why) {
				t.Errorf("why: %q", r.Disks[1].Why)
			}
		})
	}
}

// A monitor that is used by someone else is not waited for.
func TestNobodyAtTheMonitorIsAnError(t *testing.T) {
	_, err := qemu.Open(t.Context(), qemu.Options{QMP: filepath.Join(t.TempDir(), "none")})
	if err == nil || errors.Is(err, qemu.ErrGone) {
		t.Fatalf("err = %v", err)
	}
}
