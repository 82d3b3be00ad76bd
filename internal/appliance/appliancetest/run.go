package appliancetest

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance"
)

// Tests says which tests to run.
type Tests struct {
	Package string        // import path
	Run     string        // as go test -run; "": all
	Env     []string      // besides HOLDFAST_GUEST, CI and TMPDIR
	Args    []string      // for the test binary
	Short   bool          // as go test -short
	Timeout time.Duration // 0: 1 minute
}

// RunTestBinary boots a machine and runs tests in it.
func RunTestBinary(t *testing.T, s Spec, tests Tests) {
	t.Helper()
	Start(t, s).TestBinary(t, tests)
}

// TestBinary compiles a package's tests, runs them in the machine and repeats
// their outcome as subtests of t.
func (vm *VM) TestBinary(t *testing.T, s Tests) {
	t.Helper()
	if s.Timeout == 0 {
		s.Timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), s.Timeout+30*time.Second)
	defer cancel()
	dir := "/test/" + path.Base(s.Package)
	binary := vm.install(ctx, t, s.Package, dir)
	args := []string{binary, "-test.v=test2json", "-test.timeout=" + s.Timeout.String(), "-test.paniconexit0"}
	if s.Run != "" {
		args = append(args, "-test.run="+s.Run)
	}
	if s.Short {
		args = append(args, "-test.short")
	}
	rep := newReport(nil)
	if testing.Verbose() {
		rep.line = func(l string) { t.Log(l) }
	}
	r, err := vm.Run(ctx, appliance.Cmd{
		Args: append(args, s.Args...), Dir: dir, Stdout: rep, Stderr: rep,
		Env: append([]string{"HOLDFAST_GUEST=1", "CI=" + os.Getenv("CI"), "TMPDIR=" + tmp}, s.Env...),
	})
	rep.flush()
	if err != nil {
		t.Errorf("run %s in the guest: %v", s.Package, err)
	}
	if r.Err() != nil {
		t.Logf("%s in the guest: %v", s.Package, r.Err())
	}
	rep.repeat(t, "")
	switch {
	case len(rep.tests) == 0:
		t.Errorf("%s: no test ran: %s", s.Package, rep.rest.output.String())
	case r.Err() != nil && !t.Failed():
		t.Errorf("%s: %v although no test failed: %s", s.Package, r.Err(), rep.rest.output.String())
	}
}

// install compiles the tests and copies them, with their testdata, to dir.
func (vm *VM) install(ctx context.Context, t *testing.T, pkg, dir string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), path.Base(pkg)+".test")
	command(t, "", "go", "test", "-c", "-trimpath", "-tags", "netgo,osusergo", "-ldflags", "-s -w", "-o", name, pkg)
	vm.put(ctx, t, name, path.Join(dir, filepath.Base(name)))
	src := strings.TrimSpace(command(t, "", "go", "list", "-f", "{{.Dir}}", pkg))
	data := filepath.Join(src, "testdata")
	err := filepath.WalkDir(data, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(src, p)
		if err == nil {
			vm.put(ctx, t, p, path.Join(dir, filepath.ToSlash(rel)))
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return path.Join(dir, filepath.Base(name))
}

func (vm *VM) put(ctx context.Context, t *testing.T, from, to string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := vm.Put(ctx, to, fi.Mode(), f); err != nil {
		t.Fatal(err)
	}
}

// repeat makes a subtest for each test below parent.
func (r *report) repeat(t *testing.T, parent string) {
	t.Helper()
	for _, o := range r.tests {
		if r.parent(o.name) != parent {
			continue
		}
		name := strings.TrimPrefix(strings.TrimPrefix(o.name, parent), "/")
		t.Run(name, func(t *testing.T) {
			r.repeat(t, o.name)
			text := ""
			if !testing.Verbose() { // else it has been seen
				text = "\n" + strings.TrimRight(o.output.String(), "\n")
			}
			switch o.status {
			case "PASS":
			case "SKIP":
				t.Skip("skipped in the guest:", strings.TrimSpace(o.output.String()))
			case "":
				t.Errorf("did not end in the guest%s", text)
			default:
				t.Errorf("failed in the guest%s", text)
			}
		})
	}
}
