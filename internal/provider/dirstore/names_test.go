package dirstore_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/provider/dirstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

func TestNotesAndProtectionStay(t *testing.T) {
	s := store(t, simdisk.New(simdisk.Options{}), dirstore.Options{})
	m := newMachine(rand.New(rand.NewPCG(1, 1)), 100, 300<<10)
	a, _, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, step := range []struct {
		do      func() error
		notes   string
		protect bool
	}{
		{func() error { return s.SetNotes(ctx, a, "läuft\nzwei Zeilen") }, "läuft\nzwei Zeilen", false},
		{func() error { return s.SetProtected(ctx, a, true) }, "läuft\nzwei Zeilen", true},
		{func() error { return s.SetProtected(ctx, a, true) }, "läuft\nzwei Zeilen", true},
		{func() error { return s.SetNotes(ctx, a, "") }, "", true},
		{func() error { return s.SetProtected(ctx, a, false) }, "", false},
		{func() error { return s.SetProtected(ctx, a, false) }, "", false},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		e, err := s.Entry(ctx, a)
		if err != nil || e.Notes != step.notes || e.Protected != step.protect {
			t.Fatalf("%+v, %v; want %+v", e, err, step)
		}
		if err := s.Free(ctx, a); e.Protected != errors.Is(err, repo.ErrProtected) {
			t.Fatalf("protected %v: %v", e.Protected, err)
		} else if err == nil {
			if a, _, err = m.backup(s); err != nil {
				t.Fatal(err)
			}
			_ = s.SetNotes(ctx, a, step.notes)
		}
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	s := store(t, simdisk.New(simdisk.Options{}), dirstore.Options{})
	ctx := t.Context()
	a := s.Archive(provider.Guest{Kind: provider.QEMU, ID: 9}, time.Unix(77, 0))
	for what, do := range map[string]func() error{
		"Entry":        func() error { _, err := s.Entry(ctx, a); return err },
		"SetNotes":     func() error { return s.SetNotes(ctx, a, "x") },
		"SetProtected": func() error { return s.SetProtected(ctx, a, true) },
		"Free":         func() error { return s.Free(ctx, a) },
		"Configs":      func() error { _, err := s.Configs(ctx, a); return err },
		"Open":         func() error { _, err := s.Open(ctx, a); return err },
	} {
		if err := do(); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestNamesAreParsedStrictly(t *testing.T) {
	s := store(t, simdisk.New(simdisk.Options{}), dirstore.Options{})
	for _, g := range []provider.Guest{{Kind: provider.QEMU, ID: 100}, {Kind: provider.LXC, ID: 999999999}} {
		a := s.Archive(g, time.Unix(1700000000, 5))
		if got, err := s.Parse(a.Name); err != nil || got != a {
			t.Errorf("Parse(%q) = %+v, %v", a.Name, got, err)
		}
	}
	for _, name := range []string{
		"", "100", "100/", "100/qemu", "100/qemu-", "100/qemu--1", "100/qemu-+1", "100/qemu-01", "0100/qemu-1", "0/qemu-1", "+1/qemu-1",
		"100/host-1", "100/qemu-1.failed", "100/.qemu-1.part", "../100/qemu-1", "100/qemu-1/..", "100//qemu-1", "1000000000/qemu-1", "100/qemu-99999999999999999999",
	} {
		if a, err := s.Parse(name); err == nil {
			t.Errorf("Parse(%q) = %+v", name, a)
		}
	}
}

func FuzzParse(f *testing.F) {
	s := store(f, simdisk.New(simdisk.Options{}), dirstore.Options{})
	for _, name := range []string{"100/qemu-1700000000", "7/lxc-0", "../x", "100/qemu-1.failed"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		a, err := s.Parse(name)
		if err != nil {
			return
		}
		if a.Name != name || s.Archive(a.Guest, time.Unix(a.Start, 0)) != a || strings.Count(name, "/") != 1 || strings.Contains(name, ".") {
			t.Fatalf("%q: %+v", name, a)
		}
	})
}

func FuzzPreviousInfo(f *testing.F) {
	for _, text := range []string{"1000 1060\n", "", "1060", "-1 -1", "1 1060 3", "99999999999999999999 1060"} {
		f.Add(text)
	}
	d := simdisk.New(simdisk.Options{})
	m := newMachine(newRand(1), 100, 64<<10)
	m.start = 1000
	a, _, err := m.backup(store(f, d, incremental))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		now := d.Clone()
		if err := now.Corrupt("100/previous-info", func([]byte) []byte { return []byte(text) }); err != nil {
			t.Fatal(err)
		}
		got, err := store(t, now, incremental).Reusable(t.Context(), a, map[string]int64{"drive-scsi0": 64 << 10})
		if err != nil || len(got) > 0 && !strings.Contains(text, "1060") {
			t.Fatalf("%q: %v, %v", text, got, err)
		}
	})
}

func TestConfigsComeBackAsTheyWere(t *testing.T) {
	s := store(t, simdisk.New(simdisk.Options{}), dirstore.Options{})
	for n, c := range []provider.Configs{
		{Guest: []byte("a: b\n#qmdump#map:scsi0:drive-scsi0:local:raw:\n")},
		{Guest: []byte("x"), Firewall: []byte{}},
		{Guest: []byte("x"), Firewall: []byte("[OPTIONS]\n")},
	} {
		a := s.Archive(provider.Guest{Kind: provider.QEMU, ID: 1}, time.Unix(int64(n+1), 0))
		if _, err := s.BackupVM(t.Context(), a, provider.VM{Configs: c}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Configs(t.Context(), a)
		if err != nil || !bytes.Equal(got.Guest, c.Guest) || !bytes.Equal(got.Firewall, c.Firewall) || (got.Firewall == nil) != (c.Firewall == nil) {
			t.Errorf("%q, %v; want %q", got, err, c)
		}
	}
}
