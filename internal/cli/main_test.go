package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusemount"
	"github.com/holdfast-backup/holdfast/internal/mapping"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/proto/trust"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/remote"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

func TestMain(m *testing.M) {
	run := func() {
		ctx, cancel := context.WithCancelCause(context.Background())
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
		go func() {
			<-signals
			cancel(ErrInterrupted)
		}()
		os.Exit(Main(ctx, System("test"), os.Args[1:]))
	}
	testscript.Main(m, map[string]func(){"holdfast": run, "pxar": run})
}

func TestScripts(t *testing.T) {
	samples, err := filepath.Abs("../format/pxar/testdata")
	if err != nil {
		t.Fatal(err)
	}
	engine := &engine{home: t.TempDir()}
	t.Cleanup(engine.end)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOLDFAST_REPOSITORY", filepath.Join(e.WorkDir, "repo"))
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("TZ", "UTC")
			e.Setenv("SAMPLES", samples)
			e.Setenv("CATALOGS", filepath.Join(samples, "../../catalog/testdata"))
			e.Setenv("CHECK", filepath.Join(samples, "../../../../test/check"))
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			e.Setenv("HOLDFAST_RUN_DIR", filepath.Join(e.WorkDir, "run"))
			return os.Mkdir(filepath.Join(e.WorkDir, "home"), 0o700)
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "libvirt":
				return hasLibvirt()
			case "versitygw":
				return hasGateway()
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"image":     makeImage,
			"damage":    damage,
			"samefile":  sameFile,
			"qcow2":     makeQcow2,
			"awaitfile": awaitFile,
			"mapped":    mapped,
			"mounted":   mounted,
			"archives":  makeArchives,
			"serve":     serve,
			"inside":    inside,
			"loopmount": loopMount,
			"unfreeze":  unfreeze,
			"libvirtd":  startLibvirt,
			"bucket":    engine.bucket,
			"user":      engine.user,
			"atnow":     engine.atNow,
		},
	})
}

// exits CODE COMMAND ARGS... runs a command that must end with the code.
// exits -stdin FILE CODE ... gives it standard input.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("exits: %v", err)
	}
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		var ee interface{ ExitCode() int }
		if !errors.As(err, &ee) {
			ts.Fatalf("exits: %v", err)
		}
		got = ee.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// serve runs a server of the configuration until the script ends. It sets $SERVER
// to its address, $FINGERPRINT and $OTHERPRINT to what its certificate has and has
// not, and writes the former into the file fingerprints.
func serve(ts *testscript.TestScript, _ bool, _ []string) {
	program := filepath.Join(strings.Split(ts.Getenv("PATH"), string(os.PathListSeparator))[0], "holdfast")
	cmd := exec.Command(program, "server", "run", "--listen", "127.0.0.1:0")
	cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"PATH", "HOME", "TZ", "WORK", "HOLDFAST_SERVER_CONFIG", "GOCOVERDIR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	var server, print string
	if _, serr := fmt.Sscanf(line, "serving on %s fingerprint %s", &server, &print); err != nil || serr != nil {
		ts.Fatalf("the server says %q: %v, %v", line, err, serr)
	}
	server = strings.TrimSuffix(server, ",")
	ts.Setenv("SERVER", server)
	ts.Setenv("PORT", server[strings.LastIndex(server, ":")+1:])
	ts.Setenv("FINGERPRINT", print)
	other := "00" + print[2:]
	if other == print {
		other = "11" + print[2:]
	}
	ts.Setenv("OTHERPRINT", other)
	ts.Check(os.WriteFile(ts.MkAbs("fingerprints"), []byte("pbs.example.org "+other+"\n127.0.0.1 "+print+"\n"), 0o600))
}

// awaitfile FILE waits until a process in the background has made it.
func awaitFile(ts *testscript.TestScript, _ bool, args []string) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(ts.MkAbs(args[0])); err == nil {
			return
		}
	}
	ts.Fatalf("no %s after 20 s", args[0])
}

