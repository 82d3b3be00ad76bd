package qemu_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/qemu"
	"github.com/holdfast-backup/holdfast/internal/guest/qemu/qemutest"
	"golang.org/x/sys/unix"
)

// wire stands between Holdfast and a monitor, and cuts the connection at one
// command: before QEMU gets it, or before its answer comes.
type wire struct {
	path   string
	at     int // command that is the last, from 1; 0: none
	reach  bool
	cut    atomic.Bool
	number int
	close  func()
}

func newWire(t *testing.T, monitor string, at int, reach bool) *wire {
	t.Helper()
	w := &wire{path: monitor + ".wire", at: at, reach: reach}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: w.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	w.close = func() { _ = l.Close(); <-served }
	go func() {
		defer close(served)
		for {
			here, err := l.AcceptUnix()
			if err != nil {
				return
			}
			there, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: monitor, Net: "unix"})
			if err != nil {
				_ = here.Close()
				return
			}
			answers := make(chan struct{})
			go func() {
				defer close(answers)
				w.pass(there, here, false)
				_ = here.Close()
			}()
			w.pass(here, there, true)
			_ = there.Close()
			_ = here.Close()
			<-answers
		}
	}()
	return w
}

// pass copies bytes and descriptors, and counts commands.
func (w *wire) pass(from, to *net.UnixConn, commands bool) {
	buf, oob := make([]byte, 1<<16), make([]byte, 1024)
	for {
		n, m, _, _, err := from.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			return
		}
		last := false
		if commands {
			w.number += bytes.Count(buf[:n], []byte("\n"))
			last = w.at > 0 && w.number >= w.at
			if last && !w.reach {
				w.cut.Store(true)
				return
			}
		} else if w.cut.Load() {
			continue // nobody hears it
		}
		if last {
			w.cut.Store(true)
		}
		if _, _, err := to.WriteMsgUnix(buf[:n], oob[:m], nil); err != nil {
			return
		}
		closeAll(oob[:m])
		if last {
			return
		}
	}
}

// closeAll closes descriptors that were passed on.
func closeAll(oob []byte) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
}

// Wherever a backup dies, the next one cleans up, misses nothing, and the guest
// runs.
func TestBackupThatDiesAtAnyCommandIsCleanedUpByTheNext(t *testing.T) {
	eachMethod(t, func(t *testing.T, m qemu.Method) {
		s := newSite(t, func(spec *qemutest.Spec) { spec.Paused = false })
		s.opts.Method = m
		s.write(t, "root", 0, 8*mib, 0x11)
		s.backup(t)
		step := 1
		if testing.Short() {
			step = 7
		}
		for at, done := 2, false; !done; at += step { // the first is the handshake
			for _, reach := range []bool{false, true} {
				s.write(t, "root", int64(at%8)*mib, 4096, byte(at))
				s.write(t, "data", int64(at%5)*mib, 4096, byte(at))
				if died := s.die(t, at, reach); !died {
					done = true
				}
				var st struct{ Status string }
				s.write(t, "root", int64(at%7)*mib+8192, 4096, byte(at)) // hangs if it is still held back
				s.backup(t)                                              // compares and wants everything clean
				if s.vm.Run(t, "query-status", nil, &st); st.Status != "running" {
					t.Fatalf("command %d, reached %v: the guest is %s", at, reach, st.Status)
				}
			}
			if at > 300 {
				t.Fatal("a backup takes more than 300 commands")
			}
		}
	})
}

// die runs a backup that loses its monitor at a command; false: it has less.
func (s *site) die(t *testing.T, at int, reach bool) bool {
	t.Helper()
	w := newWire(t, s.vm.QMP, at, reach)
	defer w.close()
	opts := s.opts
	opts.QMP = w.path
	g, err := qemu.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	_, err = guest.Backup(t.Context(), s.repo, g, s.job())
	_ = g.Close()
	if err != nil && !w.cut.Load() {
		t.Fatalf("command %d: %v", at, err)
	}
	return w.cut.Load()
}

func TestSweepSaysWhatADeadRunLeft(t *testing.T) {
	s := newSite(t)
	s.write(t, "root", 0, mib, 0x11)
	g, err := qemu.Open(t.Context(), s.opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Begin(t.Context(), guest.Request{New: "holdfast-0123456789abcdef-1-01020304", Owner: "0123456789abcdef", ChunkSize: chunk}); err != nil {
		t.Fatal(err)
	}
	_ = g.Close() // as a killed process
	if g, err = qemu.Open(t.Context(), s.opts); err != nil {
		t.Fatal(err)
	}
	did, err := g.Sweep(t.Context())
	if err != nil || len(did) < 6 {
		t.Fatalf("did %q, %v", did, err)
	}
	if did, err := g.DropBitmaps(t.Context()); err != nil || len(did) != 2 {
		t.Fatalf("did %q, %v", did, err)
	}
	if did, err := g.Sweep(t.Context()); err != nil || len(did) != 0 {
		t.Fatalf("again: did %q, %v", did, err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if left := s.vm.Left(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	s.noFiles(t)
}

func TestInterruptedBackupEndsTheSameWay(t *testing.T) {
	s := newSite(t, func(spec *qemutest.Spec) { spec.Paused = false })
	s.write(t, "root", 0, 8*mib, 0x11)
	s.backup(t)
	s.write(t, "root", 0, 4096, 0x12)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	g, err := qemu.Open(t.Context(), s.opts)
	if err != nil {
		t.Fatal(err)
	}
	j := s.job()
	j.Taken = func(guest.Point) { cancel(enough) }
	if _, err := guest.Backup(ctx, s.repo, g, j); !errors.Is(err, enough) {
		t.Fatalf("err = %v", err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	s.clean(t)
	wantModes(t, s.backup(t), modes(guest.Reuse, guest.Reuse))
}

// A day of ten backups an hour.
func TestADayLeavesNothingBehind(t *testing.T) {
	s := newSite(t)
	backups := 240
	if testing.Short() {
		backups = 24
	}
	s.write(t, "root", 0, 8*mib, 0x11)
	s.backup(t)
	s.backup(t)
	before := s.vm.Descriptors(t)
	for i := range backups {
		s.clock += 359 // and one second in job: six minutes
		s.write(t, "root", int64(i%8)*mib, 4096, byte(i))
		if i%12 == 0 {
			s.opts.Method = []qemu.Method{qemu.Filter, qemu.Job}[i/12%2]
		}
		wantModes(t, s.backup(t), modes(guest.Reuse, guest.Reuse))
	}
	if after := s.vm.Descriptors(t); after > before {
		t.Errorf("QEMU has %d open files, and had %d", after, before)
	}
	if sockets, err := filepath.Glob(filepath.Join(s.opts.RunDir, "*.nbd")); err != nil || len(sockets) > 0 {
		t.Errorf("sockets: %q, %v", sockets, err)
	}
}
