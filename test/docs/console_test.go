package docs_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// step is one command of a page and what the page says it prints; a hidden one
// is shown nowhere.
type step struct {
	line   int // of the page, from 1
	text   string
	hidden bool
	first  int // lines [first, end) of the page are its output
	end    int
}

var hiddenRun = regexp.MustCompile(`^<!-- run: (.*) -->$`)

// steps finds the commands of a page. A command goes on in lines behind "> ".
func steps(lines []string) (all []step) {
	console := map[int]fence{}
	for _, f := range fences(lines) {
		if f.kind == "console" {
			console[f.first-1] = f
		}
	}
	for i := 0; i < len(lines); i++ {
		if m := hiddenRun.FindStringSubmatch(lines[i]); m != nil {
			all = append(all, step{line: i + 1, text: m[1], hidden: true})
		}
		f, ok := console[i]
		if !ok {
			continue
		}
		for i = f.first; i < f.end; {
			s := step{line: i + 1, text: strings.TrimPrefix(lines[i], "$ ")}
			for i++; i < f.end && strings.HasPrefix(lines[i], "> "); i++ {
				s.text += "\n" + lines[i][2:]
			}
			for s.first = i; i < f.end && !strings.HasPrefix(lines[i], "$ "); i++ {
			}
			s.end = i
			all = append(all, s)
		}
	}
	return all
}

const marker = "\x01step "

// runSteps runs a page's commands in one shell and returns what each printed.
func runSteps(t *testing.T, all []step, store objectStore) [][]string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"bin", "home", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(self, filepath.Join(dir, "bin/holdfast")); err != nil {
		t.Fatal(err)
	}
	// The marker keeps $? for the next command.
	script := "step() { local rc=$?; printf '" + marker + "\\n'; return $rc; }\nexec 2>&1\n"
	for _, s := range all {
		script += "step\n" + store.real(s.text) + "\n"
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir = filepath.Join(dir, "work")
	cmd.Env = []string{
		"PATH=" + filepath.Join(dir, "bin") + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
		"HOME=" + filepath.Join(dir, "home"), "TZ=UTC", "LC_ALL=C",
	}
	cmd.Env = append(cmd.Env, store.env()...)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.Output()
	if _, exited := err.(*exec.ExitError); err != nil && !exited { // the last command may fail
		t.Fatal(err)
	}
	shown := store.shown(strings.ReplaceAll(string(out), cmd.Dir, "/srv"))
	parts := strings.Split(shown, marker+"\n")[1:]
	if len(parts) != len(all) {
		t.Fatalf("the shell ended after %d of %d commands:\n%s", len(parts), len(all), shown)
	}
	results := make([][]string, len(parts))
	for i, p := range parts {
		for line := range strings.Lines(p) {
			if !progress.MatchString(line) {
				results[i] = append(results[i], strings.TrimRight(line, " \n"))
			}
		}
	}
	return results
}

// progress is what replaces the progress bars where there is no terminal.
var progress = regexp.MustCompile(`^(backup|commit to|create|extract|gc|init|restore|verify)( \S+)?: (started|.* in \d.*)\n$`)