// mapped sets $DEV to the device that the last command printed, and unmaps
// everything of this script in the end.
func mapped(ts *testscript.TestScript, _ bool, _ []string) {
	_, dev, ok := strings.Cut(strings.TrimSpace(ts.ReadFile("stdout")), " mapped on ")
	if !ok {
		ts.Fatalf("nothing was mapped")
	}
	ts.Setenv("DEV", dev)
	dir := ts.Getenv("HOLDFAST_RUN_DIR")
	ts.Defer(func() {
		_, _ = mapping.Unmap(context.Background(), dir, "", mapping.UnmapOptions{Force: true, All: true})
	})
}

// mounted DIR unmounts it in the end, if the script does not.
func mounted(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Defer(func() { _ = fusemount.Unmount(context.Background(), dir, true) })
}

// image FILE SEED MIB: noise, text, zeros and a hole of that size.
func makeImage(ts *testscript.TestScript, _ bool, args []string) {
	seed, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	mib, err := strconv.ParseInt(args[2], 10, 64)
	ts.Check(err)
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	var key [32]byte
	key[0] = byte(seed)
	noise := make([]byte, 300<<10)
	_, err = rand.NewChaCha8(key).Read(noise)
	ts.Check(err)
	write := func(b []byte, at int64) {
		_, err := f.WriteAt(b, at)
		ts.Check(err)
	}
	ts.Check(f.Truncate(mib<<20 + 512))
	write(noise, 0)
	write(bytes.Repeat([]byte(fmt.Sprintf("text %d ", seed)), 30<<10), 5<<20)
	write([]byte("the end"), mib<<20)
	ts.Check(f.Close())
}

// damage KIND TREE...: flips a byte of, truncates or removes the largest
// regular file below a directory whose name has the given ending.
func damage(ts *testscript.TestScript, _ bool, args []string) {
	kind, root, suffix := args[0], ts.MkAbs(args[1]), args[2]
	var victim string
	var size int64 = -1
	ts.Check(filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(path, suffix) {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			victim, size = path, info.Size()
		}
		return err
	}))
	if victim == "" {
		ts.Fatalf("damage: nothing below %s ends in %q", root, suffix)
	}
	switch kind {
	case "remove":
		ts.Check(os.Remove(victim))
	case "truncate":
		ts.Check(os.Truncate(victim, size/2))
	case "flip":
		f, err := os.OpenFile(victim, os.O_RDWR, 0)
		ts.Check(err)
		b := make([]byte, 1)
		_, err = f.ReadAt(b, size-3)
		ts.Check(err)
		b[0] ^= 0x10
		_, err = f.WriteAt(b, size-3)
		ts.Check(err)
		ts.Check(f.Close())
	default:
		ts.Fatalf("damage: unknown kind %q", kind)
	}
}

// qcow2 FILE BACKING: the header of an empty image of 1 MiB on a backing file.
func makeQcow2(ts *testscript.TestScript, _ bool, args []string) {
	backing := []byte(args[1])
	h := make([]byte, 4*65536)
	be := binary.BigEndian
	copy(h, "QFI\xfb")
	be.PutUint32(h[4:], 3)
	be.PutUint64(h[8:], 512) // backing file name
	be.PutUint32(h[16:], uint32(len(backing)))
	be.PutUint32(h[20:], 16)        // cluster bits
	be.PutUint64(h[24:], 1<<20)     // size
	be.PutUint32(h[36:], 1)         // L1 entries
	be.PutUint64(h[40:], 3*65536)   // L1 table
	be.PutUint64(h[48:], 65536)     // refcount table
	be.PutUint32(h[56:], 1)         // its clusters
	be.PutUint32(h[96:], 4)         // refcount order
	be.PutUint32(h[100:], 104)      // header length
	be.PutUint64(h[65536:], 131072) // the one refcount block
	for i := range 4 {
		be.PutUint16(h[131072+2*i:], 1)
	}
	copy(h[512:], backing)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), h, 0o600))
}

func sameFile(ts *testscript.TestScript, neg bool, args []string) {
	a, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	if bytes.Equal(a, b) == neg {
		ts.Fatalf("%s and %s: same is %v", args[0], args[1], !neg)
	}
}

// everyCommand walks the whole tree.
func everyCommand(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		everyCommand(sub, f)
	}
}

