package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestIDMapsComeFromSpecsOrFromAFile(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "101.conf")
	if err := os.WriteFile(conf, []byte("ostype: debian\nunprivileged: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		flags idMapFlags
		want  string
	}{
		{"none", idMapFlags{}, ""},
		{"specs", idMapFlags{specs: []string{"u:0:100000:65536", "g:0:200000:65536"}}, "u:0:100000:65536 g:0:200000:65536"},
		{"file", idMapFlags{from: conf}, "b:0:100000:65536"},
	} {
		if m, err := tc.flags.load(); err != nil || m.String() != tc.want {
			t.Errorf("%s: map %q, err = %v, want %q", tc.name, m, err, tc.want)
		}
	}
}

func TestWrongIDMapsAreExplained(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		flags idMapFlags
		code  int
		want  string
	}{
		{"both", idMapFlags{specs: []string{"b:0:1:1"}, from: text}, exitUsage, "exclude each other"},
		{"spec", idMapFlags{specs: []string{"0:1:1"}}, exitUsage, `--id-map "0:1:1"`},
		{"users alone", idMapFlags{specs: []string{"u:0:1:1"}}, exitUsage, "nothing of groups"},
		{"no configuration", idMapFlags{from: text}, exitFailed, text},
		{"no file", idMapFlags{from: text + ".gone"}, exitFailed, "does not exist"},
	} {
		m, err := tc.flags.load()
		if err == nil || m != nil || exitCode(err) != tc.code || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: map %v, err = %v, exit code %d, want %d and %q", tc.name, m, err, exitCode(err), tc.code, tc.want)
		}
		if hintFor(err, "holdfast backup") == "" {
			t.Errorf("%s: no hint", tc.name)
		}
	}
}

func TestContainerExcludesAreThoseOfVzdump(t *testing.T) {
	if got := (containerFlags{}).excludes(); got != nil {
		t.Errorf("without the flag: %q", got)
	}
	if got := strings.Join((containerFlags{leaveOut: true}).excludes(), " "); got != "/tmp/?* /var/tmp/?* /var/run/?*.pid" {
		t.Errorf("with the flag: %q", got)
	}
}
