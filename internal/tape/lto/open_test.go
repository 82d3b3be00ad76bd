package lto_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/fault"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/lto"
)

func notReady(code uint16) *scsi.Sense {
	return &scsi.Sense{Key: scsi.NotReady, ASC: uint8(code >> 8), ASCQ: uint8(code)}
}

// saying makes TEST UNIT READY say something, so many times.
func saying(s *scsi.Sense, times int) func(*setup) {
	return func(u *setup) {
		u.rules = append(u.rules, &fault.Rule{Ops: []scsi.Opcode{scsi.TestUnitReady}, Times: times, Sense: s})
	}
}

func TestOpeningWaitsAsLongAsItHelps(t *testing.T) {
	for _, tc := range []struct {
		name  string
		sense *scsi.Sense
		times int
		want  error
		wait  time.Duration
	}{
		{"no medium", notReady(0x3a00), -1, tape.ErrNoMedium, 0},
		{"a medium that loads", notReady(0x0401), 90, nil, 90 * time.Second},
		{"a medium that never gets ready", notReady(0x0401), -1, errAny, 10*time.Minute + time.Second},
		{"a rewind", &scsi.Sense{ASCQ: 0x1a}, 10, nil, 10 * time.Second},
		{"a person is needed", notReady(0x0403), -1, errAny, 0},
		{"a cleaning cartridge", notReady(0x3003), -1, tape.ErrNoMedium, 0},
		{"an unfit medium", notReady(0x3000), -1, errAny, 0},
		{"a broken drive", &scsi.Sense{Key: scsi.HardwareError, ASC: 0x44}, -1, errAny, 0},
		{"a reset", &scsi.Sense{Key: scsi.UnitAttention, ASC: 0x29}, 3, nil, 0},
		{"resets without end", &scsi.Sense{Key: scsi.UnitAttention, ASC: 0x29}, -1, errAny, 10*time.Minute + time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, saying(tc.sense, tc.times))
				start := time.Now()
				_, err := lto.Open(t.Context(), target.Connect(b.unit), lto.Config{})
				switch {
				case tc.want == errAny && err == nil, tc.want != errAny && !errors.Is(err, tc.want):
					t.Errorf("err = %v", err)
				case time.Since(start) != tc.wait:
					t.Errorf("it took %v, want %v", time.Since(start), tc.wait)
				}
			})
		})
	}
}

var errAny = errors.New("any error")

func TestCalibrationIsWaitedForTwoHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, saying(notReady(0x0401), 5000))
		u := answering{b.unit, scsi.LogSense, []byte{0x11, 0, 0, 8, 0, 0, 3, 4, 1, 0, 0x0b, 0}}
		start := time.Now()
		if _, err := lto.Open(t.Context(), target.Connect(u), lto.Config{}); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 5000*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// answering is a unit with one answer of another drive.
type answering struct {
	target.Unit
	op     scsi.Opcode
	answer []byte
}

func (a answering) Execute(cdb, out, in []byte) (int, error) {
	if scsi.OpcodeOf(cdb) == a.op {
		return copy(in, a.answer), nil
	}
	return a.Unit.Execute(cdb, out, in)
}

