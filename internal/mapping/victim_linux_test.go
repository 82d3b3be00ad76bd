package mapping

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/kernel/process"
	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/kernel/fusemount"
	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
)

// A victim is a daemon in a process of its own, which stops at a stage and
// says so.
type victim struct {
	cmd  *exec.Cmd
	dir  string
	done chan struct{}
}

const victimVar = "MAPPING_VICTIM" // DIR MODE STAGE

func TestMain(m *testing.M) {
	if how := os.Getenv(victimVar); how != "" {
		if err := beVictim(strings.Fields(how)); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func beVictim(how []string) error {
	dir, mode, stage := how[0], Mode(how[1]), how[2]
	img := random(1 << 20)
	s := Spec{
		Repository: "repo", Snapshot: "vm/100", Archive: "drive.img.fidx", Image: readOnly{img}, Mode: mode, RunDir: dir,
		stage: func(now string) {
			if now == stage {
				fmt.Println("reached", stage)
				select {}
			}
		},
	}
	if stage == "expiring" {
		s.Timeout, s.DeadTimeout = 2*time.Second, time.Second
	}
	m, err := Map(context.Background(), s)
	if err != nil {
		return err
	}
	if stage == "blocked" || stage == "expiring" {
		img.mu.Lock()
		img.block = make(chan struct{})
		img.mu.Unlock()
	}
	fmt.Println("reached", "serve")
	err = m.Serve(context.Background())
	return errors.Join(err, m.Close(context.Background()))
}

func startVictim(t *testing.T, exe, dir string, mode Mode, stage string, who *syscall.Credential) *victim {
	t.Helper()
	v := &victim{cmd: exec.Command(exe), dir: dir, done: make(chan struct{})}
	v.cmd.Dir = "/"
	v.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", victimVar, dir, mode, stage))
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	v.cmd.Stderr = os.Stderr
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() { _ = v.cmd.Wait(); close(v.done) }()
	t.Cleanup(func() { v.kill(t) })
	if err != nil || !strings.HasPrefix(line, "reached") {
		t.Fatalf("victim: %q, %v", line, err)
	}
	return v
}

func (v *victim) kill(t *testing.T) {
	t.Helper()
	_ = v.cmd.Process.Kill()
	v.wait(t)
}

func (v *victim) wait(t *testing.T) {
	t.Helper()
	select {
	case <-v.done:
	case <-time.After(10 * time.Second):
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.cmd.Process.Pid))
		t.Fatalf("process does not end:\n%s", b)
	}
}

func (v *victim) record(t *testing.T) Record {
	t.Helper()
	rs, err := records(v.dir)
	if err != nil || len(rs) != 1 {
		t.Fatalf("%+v, %v", rs, err)
	}
	return rs[0]
}

// stages of each mode in order.
var stages = map[Mode][]string{
	Socket: {"reserved", "control", "socket", "listening", "ready", "serve"},
	File:   {"reserved", "control", "file", "mounted", "ready", "serve"},
	Loop:   {"reserved", "control", "fuse", "attached", "loop", "ready", "serve", "blocked"},
}

