package torture

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	killTime = flag.Duration("kill-time", 20*time.Second, "how long to run and kill processes")
	killSeed = flag.Uint64("kill-seed", 0, "seed of the random choices; 0: a new one")
	program  = flag.String("holdfast", "", "the program to kill; by default it is built")
)

// The exit codes that an operation beside others may have.
const (
	exitOK         = 0
	exitIncomplete = 3
	exitNotFound   = 10
	exitLocked     = 11
	exitKilled     = -1
)

// round is how long the processes run between two looks at the repository.
const round = 5 * time.Second

func TestKilledProcessesHarmNothing(t *testing.T) {
	r := newRun(t)
	t.Logf("seed %d, %v", r.seed, *killTime)
	rounds := max(1, int(*killTime/round))
	for i := range rounds {
		r.round(i)
		if t.Failed() {
			t.Fatalf("seed %d, round %d of %d", r.seed, i, rounds)
		}
	}
	t.Logf("seed %d: %d processes, %d of them killed, in %d rounds; %d snapshots restored bit for bit; %d backups acknowledged, %d interrupted ones were there in full, %d not at all",
		r.seed, r.started.Load(), r.killed.Load(), rounds, r.restored.Load(), r.model.acknowledged, r.model.whole, r.model.absent)
}

// run is one repository and what is known of it.
type run struct {
	t        *testing.T
	seed     uint64
	bin      string
	dir      string // of everything
	model    *model
	started  atomic.Int64
	killed   atomic.Int64
	restored atomic.Int64
}

func newRun(t *testing.T) *run {
	t.Helper()
	for _, tool := range []string{"python3", "zstd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the independent check needs %s", tool)
		}
	}
	r := &run{t: t, seed: *killSeed, bin: *program, dir: t.TempDir(), model: newModel()}
	if r.seed == 0 {
		r.seed = rand.Uint64()
	}
	if r.bin == "" {
		r.bin = filepath.Join(r.dir, "holdfast")
		tags := "-tags=" + os.Getenv("TAGS")
		if out, err := exec.CommandContext(t.Context(), "go", "build", tags, "-o", r.bin, "../../cmd/holdfast").CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	var err error
	if r.bin, err = filepath.Abs(r.bin); err != nil {
		t.Fatal(err)
	}
	if code, out := r.hold(t.Context(), 0, "init", "--lazy", r.repo()); code != exitOK {
		t.Fatalf("init: exit %d\n%s", code, out)
	}
	return r
}

func (r *run) repo() string { return filepath.Join(r.dir, "repo") }

// hold runs the program; after kill (0: never) it is killed.
func (r *run) hold(ctx context.Context, kill time.Duration, args ...string) (code int, out string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.bin, args...)
	cmd.Env = append(os.Environ(), "HOLDFAST_REPOSITORY="+r.repo())
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	if err := cmd.Start(); err != nil {
		r.t.Errorf("start: %v", err)
		return exitKilled, ""
	}
	r.started.Add(1)
	if kill > 0 {
		timer := time.AfterFunc(kill, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	err := cmd.Wait()
	out = strings.Join(args, " ") + "\n" + b.String()
	if strings.Contains(out, "goroutine ") {
		r.t.Errorf("a stack trace: %s", out)
	}
	exit, _ := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return exitOK, out
	case ctx.Err() != nil:
		r.t.Errorf("hangs: %s", out)
		return exitKilled, out
	case exit == nil:
		r.t.Errorf("%v: %s", err, out)
		return exitKilled, out
	case !exit.Exited():
		r.killed.Add(1)
		return exitKilled, out
	}
	return exit.ExitCode(), out
}

// round lets the processes run, then stops starting them and judges.
func (r *run) round(i int) {
	until := time.Now().Add(round)
	var wg sync.WaitGroup
	for a, act := range []func(*rand.Rand){
		r.backup("1"), r.backup("1"), r.backup("2"), r.backup("2"),
		r.collect, r.prune, r.forget, r.verify, r.restoreOne,
	} {
		rng := rand.New(rand.NewPCG(r.seed, uint64(i)<<8|uint64(a)))
		wg.Go(func() {
			for time.Now().Before(until) && !r.t.Failed() {
				act(rng)
			}
		})
	}
	wg.Wait()
	if !r.t.Failed() {
		r.judge(rand.New(rand.NewPCG(r.seed, uint64(i)<<8|0xff)))
	}
}