// forms are the things that differ from run to run, and how they are compared.
var forms = []struct {
	re   *regexp.Regexp
	form string
}{
	{regexp.MustCompile(`UPID:[^\s"]*`), "UPID"},
	{regexp.MustCompile(`\b[0-9a-f]{2}(:[0-9a-f]{2})+\b`), "FINGERPRINT"},
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`), "UUID"},
	{regexp.MustCompile(`\b[0-9a-f]{8,}\b(\.\.)?`), "N"}, // a digest or checksum, which may have no letters, or an offset
	{regexp.MustCompile(`\d[\d.]*( ?([KMGT]i?B|B|ms|µs|s|min|h)\b)?(/s)?`), "N"},
	{regexp.MustCompile(`(N ?)+`), "N"},
	{regexp.MustCompile(` +`), " "},
}

func form(line string) string {
	for _, f := range forms {
		line = f.re.ReplaceAllString(line, f.form)
	}
	return strings.TrimSpace(line)
}

func formsOf(lines []string) []string {
	out := []string{}
	for _, l := range lines {
		out = append(out, form(l))
	}
	return out
}

func TestCommandsPrintWhatThePagesShow(t *testing.T) {
	if testing.Short() {
		t.Skip("runs all pages: some seconds each")
	}
	for _, tool := range []string{"bash", "mkfs.ext4", "debugfs", "qemu-img"} {
		if !haveTool(tool) {
			if os.Getenv("CI") == "true" {
				t.Fatalf("the pages use %s, which is not here", tool)
			}
			t.Skipf("the pages use %s, which is not here", tool)
		}
	}
	for _, name := range pages(t) {
		lines := strings.Split(readPage(t, name), "\n")
		all := steps(lines)
		if len(all) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runSteps(t, all, storeOf(t, lines))
			if *update {
				writePage(t, name, strings.Join(replaceOutputs(lines, all, got), "\n"))
				return
			}
			for i, s := range all {
				want := []string{}
				if !s.hidden {
					want = formsOf(lines[s.first:s.end])
				} else if len(got[i]) > 0 {
					t.Errorf("%s:%d: the hidden command prints:\n%s", name, s.line, strings.Join(got[i], "\n"))
					continue
				}
				if !slices.Equal(want, formsOf(got[i])) {
					t.Errorf("%s:%d: $ %s\nprints\n%s\nand the page shows\n%s\n(go test ./test/docs -update writes the page anew)",
						name, s.line, s.text, strings.Join(got[i], "\n"), strings.Join(lines[s.first:s.end], "\n"))
				}
			}
		})
	}
}

// replaceOutputs puts what was printed in place of what the page shows.
func replaceOutputs(lines []string, all []step, got [][]string) []string {
	for i, s := range slices.Backward(all) {
		if !s.hidden {
			lines = slices.Replace(lines, s.first, s.end, got[i]...)
		}
	}
	return lines
}

func haveTool(name string) bool {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

// TestCommandLinesThatAreNotRunAreValid asks for help with every flag that a
// page shows: an unknown command or flag is refused before help is printed.
func TestCommandLinesThatAreNotRunAreValid(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "holdfast")
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	for _, name := range pages(t) {
		lines := strings.Split(readPage(t, name), "\n")
		for _, f := range fences(lines) {
			if f.kind != "sh" {
				continue
			}
			for i := f.first; i < f.end; i++ {
				at, line := i+1, lines[i]
				for strings.HasSuffix(line, "\\") && i+1 < f.end {
					i++
					line = strings.TrimSuffix(line, "\\") + lines[i]
				}
				for _, words := range commandLines(line) {
					out, err := exec.CommandContext(t.Context(), program, append(words, "--help")...).CombinedOutput()
					if err != nil || !bytes.Contains(out, []byte("Usage:")) || known(words, out) != nil {
						t.Errorf("%s:%d: holdfast %s: %v %v\n%s", name, at, strings.Join(words, " "), err, known(words, out), out)
					}
				}
			}
		}
	}
}

// known finds a command word that the help page which came is not about.
func known(words []string, help []byte) error {
	if len(words) == 0 || strings.HasPrefix(words[0], "-") {
		return nil
	}
	if !bytes.Contains(help, []byte("\n  holdfast "+words[0])) {
		return fmt.Errorf("there is no command %s", words[0])
	}
	return nil
}

// commandLines are the arguments of every call of holdfast in a shell line.
func commandLines(line string) (all [][]string) {
	var words []string
	inside := false
	end := func() {
		if inside {
			all = append(all, words)
		}
		words, inside = nil, false
	}
	for w := range strings.FieldsSeq(line) {
		switch {
		case strings.HasPrefix(w, "#"):
			end()
			return all
		case w == "|" || w == "&&" || w == "||" || w == ";" || w == ">" || w == "<":
			end()
		case w == "holdfast":
			end()
			inside = true
		case inside:
			words = append(words, strings.Trim(w, `"'`))
		}
	}
	end()
	return all
}