func TestEveryCommandExplainsItselfWithAnExample(t *testing.T) {
	root := newRootCommand(&app{Env: testEnv(t)})
	everyCommand(root, func(c *cobra.Command) {
		if c.Name() == "help" {
			return
		}
		path := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q", path, c.Short)
		}
		if len(c.Long) <= len(c.Short) {
			t.Errorf("%s has no long help", path)
		}
		for line := range strings.Lines(c.Long) {
			if n := len(strings.TrimSuffix(line, "\n")); n > 82 {
				t.Errorf("%s: a line of the long help has %d columns: %s", path, n, line)
			}
		}
		if !strings.HasPrefix(c.Example, "  ") || !strings.Contains(c.Example, "holdfast") {
			t.Errorf("%s has no example", path)
		}
	})
}

// An example that does not parse teaches a mistake.
func TestExamplesParse(t *testing.T) {
	everyCommand(newRootCommand(&app{Env: testEnv(t)}), func(c *cobra.Command) {
		for line := range strings.Lines(c.Example) {
			i := strings.Index(line, "holdfast ")
			if i < 0 || strings.ContainsAny(line, "$<>") {
				continue
			}
			words := splitWords(strings.TrimSpace(line[i+len("holdfast "):]))
			root := newRootCommand(&app{Env: testEnv(t)})
			cmd, rest, err := root.Find(words)
			if err != nil || cmd == root {
				t.Errorf("%s: example %q: no such command", c.CommandPath(), line)
				continue
			}
			if err := cmd.ParseFlags(rest); err != nil {
				t.Errorf("%s: example %q: %v", c.CommandPath(), line, err)
			} else if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
				t.Errorf("%s: example %q: %v", c.CommandPath(), line, err)
			}
		}
	})
}

// splitWords splits at blanks outside double quotes, and ends at a pipe.
func splitWords(s string) (words []string) {
	quoted := false
	for _, f := range strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	}) {
		if f == "|" || f == "&&" {
			break
		}
		words = append(words, strings.Trim(f, `"`))
	}
	return words
}

func testEnv(t *testing.T) Env {
	e := System("test")
	e.Stdin, e.Stdout, e.Stderr = strings.NewReader(""), io.Discard, io.Discard
	e.LookupEnv = func(string) (string, bool) { return "", false }
	e.Asker = nil
	e.Open = func(path string, _ datastore.SyncLevel) (repo.Repository, error) {
		t.Errorf("%s was opened", path)
		return nil, repo.ErrNotFound
	}
	return e
}

func TestExitCodesFollowTheKindOfError(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("somewhere: %w", err) }
	for _, tc := range []struct {
		name string
		err  error
		want int
	}{
		{"nothing", nil, 0},
		{"anything", errors.New("x"), 1},
		{"protected", repo.ErrProtected, 1},
		{"usage", usagef("x"), 2},
		{"usage with hint", hint(usagef("x"), "y"), 2},
		{"skipped", mark(errSkipped, "x"), 3},
		{"corrupt", &repo.CorruptError{What: "chunk", Err: errors.New("x")}, 4},
		{"corrupt by authentication", &repo.CorruptError{What: "chunk", Err: chunkcrypt.ErrAuth}, 4},
		{"missing chunk", repo.ErrChunkMissing, 4},
		{"signature", manifest.ErrSignature, 4},
		{"no archive", pxar.ErrFormat, 4},
		{"not found", repo.ErrNotFound, 10},
		{"locked", repo.ErrLocked, 11},
		{"wrong key", manifest.ErrWrongKey, 12},
		{"no key", blob.ErrNoKey, 12},
		{"wrong password", keyfile.ErrPassword, 12},
		{"no password", &secret.MissingError{}, 12},
		{"owner", repo.ErrOwner, 12},
		{"login", remote.ErrLogin, 12},
		{"no bucket", objstore.ErrBucket, 10},
		{"keys of an object store", objstore.ErrDenied, 12},
		{"clock of an object store", objstore.ErrClock, 1},
		{"certificate", &trust.UntrustedError{}, 12},
		{"signal", ErrInterrupted, 130},
		{"cancelled", context.Canceled, 130},
		{"map of another base", backup.ErrOtherBase, 1},
	} {
		for _, err := range []error{tc.err, wrap(tc.err)} {
			if tc.err == nil {
				err = nil
			}
			if got := exitCode(err); got != tc.want {
				t.Errorf("%s: exit code %d, want %d", tc.name, got, tc.want)
			}
		}
	}
}

