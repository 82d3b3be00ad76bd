package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
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
