//go:build linux

package pve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/provider/providertest"
)

var program = flag.String("holdfast", "", "the program under test; by default it is built")

// bin is the program under test, set by TestMain.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := withProgram(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withProgram(run func() int) (code int, err error) {
	if *program != "" {
		if bin, err = filepath.Abs(*program); err != nil {
			return 1, err
		}
		return run(), nil
	}
	dir, err := os.MkdirTemp("", "holdfast-pve-*")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bin = filepath.Join(dir, "holdfast")
	if err := os.Chmod(dir, 0o755); err != nil { // the users of a container run it, too
		return 1, err
	}
	if out, err := exec.Command("go", "build", "-tags="+os.Getenv("TAGS"), "-o", bin, "../../cmd/holdfast").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return run(), nil
}

// need skips a test where a program or module is missing; CI must have it.
func need(t *testing.T, programs ...string) {
	t.Helper()
	why := ""
	for _, p := range append(programs, "perl", "tar", "qemu-img") {
		if _, err := exec.LookPath(p); err != nil {
			why = err.Error()
		}
	}
	if out, err := exec.Command("perl", "-MJSON", "-e1").CombinedOutput(); err != nil {
		why = "perl has no JSON: " + string(out)
	}
	if os.Geteuid() != 0 {
		why = "needs root"
	}
	if why != "" && os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	if why != "" {
		t.Skip(why)
	}
}

// rig is a host with a storage.
type rig struct {
	t        *testing.T
	dir      string
	storage  map[string]any
	machines map[int]*providertest.Machine
	fuse     map[int][]func() // of machines: what ends with the point
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), machines: map[int]*providertest.Machine{}, fuse: map[int][]func(){}}
	for dir := r.dir; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.storage = map[string]any{"hf-repository": r.path("repo")}
	r.holdfast("init", r.path("repo"), "--lazy")
	if err := os.MkdirAll(r.path("pids"), 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

// newDirectoryRig has a storage in the plain layout.
func newDirectoryRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.storage = map[string]any{"hf-directory": r.path("plain")}
	if err := os.Mkdir(r.path("plain"), 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) path(name ...string) string {
	return filepath.Join(append([]string{r.dir}, name...)...)
}

// holdfast runs the binary.
func (r *rig) holdfast(args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), bin, args...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	cmd.Env = append(os.Environ(), "HOLDFAST_REPOSITORY="+r.path("repo"), "HOME="+r.dir)
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("holdfast %s: %v\n%s", strings.Join(args, " "), err, complaints.String())
	}
	return string(out)
}

// machine starts a machine.
func (r *rig) machine(vmid int, sizes map[string]int64) *providertest.Machine {
	r.t.Helper()
	m := providertest.Start(r.t, sizes)
	r.machines[vmid] = m
	r.pid(vmid)
	return m
}

func (r *rig) pid(vmid int) {
	r.t.Helper()
	if err := os.WriteFile(r.path("pids", fmt.Sprint(vmid)), fmt.Append(nil, r.machines[vmid].VM.PID), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// outcome is what run.pl prints.
type outcome struct {
	Error  string `json:"error"`
	Guests []struct {
		VMID   int    `json:"vmid"`
		Target string `json:"target"`
		Error  string `json:"error"`
		Size   int64  `json:"size"`
	} `json:"guests"`
	Log      []string          `json:"log"`
	Places   []string          `json:"places"`
	Plugin   []json.RawMessage `json:"plugin"`
	Config   string            `json:"config"`
	Firewall string            `json:"firewall"`
}

func (o outcome) log() string { return strings.Join(o.Log, "\n") }

// perl runs run.pl, and answers what it asks.
func (r *rig) perl(spec map[string]any) outcome {
	r.t.Helper()
	spec["binary"], spec["state"], spec["pids"] = bin, r.path("state"), r.path("pids", "%d")
	spec["storage"], spec["tmplog"] = r.storage, r.path("task.log")
	if _, ok := spec["secrets"]; !ok {
		spec["secrets"] = r.path("secrets")
	}
	text, err := json.Marshal(spec)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute)
	defer cancel()
	modules := append(strings.FieldsFunc(os.Getenv("HOLDFAST_PVE_MODULES"), func(c rune) bool { return c == ':' }), "../../deploy/pve", "standins", ".")
	for i, m := range modules {
		if modules[i], err = filepath.Abs(m); err != nil {
			r.t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(ctx, "perl", append([]string{"-T", "run.pl"}, modules...)...)
	cmd.Stdin = bytes.NewReader(append(text, '\n'))
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	asksR, asksW := pipe(r.t)
	answersR, answersW := pipe(r.t)
	cmd.ExtraFiles = []*os.File{asksW, answersR}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	_ = asksW.Close()
	_ = answersR.Close()
	r.answer(asksR, answersW)
	if err := cmd.Wait(); err != nil {
		r.t.Fatalf("perl: %v\n%s%s", err, complaints.String(), out.String())
	}
	if complaints.Len() > 0 {
		r.t.Errorf("perl says: %s", complaints.String())
	}
	var o outcome
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &o); err != nil {
		r.t.Fatalf("%v: %s", err, out.String())
	}
	r.wantNothingLeft()
	return o
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(); _ = w.Close() })
	return r, w
}

