//go:build unix

package dirdrive_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/dirdrive"
	"github.com/holdfast-backup/holdfast/internal/tape/tapetest"
)

// open gives the drive of a new directory with one tape in it.
func open(t *testing.T) tape.Drive {
	t.Helper()
	dir := t.TempDir()
	c := dirdrive.NewChanger(dir)
	if err := c.Insert(t.Context(), "TAPE01"); err != nil {
		t.Fatal(err)
	}
	if err := c.Load(t.Context(), 1, 0); err != nil {
		t.Fatal(err)
	}
	d, err := dirdrive.Open(t.Context(), dir, tapetest.Capacity)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDirectoryKeepsThePromisesOfADrive(t *testing.T) { tapetest.Run(t, open) }

func TestFilesAreThoseOfTheVirtualDrive(t *testing.T) {
	dir := t.TempDir()
	c := dirdrive.NewChanger(dir)
	for _, l := range []string{"B", "../x", "x/y", "", ".hidden", "012345678901234567890123456789012"} {
		if err := c.Insert(t.Context(), l); err == nil {
			t.Errorf("a tape is called %q", l)
		}
	}
	if err := c.Insert(t.Context(), "TAPE02"); err != nil {
		t.Fatal(err)
	}
	if err := c.Insert(t.Context(), "TAPE02"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second tape of that label: %v", err)
	}
	if err := c.Load(t.Context(), 1, 0); err != nil {
		t.Fatal(err)
	}
	d, err := dirdrive.Open(t.Context(), dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := d.WriteBlock(tapetest.Block(1)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.WriteFilemark(); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Locate(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if used, err := d.Used(t.Context()); used != 2*tape.BlockSize || err != nil {
		t.Errorf("%d bytes are used, %v", used, err)
	}
	if err := errors.Join(d.Sync(t.Context()), d.Close()); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"tape-TAPE02.json":  "{\n  \"files\": 2\n}",
		"drive-status.json": "{\n  \"current_tape\": {\n    \"name\": \"TAPE02\",\n    \"pos\": 1\n  }\n}",
		".drive.lck":        "",
	}
	for _, n := range []string{"tapefile-0-TAPE02.json", "tapefile-1-TAPE02.json"} {
		want[n] = string(tapetest.Block(1))
	}
	got := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(b)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEarlyWarningComesWhereTheVirtualDriveGivesIt(t *testing.T) {
	dir := t.TempDir()
	c := dirdrive.NewChanger(dir)
	if err := errors.Join(c.Insert(t.Context(), "TAPE03"), c.Load(t.Context(), 1, 0)); err != nil {
		t.Fatal(err)
	}
	d, err := dirdrive.Open(t.Context(), dir, 4*tape.BlockSize+1000)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	for n, file := range [][]string{
		{""},
		{"", "", "", "early", "early", "full"},
		{"", "", "early", "early", "full"}, // there is no room left, but for two blocks
	} {
		for i, w := range file {
			early, err := d.WriteBlock(tapetest.Block(i))
			got := ""
			switch {
			case errors.Is(err, tape.ErrFull):
				got = "full"
			case err != nil:
				t.Fatal(err)
			case early:
				got = "early"
			}
			if got != w {
				t.Errorf("file %d: block %d gives %q, want %q", n, i, got, w)
			}
		}
		if _, err := d.WriteFilemark(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMagazineHasATapeInTheDriveOrInItsSlot(t *testing.T) {
	dir := t.TempDir()
	c := dirdrive.NewChanger(dir)
	for _, l := range []string{"CC", "AA", "BB"} {
		if err := c.Insert(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := dirdrive.Open(t.Context(), dir, 0); !errors.Is(err, tape.ErrNoMedium) {
		t.Errorf("an empty drive: %v", err)
	}
	if err := c.Load(t.Context(), 2, 0); err != nil {
		t.Fatal(err)
	}
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	full := func(l string) tape.Slot { return tape.Slot{Content: tape.Content{Full: true, Label: l}} }
	want := tape.ChangerStatus{
		Drives: []tape.DriveElement{{Content: tape.Content{Full: true, Label: "BB"}, From: 2}},
		Slots:  []tape.Slot{full("AA"), {}, full("CC"), {}, {}, {}, {}, {}},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	for name, err := range map[string]error{
		"a full drive": c.Load(t.Context(), 1, 0), "a second drive": c.Load(t.Context(), 1, 1),
		"a transfer": c.Transfer(t.Context(), 1, 4),
	} {
		if err == nil {
			t.Errorf("%s works", name)
		}
	}
	if err := c.Unload(t.Context(), 0, 2); err != nil {
		t.Fatal(err)
	}
	if err := c.Unload(t.Context(), 0, 2); !errors.Is(err, tape.ErrNoMedium) {
		t.Errorf("a second unload: %v", err)
	}
	if err := c.Load(t.Context(), 4, 0); !errors.Is(err, tape.ErrNoMedium) {
		t.Errorf("an empty slot: %v", err)
	}
	if err := c.Load(t.Context(), 9, 0); !errors.Is(err, tape.ErrNoSuchSlot) {
		t.Errorf("no slot: %v", err)
	}
}

func TestHalfABlockAtTheEndWasNotWritten(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "tape-OLD.json"), []byte(`{"files":1}`), 0o600),
		os.WriteFile(filepath.Join(dir, "drive-status.json"), []byte(`{"current_tape":{"name":"OLD","pos":0}}`), 0o600),
		os.WriteFile(filepath.Join(dir, "tapefile-0-OLD.json"), make([]byte, tape.BlockSize+5), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	d, err := dirdrive.Open(t.Context(), dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	b := make([]byte, tape.BlockSize)
	if _, err := d.ReadBlock(b); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadBlock(b); !errors.Is(err, tape.ErrFilemark) {
		t.Errorf("err = %v", err)
	}
}