func TestAReadThatGivesNothingIsAnErrorThatSaysSo(t *testing.T) {
	b := newBench(t)
	putBlock(t, b.open(lto.Config{}), 0)
	d, err := lto.Open(t.Context(), target.Connect(answering{b.unit, scsi.Read6, nil}), lto.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Rewind(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := d.ReadBlock(make([]byte, tape.BlockSize)); n != 0 || err == nil || strings.Contains(err.Error(), "%!") {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, saying(notReady(0x0401), -1))
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errAny)
		defer cancel()
		if _, err := lto.Open(ctx, target.Connect(b.unit), lto.Config{}); !errors.Is(err, errAny) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestMediumThatLiesInTheDriveIsLoaded(t *testing.T) {
	byHand := func(s *setup) { s.drive.Quirks.ManualLoad = true }
	if _, err := lto.Open(t.Context(), target.Connect(newBench(t, byHand).unit), lto.Config{}); !errors.Is(err, tape.ErrNoMedium) {
		t.Errorf("without being told to load: %v", err)
	}
	if err := newBench(t, byHand).open(lto.Config{Load: true}).Close(); err != nil {
		t.Error(err)
	}
}

func TestOtherDevicesAreRefused(t *testing.T) {
	b := newBench(t)
	disk := answering{b.unit, scsi.Inquiry, make([]byte, 36)}
	if _, err := lto.New(target.Connect(disk), lto.Config{}); err == nil {
		t.Error("a disk is a tape drive")
	}
	small := answering{b.unit, scsi.ReadBlockLimits, []byte{0, 0, 0xff, 0xff, 0, 1}}
	if _, err := lto.Open(t.Context(), target.Connect(small), lto.Config{}); !errors.Is(err, tape.ErrUnsupported) {
		t.Errorf("a drive with small blocks: %v", err)
	}
}

// What a drive says in place of a command decides whether that is sent again:
// only where medium, position and key are surely the same.
func TestOnlyHarmlessAttentionsAreOverlooked(t *testing.T) {
	for _, tc := range []struct {
		code uint16
		want error
	}{
		{0x2a01, nil},
		{0x2a10, nil},
		{0x5a01, nil},
		{0x3f03, nil},
		{0x2800, tape.ErrChanged},
		{0x2900, tape.ErrChanged},
		{0x2a11, tape.ErrChanged},
		{0x3f01, tape.ErrChanged},
	} {
		rule := &fault.Rule{
			Ops: []scsi.Opcode{scsi.Write6}, N: 2,
			Sense: &scsi.Sense{Key: scsi.UnitAttention, ASC: uint8(tc.code >> 8), ASCQ: uint8(tc.code)},
		}
		b := newBench(t, func(s *setup) { s.rules = append(s.rules, rule) })
		d := b.open(lto.Config{})
		w, err := tape.NewWriter(d, tape.GiveUp)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(make([]byte, 3*tape.BlockSize))
		if err := w.Finish(false); !errors.Is(err, tc.want) {
			t.Errorf("%04x: %v", tc.code, err)
		}
		writes := b.seen.count(scsi.Write6)
		if tc.want == nil && writes != 4 || tc.want != nil && writes != 1 {
			t.Errorf("%04x: %d blocks reached the drive", tc.code, writes)
		}
		if tc.want != nil {
			if err := d.Rewind(t.Context()); !errors.Is(err, tc.want) {
				t.Errorf("%04x: then Rewind says %v", tc.code, err)
			}
			if _, err := d.Status(t.Context()); err != nil {
				t.Errorf("%04x: then Status says %v", tc.code, err)
			}
			if err := d.Ready(t.Context()); err != nil {
				t.Errorf("%04x: then it is not opened anew: %v", tc.code, err)
			}
		}
		if err := d.Close(); err != nil {
			t.Errorf("%04x: %v", tc.code, err)
		}
	}
}

func TestMediumThatWasExchangedGetsNoBlock(t *testing.T) {
	b := newBench(t)
	d := b.open(lto.Config{})
	if _, err := d.WriteBlock(make([]byte, tape.BlockSize)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.drive.Remove(); err != nil {
		t.Fatal(err)
	}
	m := cartridge.Memory{Barcode: "OTHER1L8", Density: cartridge.LTO8, Capacity: 1 << 30, Manufactured: "20250102"}
	if err := cartridge.Create(b.fs, "other", m); err != nil {
		t.Fatal(err)
	}
	b.insert("other")
	if _, err := d.WriteBlock(make([]byte, tape.BlockSize)); !errors.Is(err, tape.ErrChanged) {
		t.Errorf("err = %v", err)
	}
	if _, err := d.WriteFilemark(); !errors.Is(err, tape.ErrChanged) {
		t.Errorf("err = %v", err)
	}
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := d.EndOfData(t.Context()); n != 0 || err != nil {
		t.Errorf("%d files, %v", n, err)
	}
}

func TestOptionsAreSetAndKept(t *testing.T) {
	for _, generation := range []int{4, 8} { // by 6 and by 10 bytes
		b := newBench(t, func(s *setup) {
			s.drive.Generation = generation
			s.medium.Density = map[int]cartridge.Density{4: cartridge.LTO4, 8: cartridge.LTO8}[generation]
		})
		d := b.open(lto.Config{})
		for _, o := range []lto.Options{{BlockLength: 4096}, {Compression: true}, {BlockLength: 512, Compression: true, BufferMode: 1}} {
			if err := d.SetOptions(o); err != nil {
				t.Errorf("%+v: %v", o, err)
			}
			if s, err := d.Status(t.Context()); err != nil || s.Options != o {
				t.Errorf("set %+v, got %+v, %v", o, s.Options, err)
			}
		}
		if err := d.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := d.Status(t.Context())
		if want := (lto.Options{Compression: true, BufferMode: 1}); err != nil || s.Options != want {
			t.Errorf("opened: %+v, %v", s.Options, err)
		}
	}
}
