//go:build linux

package trees

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var program = flag.String("holdfast", "", "the program under test; by default it is built")

// The exit codes.
const (
	exitOK         = 0
	exitFailed     = 1
	exitIncomplete = 3
)

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
	dir, err := os.MkdirTemp("", "holdfast-trees-*")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bin = filepath.Join(dir, "holdfast")
	if err := os.Chmod(dir, 0o755); err != nil { // an ordinary user runs it, too
		return 1, err
	}
	if out, err := exec.Command("go", "build", "-tags="+os.Getenv("TAGS"), "-o", bin, "../../cmd/holdfast").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return run(), nil
}

// need skips a test where a program is missing; CI must have it.
func need(t *testing.T, programs ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("whole trees take minutes")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			lacking(t, err.Error())
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		lacking(t, "needs root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		lacking(t, err.Error())
	}
}

func lacking(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// run executes a program and returns its exit code and what it said.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return runAs(t, nil, args...)
}

// runAs is run with a change to the command, as another user or environment.
func runAs(t *testing.T, change func(*exec.Cmd), args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = 10 * time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if change != nil {
		change(cmd)
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || !exit.Exited()) {
		t.Fatalf("%q: %v\n%s", args, err, said.String())
	}
	return cmd.ProcessState.ExitCode(), out.String(), said.String()
}

// must runs a program that has to succeed, and returns its standard output.
func must(t *testing.T, args ...string) string {
	t.Helper()
	code, out, said := run(t, args...)
	if code != 0 {
		t.Fatalf("%q: exit %d\n%s%s", args, code, tail(out), tail(said))
	}
	return out
}

func tail(s string) string {
	return s[max(0, len(s)-3000):]
}

// store is a repository and the time of its next snapshot.
type store struct {
	t    *testing.T
	dir  string
	key  []string // --keyfile FILE
	next atomic.Int64
}

func newStore(t *testing.T) *store {
	t.Helper()
	return newStoreAt(t, filepath.Join(t.TempDir(), "repo"))
}

func newStoreAt(t *testing.T, dir string) *store {
	t.Helper()
	s := &store{t: t, dir: dir}
	s.next.Store(1_700_000_000)
	s.hold(exitOK, "init", "--lazy", s.dir)
	return s
}

// encrypted makes all that follows use a new key.
func (s *store) encrypted() *store {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "key.json")
	must(s.t, bin, "key", "create", file, "--kdf", "none")
	s.key = []string{"--keyfile", file}
	return s
}

// hold runs the program, which has to exit with the code, and returns what it
// said.
func (s *store) hold(want int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	return s.holdAs(nil, want, args...)
}

func (s *store) holdAs(change func(*exec.Cmd), want int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	args = append([]string{bin}, args...)
	if args[1] != "init" {
		args = append(args, "--repository", s.dir)
	}
	if args[1] == "backup" || args[1] == "restore" || args[1] == "mount" {
		args = append(args, s.key...)
	}
	code, out, said := runAs(s.t, change, args...)
	if code != want {
		s.t.Fatalf("%q: exit %d, want %d\n%s%s", args, code, want, tail(out), tail(said))
	}
	if strings.Contains(said, "goroutine ") {
		s.t.Fatalf("%q: a stack trace:\n%s", args, tail(said))
	}
	return out, said
}

// backup makes a snapshot of a group and returns its name. Each is a minute
// younger than the one before.
func (s *store) backup(want int, id string, args ...string) (snapshot, said string) {
	s.t.Helper()
	at := s.next.Add(60)
	_, said = s.hold(want, append([]string{
		"backup", "--backup-type", "host", "--backup-id", id, "--backup-time", fmt.Sprint(at),
	}, args...)...)
	return fmt.Sprintf("host/%s/%s", id, time.Unix(at, 0).UTC().Format("2006-01-02T15:04:05Z")), said
}

// judged lets the independent check read everything in the repository.
func (s *store) judged() {
	s.t.Helper()
	code, out, said := run(s.t, append([]string{"python3", "../check/check.py", "--archives", s.dir}, s.key...)...)
	if code > 1 {
		s.t.Fatalf("check.py: exit %d\n%s", code, said)
	}
	for line := range strings.Lines(out) {
		if fault, ok := strings.CutPrefix(line, "FAULT: "); ok && !strings.Contains(fault, "of 65536 directories are missing") {
			s.t.Errorf("the independent check: %s", fault)
		}
	}
}

// listed writes what the independent reader finds in an archive into a file for
// treecmp.py, and returns its name.
func (s *store) listed(snapshot, archive string) string {
	s.t.Helper()
	args := append([]string{"python3", "../check/pxar.py"}, s.key...)
	return written(s.t, must(s.t, append(args, s.dir, snapshot, archive)...))
}

// listing is what a tree is now, in a file for treecmp.py.
func listing(t *testing.T, dir string) string {
	t.Helper()
	return written(t, must(t, "python3", "../check/treecmp.py", "--list", dir))
}

func written(t *testing.T, text string) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "listing-*")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// same compares two trees or listings.
func same(t *testing.T, what, want, got string, options ...string) {
	t.Helper()
	args := append([]string{"python3", "../check/treecmp.py"}, options...)
	code, out, said := run(t, append(args, want, got)...)
	switch {
	case code > 1:
		t.Fatalf("%s: treecmp.py: exit %d\n%s", what, code, said)
	case code == 1:
		t.Errorf("%s: %d differences:\n%s", what, strings.Count(out, "\n"), out[:min(len(out), 3000)])
	}
}
