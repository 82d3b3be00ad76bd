package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/term"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
	"github.com/holdfast-backup/holdfast/internal/ui/prompt/ptytest"
)

const manyFiles = 60_000

// manyNames is an archive whose listing is longer than a terminal takes at once,
// with a few names that need care.
func manyNames(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pxar.NewWriter(&b, pxar.WriterOptions{})
	dir := func(name string) *pxar.Entry {
		return &pxar.Entry{Name: name, Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory | 0o755}}
	}
	file := func(name string) *pxar.Entry {
		return &pxar.Entry{Name: name, Kind: pxar.FIFO, Metadata: pxar.Metadata{Mode: pxar.ModeFIFO | 0o644}}
	}
	err := errors.Join(w.BeginDir(dir("")), w.BeginDir(dir("many files")))
	for i := range manyFiles {
		err = errors.Join(err, w.Add(file(fmt.Sprintf("%05d-%s", i, strings.Repeat("x", 80)))))
	}
	err = errors.Join(err, w.EndDir(), w.BeginDir(dir("odd")),
		w.Add(file("caf\xe9")), w.Add(file("it's [1]*")), w.Add(file("line\nfeed")), w.EndDir(), w.Add(file("other")), w.EndDir(), w.Close())
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// shellAt starts a shell at a terminal, in a process of its own.
func shellAt(t *testing.T) (*ptytest.Person, *exec.Cmd) {
	t.Helper()
	at := t.TempDir()
	path := filepath.Join(at, "repo")
	if err := dir.Create(t.Context(), path, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at, "many"), manyNames(t), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := dir.Open(path, dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := names.Snapshot{Group: names.Group{Type: names.Host, ID: "a"}, Time: 1700000000}
	err = storeArchives(t.Context(), r, n, func(s string) string { return filepath.Join(at, s) }, []string{"root.pxar.didx=many"})
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	p := ptytest.Open(t)
	cmd := exec.Command("holdfast", "catalog", "shell", "host/a", "root.pxar")
	cmd.Dir = at
	cmd.Env = append(os.Environ(), "HOLDFAST_REPOSITORY="+path, "NO_COLOR=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.TTY, p.TTY, p.TTY
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	p.Await("root.pxar:/> ")
	return p, cmd
}

func TestShellCompletesCommandsAndPaths(t *testing.T) {
	p, cmd := shellAt(t)
	for _, tc := range []struct{ keys, shows string }{
		{"pw\t", "pwd "},
		{"\r", "/\r\nroot.pxar:/> "},
		{"ls \t", "many files/  odd/         other\r\n"},
		{"o\t", "root.pxar:/> ls o"},
		{"\t", "odd/   other\r\n"},
		{"d\t", "odd/"},
		{"\t", "caf\\351  "},
		{"c\t", `"odd/caf\351" `},
		{"\r", "odd/caf\\351\r\nroot.pxar:/> "},
		{"stat odd/i\t", `odd/it\'s\ \[1]\* `},
		{"\r", "Path          /odd/it's [1]*\r\n"},
		{"stat \"odd/l\t\r", "Path          /odd/line\\nfeed\r\n"},
		{"cd m\t\r", `root.pxar:/many files> `},
		{"cd ../o\t\r", `root.pxar:/odd> `}, // a directory, so not other
		{"ls -\t", "-l  -a\r\n"},
		{"l nothing\t/x\r", "ls: there is no /odd/nothing/x\r\n"},
		{"find --\t", "--select "},
		{"\x15restore r\t", "restore repo/"},
		{" --\t", "--overwrite "},
		{"ca\t", `"caf\351" `},
		{"\x15help \t", "clear-selected"},
		{"\x15nonsense \t\x15", "root.pxar:/odd> "},
		{"exit\r", "exit\r\n"},
	} {
		p.Type(tc.keys)
		p.Await(tc.shows)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestInterruptEndsTheListingAndNotTheShell(t *testing.T) {
	p, cmd := shellAt(t)
	before, err := term.GetState(int(p.TTY.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	last := fmt.Sprintf("%05d-", manyFiles-1)
	for _, list := range []string{"ls many*", "find *", "ls -l many\\ files", "select *; list-selected"} {
		p.Type(list + "\r")
		p.Await("00010-")
		p.Type("\x03")
		seen := p.Await("root.pxar:/> ")
		if strings.Contains(seen, last) || !strings.Contains(seen, "interrupted") {
			t.Errorf("%s goes on to its end, or does not say that it was interrupted: %q", list, seen[max(0, len(seen)-300):])
		}
	}
	p.Type("half\x03")
	p.Await("root.pxar:/> ")
	p.Type("cd odd\r")
	p.Await("root.pxar:/odd> ")
	p.Type("\x1b[A\x1b[A\r") // what was run before
	p.Await("many files/00010-")
	p.Type("\x03")
	p.Await("root.pxar:/odd> ")
	p.Type("\x04")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if after, err := term.GetState(int(p.TTY.Fd())); err != nil || *after == *before {
		t.Errorf("the terminal is raw as at the prompt: %v", err)
	}
}

func TestTerminatedShellGivesTheTerminalBack(t *testing.T) {
	p, cmd := shellAt(t)
	p.Type("half a li")
	p.Await("half a li")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	p.Type("echoed\r")
	p.Await("echoed\r\n") // by the terminal, in its usual mode
}