// moment is when a process is killed: one in three never is.
func moment(rng *rand.Rand) time.Duration {
	switch rng.IntN(3) {
	case 0:
		return 0
	case 1:
		return time.Duration(1 + rng.Int64N(int64(30*time.Millisecond)))
	}
	return time.Duration(1 + rng.Int64N(int64(250*time.Millisecond)))
}

// allow complains about any exit code but those.
func (r *run) allow(what string, code int, out string, codes ...int) {
	for _, c := range append(codes, exitOK, exitKilled) {
		if code == c {
			return
		}
	}
	r.t.Errorf("%s: exit %d\n%s", what, code, out)
}

func (r *run) backup(id string) func(*rand.Rand) {
	return func(rng *rand.Rand) {
		n, img := r.model.begin(id, rng)
		file := filepath.Join(r.dir, fmt.Sprintf("image-%s-%d", id, n.time))
		if err := os.WriteFile(file, img, 0o600); err != nil {
			r.t.Error(err)
			return
		}
		defer func() { _ = os.Remove(file) }()
		level := []string{"none", "filesystem", "file"}[rng.IntN(3)]
		code, out := r.hold(r.t.Context(), moment(rng), "backup", "disk.img:"+file, "--backup-type", "vm", "--backup-id", id,
			"--backup-time", fmt.Sprint(n.time), "--chunk-size", "64", "--sync-level", level)
		switch {
		case code == exitOK:
			r.model.made(n)
		case code == exitLocked:
			r.model.refused(n)
		case strings.Contains(out, "which is not older"): // the other one was faster
			r.model.refused(n)
		default:
			r.allow("backup", code, out)
		}
	}
}

func (r *run) collect(rng *rand.Rand) {
	code, out := r.hold(r.t.Context(), moment(rng), "gc", "--cutoff", "0", "--skip-atime-check")
	r.allow("gc", code, out, exitLocked)
}

const keepLast = 3

func (r *run) prune(rng *rand.Rand) {
	g := []string{"1", "2"}[rng.IntN(2)]
	r.model.outlived(g)
	code, out := r.hold(r.t.Context(), moment(rng), "prune", "vm/"+g, "--keep-last", fmt.Sprint(keepLast))
	r.model.outlived(g)
	r.allow("prune", code, out, exitLocked, exitNotFound, exitIncomplete) // some in use
	time.Sleep(time.Duration(rng.Int64N(int64(200 * time.Millisecond))))
}

func (r *run) forget(rng *rand.Rand) {
	n, ok := r.model.doom(rng)
	if ok {
		code, out := r.hold(r.t.Context(), moment(rng), "snapshot", "forget", n.String())
		r.allow("forget", code, out, exitLocked, exitNotFound)
		if code == exitOK {
			r.model.gone(n)
		}
	}
	time.Sleep(time.Duration(rng.Int64N(int64(400 * time.Millisecond))))
}

func (r *run) verify(rng *rand.Rand) {
	code, out := r.hold(r.t.Context(), moment(rng), "verify", "--ignore-verified=false")
	r.allow("verify", code, out, exitLocked, exitIncomplete)
	time.Sleep(time.Duration(rng.Int64N(int64(200 * time.Millisecond))))
}

func (r *run) restoreOne(rng *rand.Rand) {
	n, img, ok := r.model.pick(rng)
	if !ok {
		return
	}
	if got, code, out := r.restore(n, moment(rng)); code == exitOK && !bytes.Equal(got, img) {
		r.t.Errorf("%s restores to something else", n)
	} else {
		r.allow("restore", code, out, exitLocked, exitNotFound)
	}
}

