package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/cli"
)

func TestReferenceIsTheHelpOfTheProgram(t *testing.T) {
	const name = "docs/reference/cli.md"
	var want strings.Builder
	if err := cli.Reference(&want); err != nil {
		t.Fatal(err)
	}
	if *update {
		writePage(t, name, want.String())
	}
	if readPage(t, name) != want.String() {
		t.Errorf("%s is not what the program's help says now: go test ./test/docs -update", name)
	}
}

func TestManualPageFormats(t *testing.T) {
	if !haveTool("groff") {
		t.Skip("groff is not here")
	}
	program := filepath.Join(t.TempDir(), "holdfast")
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, program)
	}
	if err != nil {
		t.Fatal(err)
	}
	page, err := exec.CommandContext(t.Context(), program, "man").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "groff", "-man", "-Tutf8", "-P-cbu", "-ww")
	cmd.Stdin = strings.NewReader(string(page))
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "<standard input>") {
		t.Errorf("%v:\n%s", err, out)
	}
	if !strings.Contains(string(out), "HOLDFAST RESTORE") {
		t.Errorf("the page lacks a command:\n%s", out)
	}
}
