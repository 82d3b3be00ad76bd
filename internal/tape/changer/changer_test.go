package changer_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl"
	vtlchanger "github.com/holdfast-backup/holdfast/internal/scsi/vtl/changer"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/fault"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/changer"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// library makes a library of two drives, with cartridges A to C in slots 1 to 3
// of some and one station, and opens its changer.
func library(t *testing.T, change func(*vtl.Config), rules ...*fault.Rule) (*vtl.Library, *changer.Changer) {
	t.Helper()
	cfg := vtl.Default(8, 2, 6)
	cfg.Changer.ImportExport = 2
	if change != nil {
		change(&cfg)
	}
	disk := simdisk.New(simdisk.Options{}).Process()
	if err := vtl.CreateOn(disk, cfg); err != nil {
		t.Fatal(err)
	}
	l, err := vtl.OpenOn(disk, vtl.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, b := range []string{"AAA001L8", "BBB002L8", "CCC003L8"} {
		if err := l.AddCartridge(vtl.Cartridge{Barcode: b, Capacity: 64 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	c, err := changer.Open(target.Connect(fault.New(l.Units()[0].Unit, rules...)))
	if err != nil {
		t.Fatal(err)
	}
	return l, c
}

// layout is what is where, in short.
func layout(t *testing.T, c tape.Changer) string {
	t.Helper()
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := ""
	for _, d := range s.Drives {
		out += fmt.Sprintf("[%.1s%d]", d.Label, d.From)
	}
	for _, x := range s.Slots {
		sign := "."
		if x.ImportExport {
			sign = "_"
		}
		if x.Full {
			sign = fmt.Sprintf("%.1s", x.Label+"?")
		}
		out += sign
	}
	return out
}

func TestMediaGoWhereTheyAreSent(t *testing.T) {
	_, c := library(t, nil)
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return nil }, "[0][0]ABC...__"},
		{func() error { return c.Load(t.Context(), 2, 0) }, "[B2][0]A.C...__"},
		{func() error { return c.Load(t.Context(), 1, 1) }, "[B2][A1]..C...__"},
		{func() error { return c.Unload(t.Context(), 0, 5) }, "[0][A1]..C.B.__"},
		{func() error { return c.Transfer(t.Context(), 5, 7) }, "[0][A1]..C...B_"},
		{func() error { return c.Unload(t.Context(), 1, 8) }, "[0][0]..C...BA"},
		{func() error { return c.Load(t.Context(), 8, 0) }, "[A8][0]..C...B_"},
		{func() error { return c.Inventory(t.Context()) }, "[A8][0]..C...B_"},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("before %s: %v", step.want, err)
		}
		if got := layout(t, c); got != step.want {
			t.Fatalf("got %s, want %s", got, step.want)
		}
	}
}

func TestImpossibleMovesSayWhy(t *testing.T) {
	_, c := library(t, nil)
	for name, tc := range map[string]struct{ err, want error }{
		"slot 0":                 {c.Load(t.Context(), 0, 0), tape.ErrNoSuchSlot},
		"a slot behind the last": {c.Unload(t.Context(), 0, 9), tape.ErrNoSuchSlot},
		"an empty slot":          {c.Load(t.Context(), 4, 0), tape.ErrNoMedium},
		"an empty drive":         {c.Unload(t.Context(), 1, 4), tape.ErrNoMedium},
		"a third drive":          {c.Load(t.Context(), 1, 2), nil},
		"a full slot":            {c.Transfer(t.Context(), 1, 2), nil},
	} {
		if tc.err == nil || tc.want != nil && !errors.Is(tc.err, tc.want) {
			t.Errorf("%s: %v", name, tc.err)
		}
	}
}