func (r *run) restore(n snapshot, kill time.Duration) (got []byte, code int, out string) {
	to, err := os.CreateTemp(r.dir, "restored-*")
	if err != nil {
		r.t.Error(err)
		return nil, exitKilled, ""
	}
	defer func() { _, _ = to.Close(), os.Remove(to.Name()) }()
	code, out = r.hold(r.t.Context(), kill, "restore", n.String(), "disk.img", to.Name(), "--overwrite")
	if code == exitOK {
		if got, err = os.ReadFile(to.Name()); err != nil {
			r.t.Error(err)
		}
	}
	return got, code, out
}

// judge looks at the repository while nothing runs.
func (r *run) judge(rng *rand.Rand) {
	r.independent()
	r.settle()
	for _, args := range [][]string{{"gc", "--cutoff", "0"}, {"verify", "--ignore-verified=false"}} {
		if code, out := r.hold(r.t.Context(), 0, args...); code != exitOK {
			r.t.Errorf("exit %d: %s", code, out)
		}
	}
	// Nothing that a killed process left is in the way.
	for _, id := range []string{"1", "2"} {
		n, img := r.model.begin(id, rng)
		file := filepath.Join(r.dir, "image")
		if err := os.WriteFile(file, img, 0o600); err != nil {
			r.t.Fatal(err)
		}
		code, out := r.hold(r.t.Context(), 0, "backup", "disk.img:"+file, "--backup-type", "vm", "--backup-id", id,
			"--backup-time", fmt.Sprint(n.time), "--chunk-size", "64")
		if code != exitOK {
			r.t.Errorf("the next backup: exit %d\n%s", code, out)
		}
		r.model.made(n)
	}
	r.settle()
	if left, err := os.ReadDir(filepath.Join(r.repo(), ".holdfast/writers")); err != nil || len(left) > 0 {
		r.t.Errorf("%d entries of dead writers after a collection, %v", len(left), err)
	}
	r.independent()
}

// settle restores everything that is there and compares the list with the
// model.
func (r *run) settle() {
	present, err := finished(r.repo())
	if err != nil {
		r.t.Fatal(err)
	}
	var wg sync.WaitGroup
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	for n := range present {
		img, known := r.model.content(n)
		if !known {
			r.t.Errorf("%s is there though it was removed, or never made", n)
			continue
		}
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			got, code, out := r.restore(n, 0)
			if code != exitOK || !bytes.Equal(got, img) {
				r.t.Errorf("%s does not restore: exit %d, equal %v\n%s", n, code, bytes.Equal(got, img), out)
			}
			r.restored.Add(1)
		})
	}
	wg.Wait()
	for _, n := range r.model.settle(present) {
		r.t.Errorf("%s was acknowledged and is gone", n)
	}
}

// finished lists the snapshots that have a manifest.
func finished(repo string) (map[snapshot]bool, error) {
	found, err := filepath.Glob(filepath.Join(repo, "vm", "*", "*", "index.json.blob"))
	present := map[snapshot]bool{}
	for _, p := range found {
		dir := filepath.Dir(p)
		at, perr := time.Parse(time.RFC3339, filepath.Base(dir))
		err = errors.Join(err, perr)
		present[snapshot{filepath.Base(filepath.Dir(dir)), at.Unix()}] = true
	}
	return present, err
}

// independent runs the check that shares no code with the program.
func (r *run) independent() {
	cmd := exec.CommandContext(r.t.Context(), "python3", "../check/check.py", r.repo())
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 1) {
		r.t.Errorf("check.py: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if fault, ok := strings.CutPrefix(line, "FAULT: "); ok && !tolerable(fault) {
			r.t.Errorf("the independent check: %s", fault)
		}
	}
}

// tolerable are the traces of interrupted backups that PBS leaves too, and that
// the repository is a lazy one.
func tolerable(fault string) bool {
	for _, s := range []string{"unfinished: it has no manifest", "left-over temporary file", "of 65536 directories are missing"} {
		if strings.Contains(fault, s) {
			return true
		}
	}
	return strings.Contains(fault, ".tmp_") && strings.Contains(fault, "stray")
}
