package lto_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/fault"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/lto"
	"github.com/holdfast-backup/holdfast/internal/tape/tapetest"
)

// Both kinds of drives are searched by LOCATE, and after the first time no
// command is wasted on the difference between them.
func TestLocateLearnsWhereTheDriveStops(t *testing.T) {
	for _, hp := range []bool{false, true} {
		b := newBench(t, func(s *setup) { s.drive.HP = hp })
		d := b.open(lto.Config{})
		for n := range 20 {
			putBlock(t, d, n)
		}
		if err := d.Locate(t.Context(), 7); err != nil {
			t.Fatal(err)
		}
		b.seen.cdbs = nil
		for _, n := range []uint64{19, 2, 11, 3, 18} {
			if err := d.Locate(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			if got, err := d.File(t.Context()); got != n || err != nil {
				t.Errorf("HP %v: file %d, %v; want %d", hp, got, err, n)
			}
		}
		if l, s, r := b.seen.count(scsi.Locate16), b.seen.count(scsi.Space6), b.seen.count(scsi.Rewind); l != 5 || s != 5 || r != 0 {
			t.Errorf("HP %v: five files took %d LOCATE, %d SPACE and %d REWIND", hp, l, s, r)
		}
	}
}

// A drive that does not know LOCATE by file is asked once, and counts filemarks
// from then on.
func TestDriveThatCannotLocateCountsFilemarks(t *testing.T) {
	asked := 0
	b := newBench(t, func(s *setup) {
		s.rules = append(s.rules, &fault.Rule{
			Ops: []scsi.Opcode{scsi.Locate16}, Times: -1, Sense: &scsi.Sense{Key: scsi.IllegalRequest, ASC: 0x20}, Hook: func() { asked++ },
		})
	})
	d := b.open(lto.Config{})
	for n := range 20 {
		putBlock(t, d, n)
	}
	p := make([]byte, tape.BlockSize)
	for _, n := range []int{7, 19, 2, 11} {
		if err := d.Locate(t.Context(), uint64(n)); err != nil {
			t.Fatal(err)
		}
		if k, err := d.ReadBlock(p); err != nil || !bytes.Equal(p[:k], tapetest.Block(n)) {
			t.Errorf("file %d: %d bytes, %v", n, k, err)
		}
	}
	if err := d.Locate(t.Context(), 40); !errors.Is(err, tape.ErrEndOfData) {
		t.Errorf("file 40: %v", err)
	}
	if asked != 1 {
		t.Errorf("it was asked %d times", asked)
	}
}

func TestFileThatComesNextNeedsNoMotion(t *testing.T) {
	b := newBench(t)
	d := b.open(lto.Config{})
	for n := range 4 {
		putBlock(t, d, n)
	}
	if err := d.Locate(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	b.seen.cdbs = nil
	p := make([]byte, tape.BlockSize)
	for n := range 3 {
		if err := d.Locate(t.Context(), uint64(n+1)); err != nil {
			t.Fatal(err)
		}
		if k, err := d.ReadBlock(p); err != nil || !bytes.Equal(p[:k], tapetest.Block(n+1)) {
			t.Errorf("file %d: %d bytes, %v", n+1, k, err)
		}
		if _, err := d.ReadBlock(p); !errors.Is(err, tape.ErrFilemark) {
			t.Errorf("file %d does not end: %v", n+1, err)
		}
	}
	if n := b.seen.count(scsi.Locate16) + b.seen.count(scsi.Space6) + b.seen.count(scsi.Rewind); n != 0 {
		t.Errorf("%d motions", n)
	}
	if err := d.Locate(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadBlock(p); err != nil {
		t.Fatal(err)
	}
	if err := d.Locate(t.Context(), 3); err != nil { // from the middle of the file
		t.Fatal(err)
	}
	if k, err := d.ReadBlock(p); err != nil || !bytes.Equal(p[:k], tapetest.Block(3)) {
		t.Errorf("file 3 again: %d bytes, %v", k, err)
	}
}

func TestSpacingStopsWhereTheStandardSays(t *testing.T) {
	d := newBench(t).open(lto.Config{})
	for n := range 5 {
		putBlock(t, d, n)
	}
	at := func(want lto.Position) {
		t.Helper()
		if p, err := d.Position(); p != want || err != nil {
			t.Errorf("at %+v, %v; want %+v", p, err, want)
		}
	}
	if n, err := d.LastFile(t.Context()); n != 4 || err != nil {
		t.Errorf("the last file is %d, %v", n, err)
	}
	at(lto.Position{Object: 8, File: 4})
	for _, step := range []struct {
		do   func() error
		fail bool
		want lto.Position
	}{
		{func() error { return d.SpaceFiles(t.Context(), -2) }, false, lto.Position{Object: 5, File: 2}}, // before the mark
		{func() error { return d.SpaceFiles(t.Context(), 2) }, false, lto.Position{Object: 8, File: 4}},
		{func() error { return d.SpaceBlocks(t.Context(), 1) }, false, lto.Position{Object: 9, File: 4}},
		{func() error { return d.SpaceBlocks(t.Context(), 1) }, true, lto.Position{Object: 10, File: 5}}, // over the mark
		{func() error { return d.SpaceFiles(t.Context(), 1) }, true, lto.Position{Object: 10, File: 5}},
		{func() error { return d.SpaceBlocks(t.Context(), -1) }, true, lto.Position{Object: 9, File: 4}},
		{func() error { return d.SpaceBlocks(t.Context(), -1) }, false, lto.Position{Object: 8, File: 4}},
		{func() error { return d.SpaceFiles(t.Context(), -100) }, true, lto.Position{}},
		{func() error { return d.SpaceFiles(t.Context(), 1<<30) }, true, lto.Position{Object: 10, File: 5}}, // needs SPACE(16)
	} {
		if err := step.do(); (err != nil) != step.fail {
			t.Errorf("on the way to %+v: %v", step.want, err)
		}
		at(step.want)
	}
	if err := d.Locate(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := d.Erase(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if n, err := d.EndOfData(t.Context()); n != 2 || err != nil {
		t.Errorf("erased from file 2 on: %d files, %v", n, err)
	}
	if _, err := newBench(t).open(lto.Config{}).LastFile(t.Context()); err == nil {
		t.Error("an empty tape has a last file")
	}
}