func TestLocationTellsDirectoriesFromServers(t *testing.T) {
	for s, want := range map[string]string{
		"/mnt/x": "/mnt/x", "./x": "./x", "a/b": "a/b", ".": ".", "..": "..", "dir:x": "x", "dir:a@b:c": "a@b:c",
		"/mnt/a:b": "/mnt/a:b", "my.repo": "my.repo",
	} {
		if got, err := parseLocation(s); err != nil || got.dir != want {
			t.Errorf("%q: %q, %v, want %q", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"store": "root@pam@localhost:store", "host:store": "root@pam@host:store", "pbs.example.org:store": "root@pam@pbs.example.org:store",
		"joe@pbs@host:8008:store": "joe@pbs@host:8008:store", "root@pam!tok@10.0.0.1:store": "root@pam!tok@10.0.0.1:store", "[::1]:store": "root@pam@[::1]:store",
	} {
		if got, err := parseLocation(s); err != nil || got.dir != "" || got.String() != want {
			t.Errorf("%q: %q, %v, want %q", s, got, err, want)
		}
	}
	for _, s := range []string{"", "dir:", "a", "host:", "joe@host:store", "host:99999:store", "a b:store"} {
		if got, err := parseLocation(s); exitCode(err) != exitUsage {
			t.Errorf("%q: %q, %v, want a usage error", s, got, err)
		}
	}
}

func TestPlaceReadsEveryFormOfASnapshotsName(t *testing.T) {
	group := names.Group{Type: names.VM, ID: "100"}
	at, err := names.ParseRFC3339("2026-11-22T10:00:00Z")
	if err != nil {
		t.Fatal(err)
	}
	a := &app{}
	for s, want := range map[string]place{
		"vm/100":                           {group: group},
		"vm/100/":                          {group: group},
		"vm/100/latest":                    {group: group, latest: true},
		"vm/100/2026-11-22T10:00:00Z":      {group: group, exact: true, time: at},
		"vm/100/2026-11-22T11:00:00+01:00": {group: group, exact: true, time: at},
		"ns/a/ns/b/vm/100":                 {ns: "a/b", group: group},
		"ns/a/vm/100/2026-11-22T10:00:00Z": {ns: "a", group: group, exact: true, time: at},
	} {
		if got, err := a.parsePlace(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "vm", "xx/100", "vm/100/yesterday", "vm/100/latest/x", "vm/../etc", "vm/.x", "ns/a", "ns/a/ns/b", "ns/../vm/100", "vm/100/2026-13-01T00:00:00Z",
	} {
		if got, err := a.parsePlace(s); exitCode(err) != exitUsage {
			t.Errorf("%q: %+v, %v, want a usage error", s, got, err)
		}
	}
	a.ns = "c"
	if _, err := a.parsePlace("ns/a/vm/100"); exitCode(err) != exitUsage {
		t.Errorf("two namespaces: %v", err)
	}
}

func TestInterruptedCommandSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(ErrInterrupted)
	e := testEnv(t)
	var stderr bytes.Buffer
	e.Stderr = &stderr
	if code := Main(ctx, e, []string{"benchmark", "--seconds", "5"}); code != exitInterrupted {
		t.Fatalf("exit code %d, %s", code, stderr.String())
	}
}

func TestBackupTimeIsSecondsOrRFC3339(t *testing.T) {
	for s, want := range map[string]int64{"1700000000": 1700000000, "2023-11-14T22:13:20Z": 1700000000} {
		if got, err := parseBackupTime(s); err != nil || got != want {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "now", "17x", "2023-11-14", time.Now().String()} {
		if got, err := parseBackupTime(s); err == nil {
			t.Errorf("%q: %d, want an error", s, got)
		}
	}
}
