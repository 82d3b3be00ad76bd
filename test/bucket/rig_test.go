package bucket

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore/objtest/gateway"
)

var program = flag.String("holdfast", "", "the program to use; by default it is built")

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitNotFound    = 10
	exitRefused     = 12
	exitInterrupted = 130
	exitKilled      = -1
)

// binary is the program, which is built once, where TestMain says.
var binary = sync.OnceValues(func() (string, error) {
	if *program != "" {
		return filepath.Abs(*program)
	}
	path := filepath.Join(os.Getenv(buildDir), "holdfast")
	if out, err := exec.Command("go", "build", "-tags="+os.Getenv("TAGS"), "-o", path, "../../cmd/holdfast").CombinedOutput(); err != nil {
		return "", errors.Join(err, errors.New(string(out)))
	}
	return path, nil
})

const buildDir = "HOLDFAST_TEST_BUILD"

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "holdfast-bucket-")
	if err == nil {
		err = os.Setenv(buildDir, dir)
	}
	if err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// rig is an engine with a repository in its bucket "tank".
type rig struct {
	t    *testing.T
	bin  string
	dir  string // of the test
	home string // of the engine
	line *line
	repo string // its address

	mu     sync.Mutex
	engine *gateway.Gateway
	stop   func()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if _, err := gateway.Program(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v (test/packages builds it)", err)
		}
		t.Skipf("%v (test/packages builds it)", err)
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, bin: bin, dir: t.TempDir(), home: t.TempDir(), line: newLine(t)}
	r.repo = "s3://tank/r?endpoint=http://" + r.line.address()
	r.start()
	t.Cleanup(r.kill)
	if err := r.engine.MakeBucket(t.Context(), "tank", false); err != nil {
		t.Fatal(err)
	}
	r.holds(exitOK, "init", "--pack-size", "16M")
	return r
}

// start starts the engine, over what it had when it was killed.
func (r *rig) start() {
	g, stop, err := gateway.Run(context.WithoutCancel(r.t.Context()), r.home)
	if err != nil {
		r.t.Errorf("start the engine: %v", err)
		return
	}
	r.mu.Lock()
	r.engine, r.stop = g, stop
	r.mu.Unlock()
	r.line.connect(strings.TrimPrefix(g.Endpoint, "http://"))
}

// kill kills the engine.
func (r *rig) kill() {
	r.mu.Lock()
	stop := r.stop
	r.stop = nil
	r.mu.Unlock()
	if stop != nil {
		stop()
	}
	r.line.connect("")
}

// bucket is the directory of the bucket.
func (r *rig) bucket() string { return filepath.Join(r.home, "buckets", "tank") }

// command is the program with its arguments, and what it prints.
func (r *rig) command(args ...string) (*exec.Cmd, *bytes.Buffer) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute)
	r.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, r.bin, args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "HOLDFAST_REPOSITORY="+r.repo,
		"HOLDFAST_S3_ACCESS_KEY="+gateway.AccessKey, "HOLDFAST_S3_SECRET_KEY="+gateway.SecretKey)
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// code is the exit code of a command that has ended.
func (r *rig) code(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	r.t.Fatal(err)
	return 0
}

// ends runs a command, sends it a signal when so many bytes have been carried, and
// returns its exit code.
func (r *rig) ends(cmd *exec.Cmd, bytes int64, s os.Signal) int {
	r.t.Helper()
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.line.after(bytes, func() { _ = cmd.Process.Signal(s) })
	err := cmd.Wait()
	r.happened()
	return r.code(err)
}

// happened makes sure that there was trouble.
func (r *rig) happened() {
	r.t.Helper()
	if !r.line.happened() {
		r.t.Fatal("the program was done before the trouble began")
	}
}

// holds runs the program, which must end with the code, and returns what it said.
func (r *rig) holds(want int, args ...string) string {
	r.t.Helper()
	cmd, out := r.command(args...)
	if got := r.code(cmd.Run()); got != want {
		r.t.Fatalf("%q: exit %d, want %d\n%s", args, got, want, out)
	}
	return out.String()
}

// says is holds, of which something must be said.
func (r *rig) says(words string, want int, args ...string) {
	r.t.Helper()
	if out := r.holds(want, args...); !strings.Contains(out, words) {
		r.t.Errorf("%q does not say %q:\n%s", args, words, out)
	}
}

// image makes a disk that cannot be compressed.
func (r *rig) image(name string, seed byte, mib int) {
	r.t.Helper()
	b := make([]byte, mib<<20)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	if err := os.WriteFile(filepath.Join(r.dir, name), b, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// restores makes sure that a snapshot is an image.
func (r *rig) restores(snapshot, image string) {
	r.t.Helper()
	r.holds(exitOK, "restore", snapshot, "disk.img", "restored.img", "--overwrite")
	r.same("restored.img", image)
}

func (r *rig) same(a, b string) {
	r.t.Helper()
	got, err := os.ReadFile(filepath.Join(r.dir, a))
	if err != nil {
		r.t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(r.dir, b))
	if err != nil {
		r.t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		r.t.Errorf("%s is not %s", a, b)
	}
}