// question is what Job.pm asks.
type question struct {
	What string `json:"what"`
	Args struct {
		VMID      int                        `json:"vmid"`
		Modes     map[string]provider.Bitmap `json:"modes"`
		Mechanism string                     `json:"mechanism"`
		Success   bool                       `json:"success"`
	} `json:"args"`
}

// answer is the side of the machines.
func (r *rig) answer(from, to *os.File) {
	r.t.Helper()
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			r.t.Fatal(err)
		}
		m := r.machines[q.Args.VMID]
		answer := map[string]any{}
		switch q.What {
		case "sizes":
			for d, n := range m.Sizes() {
				answer[d] = map[string]int64{"size": n}
			}
		case "setup":
			for device, d := range m.Setup(r.t, q.Args.Modes) {
				answer[device] = r.volume(q.Args.VMID, device, d, q.Args.Mechanism)
			}
		case "teardown":
			for _, end := range r.fuse[q.Args.VMID] {
				end()
			}
			delete(r.fuse, q.Args.VMID)
			m.Teardown(r.t, q.Args.Success)
		default:
			r.t.Fatalf("asked for %q", q.What)
		}
		b, err := json.Marshal(answer)
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := to.Write(append(b, '\n')); err != nil {
			r.t.Fatal(err)
		}
	}
}

// volume is a disk as backup_vm gets it.
func (r *rig) volume(vmid int, device string, d provider.Disk, mechanism string) map[string]any {
	v := map[string]any{"size": d.Size, "bitmap-mode": d.Mode}
	if mechanism == "nbd" {
		v["nbd-path"] = d.NBDPath
		if d.BitmapName != "" {
			v["bitmap-name"] = d.BitmapName
		}
		return v
	}
	v["path"], v["uri"] = r.virtualFile(vmid, device, d)
	if d.BitmapName != "" {
		v["bitmap-name"] = d.BitmapName
	}
	return v
}

// virtualFile shows an export as a file, as Proxmox VE does it.
func (r *rig) virtualFile(vmid int, device string, d provider.Disk) (path, uri string) {
	r.t.Helper()
	dir := r.path("nbdfuse", fmt.Sprint(vmid), device)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	uri = fmt.Sprintf("nbd+unix:///%s?socket=%s", device, d.NBDPath)
	path = filepath.Join(dir, device)
	cmd := exec.CommandContext(r.t.Context(), "nbdfuse", path, uri)
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if info, err := os.Stat(path); err == nil && info.Size() == d.Size {
			break
		}
		if time.Now().After(end) {
			r.t.Fatal("nbdfuse shows nothing")
		}
	}
	r.fuse[vmid] = append(r.fuse[vmid], func() {
		_ = exec.Command("fusermount3", "-u", dir).Run()
		_ = cmd.Wait()
	})
	return path, uri
}

// wantNothingLeft checks that neither files nor mounts nor processes are left.
func (r *rig) wantNothingLeft() {
	r.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, r.path("state")) {
			r.t.Errorf("still mounted: %s", line)
		}
	}
	left, _ := filepath.Glob(r.path("state", "scratch", "*"))
	if len(left) > 0 {
		r.t.Errorf("left: %v", left)
	}
	for _, pid := range processes(r.t) {
		r.t.Errorf("still running: %s", pid)
	}
}

// processes lists those of the program under test.
func processes(t *testing.T) (list []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if exe, err := os.Readlink(p); err == nil && exe == bin {
			list = append(list, p)
		}
	}
	return list
}