func TestChangersDifferAndAreUnderstood(t *testing.T) {
	known := func(c tape.Changer) string {
		s, err := c.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s %s %s, %d arms", s.Drives[0].Vendor, s.Drives[0].Model, s.Drives[0].Serial, len(s.Arms))
	}
	_, plain := library(t, nil)
	all := known(plain)
	for name, q := range map[string]vtlchanger.Quirks{
		"Padded": {Padded: true}, "NoTagWithID": {NoTagWithID: true}, "NoID": {NoID: true}, "SerialOnly": {SerialOnly: true},
		"NoTransportTag": {NoTransportTag: true}, "NoTransport": {NoTransport: true}, "ShortAllocation": {ShortAllocation: true},
		"MissingElements": {MissingElements: true}, "NoSource": {NoSource: true},
	} {
		_, c := library(t, func(cfg *vtl.Config) { cfg.Changer.Quirks = q })
		if err := c.Load(t.Context(), 2, 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want := "[B2][0]A.C...__"
		if q.NoSource {
			want = "[B0][0]A.C...__"
		}
		if got := layout(t, c); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
		serial := all[len(all)-len("0000000000, 1 arms") : len(all)-len(", 1 arms")]
		wantDrive := map[string]string{
			"NoID": "  , 1 arms", "SerialOnly": "  " + serial + ", 1 arms", "NoTransport": all[:len(all)-len("1 arms")] + "0 arms",
		}[name]
		if wantDrive == "" {
			wantDrive = all
		}
		if got := known(c); got != wantDrive {
			t.Errorf("%s: the first drive is %q, want %q", name, got, wantDrive)
		}
	}
}

func TestManyElementsComeInSeveralAnswers(t *testing.T) {
	l, c := library(t, func(cfg *vtl.Config) { cfg.Changer.Slots = 2500 })
	if err := l.AddCartridge(vtl.Cartridge{Barcode: "CLN004L1", Uses: 5}); err != nil {
		t.Fatal(err)
	}
	if err := c.Transfer(t.Context(), 3, 2500); err != nil {
		t.Fatal(err)
	}
	s, err := c.Status(t.Context())
	if err != nil || len(s.Slots) != 2502 {
		t.Fatalf("%d slots, %v", len(s.Slots), err)
	}
	want := tape.Slot{Content: tape.Content{Full: true, Label: "CCC003L8"}}
	if diff := cmp.Diff(want, s.Slots[2499]); diff != "" || s.Slots[2].Full || !s.Slots[2501].ImportExport {
		t.Error(diff)
	}
}

func TestSlowChangerIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		becoming := &scsi.Sense{Key: scsi.NotReady, ASC: 0x04, ASCQ: 0x01}
		_, c := library(t, nil, &fault.Rule{Ops: []scsi.Opcode{scsi.TestUnitReady}, Times: 200, Sense: becoming})
		start := time.Now()
		if got := layout(t, c); got != "[0][0]ABC...__" {
			t.Errorf("got %s", got)
		}
		if d := time.Since(start); d != 200*time.Second {
			t.Errorf("it took %v", d)
		}
		_, c = library(t, nil, &fault.Rule{Ops: []scsi.Opcode{scsi.TestUnitReady}, Times: -1, Sense: becoming})
		start = time.Now()
		if _, err := c.Status(t.Context()); err == nil || time.Since(start) > 6*time.Minute {
			t.Errorf("one that is never ready: %v after %v", err, time.Since(start))
		}
	})
}

// A move that nobody knows the end of is not made again, nor is one after
// somebody had a hand in the library.
func TestNoMoveIsMadeTwice(t *testing.T) {
	for name, rule := range map[string]fault.Rule{
		"lost before":         {Lost: true},
		"lost after":          {Lost: true, Done: true},
		"out of time":         {Timeout: true, Done: true},
		"a hand in the doors": {Sense: &scsi.Sense{Key: scsi.UnitAttention, ASC: 0x28, ASCQ: 0x01}},
		"broken":              {Sense: &scsi.Sense{Key: scsi.HardwareError, ASC: 0x15, ASCQ: 0x01}},
	} {
		rule.Ops = []scsi.Opcode{scsi.MoveMedium}
		l, _ := library(t, nil)
		u := fault.New(l.Units()[0].Unit, &rule)
		c, err := changer.Open(target.Connect(u))
		if err != nil {
			t.Fatal(err)
		}
		err = c.Load(t.Context(), 1, 0)
		if err == nil || u.Count(scsi.MoveMedium) != 1 {
			t.Errorf("%s: %v after %d moves", name, err, u.Count(scsi.MoveMedium))
		}
		if changed := errors.Is(err, tape.ErrChanged); changed != (rule.Sense != nil && rule.Sense.Key == scsi.UnitAttention) {
			t.Errorf("%s: %v", name, err)
		}
		want := "[0][0]ABC...__"
		if rule.Done {
			want = "[A1][0].BC...__"
		}
		if got := layout(t, c); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// After a drive gave its medium out, some libraries refuse the first move. It is
// made again only where it surely did not begin.
func TestMoveThatDidNotBeginIsTriedOnceMore(t *testing.T) {
	surprised := &scsi.Sense{Key: scsi.HardwareError, ASC: 0x04, ASCQ: 0x03}
	for _, tc := range []struct {
		rule  fault.Rule
		fails bool
		moves int
		want  string
	}{
		{fault.Rule{Sense: surprised}, false, 2, "[A1][0].BC...__"},
		{fault.Rule{Sense: surprised, Done: true}, true, 1, "[A1][0].BC...__"},
		{fault.Rule{Sense: surprised, Times: -1}, true, 2, "[0][0]ABC...__"},
	} {
		synctest.Test(t, func(t *testing.T) {
			tc.rule.Ops = []scsi.Opcode{scsi.MoveMedium}
			l, _ := library(t, nil)
			u := fault.New(l.Units()[0].Unit, &tc.rule)
			c, err := changer.Open(target.Connect(u))
			if err != nil {
				t.Fatal(err)
			}
			err = c.Load(t.Context(), 1, 0)
			if (err != nil) != tc.fails || u.Count(scsi.MoveMedium) != tc.moves || layout(t, c) != tc.want {
				t.Errorf("%+v: %v after %d moves, %s", tc.rule, err, u.Count(scsi.MoveMedium), layout(t, c))
			}
		})
	}
}

func TestDriveIsNoChanger(t *testing.T) {
	l, _ := library(t, nil)
	if _, err := changer.Open(target.Connect(l.Units()[1])); err == nil {
		t.Error("a drive is a changer")
	}
}