func TestKilledDaemonIsCleanedUpFromEveryStage(t *testing.T) {
	needLoop(t)
	ways := map[string]func(t *testing.T, v *victim){
		"cleanup": func(t *testing.T, v *victim) {
			if _, err := Cleanup(t.Context(), v.dir); err != nil {
				t.Error(err)
			}
		},
		"unmap": func(t *testing.T, v *victim) {
			done, err := Unmap(t.Context(), v.dir, "drive.img", UnmapOptions{})
			if err != nil || len(done) != 1 {
				t.Errorf("%+v, %v", done, err)
			}
		},
		"map": func(t *testing.T, v *victim) {
			m, err := Map(t.Context(), Spec{
				Repository: "repo", Snapshot: "vm/100", Archive: "drive.img.fidx",
				Image: random(1 << 20), Mode: Socket, RunDir: v.dir,
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Close(t.Context()); err != nil {
				t.Error(err)
			}
		},
	}
	for mode, names := range stages {
		for _, stage := range names {
			for way, clean := range ways {
				t.Run(fmt.Sprintf("%s/%s/%s", mode, stage, way), func(t *testing.T) {
					_, _, loops := census(t)
					v := startVictim(t, "/proc/self/exe", filepath.Join(t.TempDir(), "run"), mode, stage, nil)
					r := v.record(t)
					if stage == "blocked" { // with a request under way
						reader := exec.Command("dd", "if="+r.Device, "of=/dev/null", "bs=64k", "skip=8")
						if err := reader.Start(); err != nil {
							t.Fatal(err)
						}
						defer func() { _ = reader.Wait() }()
						time.Sleep(50 * time.Millisecond)
					}
					v.kill(t)
					list, err := List(t.Context(), v.dir)
					if err != nil || len(list) != 1 || list[0].State != Stale {
						t.Errorf("list: %+v, %v", list, err)
					}
					clean(t, v)
					empty(t, v.dir)
					if r.Path != "" {
						if on, err := fusemount.Mounted(r.Path); err != nil || on {
							t.Errorf("still mounted: %v", err)
						}
					}
					eventually(t, "loop devices are free", func() bool { _, _, l := census(t); return l <= loops })
				})
			}
		}
	}
}

func TestDeadMappingThatIsMountedIsReportedAndForced(t *testing.T) {
	needLoop(t)
	v := startVictim(t, "/proc/self/exe", filepath.Join(t.TempDir(), "run"), Loop, "serve", nil)
	r := v.record(t)
	f, err := unix.Open(r.Device, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	holder := exec.Command("sleep", "60")
	holder.ExtraFiles = []*os.File{os.NewFile(uintptr(f), "device")}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	_ = holder.ExtraFiles[0].Close()
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	v.kill(t)
	_, err = Unmap(t.Context(), v.dir, r.Name, UnmapOptions{})
	if _, ok := errors.AsType[*BusyError](err); !ok {
		t.Fatalf("%v", err)
	}
	if _, err := Unmap(t.Context(), v.dir, r.Name, UnmapOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	empty(t, v.dir)
	_ = holder.Process.Kill()
	_ = holder.Wait()
	eventually(t, "device is free", func() bool { _, err := loop.Read(r.Loop.Number); return errors.Is(err, loop.ErrFree) })
}

func TestHungDaemonIsForced(t *testing.T) {
	needLoop(t)
	v := startVictim(t, "/proc/self/exe", filepath.Join(t.TempDir(), "run"), Loop, "serve", nil)
	r := v.record(t)
	if err := v.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	o := UnmapOptions{Wait: 500 * time.Millisecond}
	if _, err := Unmap(t.Context(), v.dir, r.ID, o); err == nil {
		t.Fatal("a stopped process answered")
	}
	o.Force = true
	if _, err := Unmap(t.Context(), v.dir, r.ID, o); err != nil {
		t.Fatal(err)
	}
	v.wait(t)
	empty(t, v.dir)
	if _, err := loop.Read(r.Loop.Number); !errors.Is(err, loop.ErrFree) {
		t.Errorf("%v", err)
	}
}

func TestStrangerWithTheSameNumberIsNotKilled(t *testing.T) {
	stranger := exec.Command("sleep", "60")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Process.Kill(); _ = stranger.Wait() }()
	start, err := process.Start(stranger.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	r := Record{PID: stranger.Process.Pid, StartTime: start - 1}
	if r.alive() {
		t.Error("taken for the daemon")
	}
	if err := process.Kill(r.PID, r.StartTime); err != nil {
		t.Error(err)
	}
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger is gone: %v", err)
	}
	if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", stranger.Process.Pid)); strings.Contains(string(b), ") Z") {
		t.Error("the stranger was killed")
	}
}
