package provider

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestNoteVouchesForTheNewestArchiveOfThisProcessOnly(t *testing.T) {
	done := Note{Process: "7-100", Archive: "a", Devices: []string{"d"}}
	pending := Note{Process: "7-100", Archive: "a", Devices: []string{"d"}, Pending: "b"}
	for _, tc := range []struct {
		name            string
		note            Note
		process, newest string
		device          string
		want            bool
	}{
		{"as it should be", done, "7-100", "a", "d", true},
		{"other process", done, "8-100", "a", "d", false},
		{"same number, later start", done, "7-200", "a", "d", false},
		{"process unknown", Note{Archive: "a", Devices: []string{"d"}}, "", "a", "d", false},
		{"something newer", done, "7-100", "b", "d", false},
		{"it was removed", done, "7-100", "", "d", false},
		{"disk without bitmap", done, "7-100", "a", "e", false},
		{"no note", Note{}, "7-100", "", "d", false},
		{"crash, and it was completed", pending, "7-100", "b", "d", true},
		{"crash, and it was not or is removed", pending, "7-100", "a", "d", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.note.covers(tc.process, tc.newest, tc.device); got != tc.want {
				t.Errorf("covers = %v", got)
			}
		})
	}
}

func TestUnreadableNoteIsNone(t *testing.T) {
	n, err := OpenNotebook(t.TempDir(), "store")
	if err != nil {
		t.Fatal(err)
	}
	want := Note{Process: "1-2", Archive: "a", Devices: []string{"d"}, Pending: "b"}
	if err := n.Write(5, want); err != nil {
		t.Fatal(err)
	}
	if got, err := n.Read(5); err != nil || got.Pending != "b" || got.Archive != "a" {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := os.WriteFile(n.path(5), []byte(`{"process":"1-2","archive":"a"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := n.Read(5); err == nil || got.Process != "" {
		t.Errorf("half a note: %+v, %v", got, err)
	}
	if err := n.Remove(5); err != nil {
		t.Fatal(err)
	}
	if got, err := n.Read(5); err != nil || got.Process != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := n.Remove(5); err != nil {
		t.Errorf("removed twice: %v", err)
	}
}

func TestOriginsHaveNotesOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	a, err := OpenNotebook(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenNotebook(dir, "b")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Write(5, Note{Process: "1-2"}); err != nil {
		t.Fatal(err)
	}
	if got, _ := b.Read(5); got.Process != "" {
		t.Errorf("%+v", got)
	}
}

func TestProcessIsNamedByNumberAndStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := ProcessOf(file); p != "" || err != nil {
		t.Errorf("no file: %q, %v", p, err)
	}
	write("pid")
	if _, err := ProcessOf(file); err == nil {
		t.Error("text is a process")
	}
	write(fmt.Sprint(os.Getpid()) + "\n")
	self, err := ProcessOf(file)
	if err != nil || self == "" {
		t.Fatalf("%q, %v", self, err)
	}
	if again, _ := ProcessOf(file); again != self {
		t.Errorf("%q, then %q", self, again)
	}
	// A program's name may look like what follows it.
	dir := t.TempDir()
	odd := filepath.Join(dir, "a) S 1 2 (b")
	if err := os.Symlink("/bin/sleep", odd); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), odd, "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write(fmt.Sprint(cmd.Process.Pid))
	child, err := ProcessOf(file)
	if err != nil || child == "" || child == self {
		t.Errorf("%q, %v", child, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if p, err := ProcessOf(file); p != "" || err != nil {
		t.Errorf("ended: %q, %v", p, err)
	}
}
