package lto_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/fault"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/lto"
)

// faults are all the ways in which a command fails.
func faults() map[string]fault.Rule {
	sense := func(k scsi.Key, code uint16) *scsi.Sense {
		return &scsi.Sense{Key: k, ASC: uint8(code >> 8), ASCQ: uint8(code)}
	}
	deferred := sense(scsi.MediumError, 0x0c00)
	deferred.Deferred = true
	return map[string]fault.Rule{
		"lost":                      {Lost: true},
		"answer lost":               {Lost: true, Done: true},
		"out of time, and done":     {Timeout: true, Done: true},
		"sent twice":                {Twice: true},
		"busy":                      {Status: scsi.Busy},
		"reserved":                  {Status: scsi.ReservationConflict},
		"medium error":              {Sense: sense(scsi.MediumError, 0x0c00)},
		"medium error, and done":    {Sense: sense(scsi.MediumError, 0x0c00), Done: true},
		"hardware error":            {Sense: sense(scsi.HardwareError, 0x4400)},
		"aborted":                   {Sense: sense(scsi.AbortedCommand, 0x4b00)},
		"an earlier write is lost":  {Sense: deferred},
		"reset":                     {Sense: sense(scsi.UnitAttention, 0x2900)},
		"medium changed":            {Sense: sense(scsi.UnitAttention, 0x2800)},
		"mode changed":              {Sense: sense(scsi.UnitAttention, 0x2a01)},
		"illegal":                   {Sense: sense(scsi.IllegalRequest, 0x2400)},
		"unknown":                   {Sense: sense(scsi.IllegalRequest, 0x2000)},
		"no medium":                 {Sense: sense(scsi.NotReady, 0x3a00)},
		"full":                      {Sense: sense(scsi.VolumeOverflow, 0x0002)},
		"the end is near, not done": {Sense: &scsi.Sense{EOM: true, ASCQ: 0x02, Valid: true, Info: tape.BlockSize}},
		"recovered, and done":       {Sense: sense(scsi.Recovered, 0x1700), Done: true},
	}
}

func sortedFaults() []string { return slices.Sorted(maps.Keys(faults())) }

const faultFiles = 3

// content is what file n of a campaign holds.
func content(n int) []byte {
	return bytes.Repeat([]byte{byte('a' + n)}, (n+1)*tapefile.PayloadSize+n*1000)
}

// judge reads all files with a sound drive. What was acknowledged must be there;
// no file may look whole and be another.
func judge(t *testing.T, b *bench, what string, acknowledged int) {
	t.Helper()
	d, err := lto.Open(t.Context(), target.Connect(b.drive), lto.Config{Load: true})
	if err != nil {
		t.Fatalf("%s: then the drive cannot be opened: %v", what, err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Rewind(t.Context()); err != nil {
		t.Fatalf("%s: then it cannot be rewound: %v", what, err)
	}
	for n := 0; ; n++ {
		if err := d.Locate(t.Context(), uint64(n)); errors.Is(err, tape.ErrEndOfData) {
			if n < acknowledged {
				t.Fatalf("%s: file %d was acknowledged and is not there", what, n)
			}
			return
		} else if err != nil {
			t.Fatalf("%s: file %d: %v", what, n, err)
		}
		r, err := tape.NewReader(d)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(r)
			_ = r.Close()
		}
		switch {
		case n < acknowledged && (err != nil || !bytes.Equal(got, content(n))):
			t.Fatalf("%s: file %d was acknowledged and has %d bytes, %v", what, n, len(got), err)
		case err == nil && !bytes.Equal(got, content(n)):
			t.Fatalf("%s: file %d looks whole and has %d bytes of %d", what, n, len(got), len(content(n)))
		case errors.Is(err, tape.ErrEndOfData) && n >= acknowledged:
			return
		}
	}
}

// campaign does work with a drive whose n-th command fails, for every n and in
// every way, or that loses its power there, and what is in its buffer but for
// some objects.
func campaign(t *testing.T, prepare func(*testing.T, *bench), work func(*lto.Drive) int) {
	t.Helper()
	all := faults()
	for keep := range 3 {
		all[fmt.Sprintf("no power, %d objects of the buffer stay", keep)] = fault.Rule{Lost: true, Done: keep == 2}
	}
	for name, rule := range all {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				b := newBench(t)
				if prepare != nil {
					prepare(t, b)
				}
				d := b.open(lto.Config{})
				r := rule
				r.N = n
				var keep int
				if k, _ := fmt.Sscanf(name, "no power, %d", &keep); k == 1 {
					r.Hook = func() {
						if err := b.drive.PowerCut(keep); err != nil {
							t.Error(err)
						}
					}
				}
				b.unit.Add(&r)
				acknowledged := work(d)
				if !r.Fired() {
					if acknowledged != faultFiles {
						t.Fatalf("without a fault %d files were acknowledged", acknowledged)
					}
					return
				}
				judge(t, b, fmt.Sprintf("command %d: %s", n, name), acknowledged)
				_ = d.Close()
			}
		})
	}
}

// A file that was acknowledged, by Finish and Sync, is on the tape and once, and
// no other file looks as if it was whole, whichever command fails in whichever
// way.
func TestNoFaultLosesOrDoublesABlockUnseen(t *testing.T) {
	campaign(t, nil, func(d *lto.Drive) int {
		for n := range faultFiles {
			w, err := tape.NewWriter(d, tape.GiveUp)
			if err != nil {
				t.Fatal(err)
			}
			_, werr := w.Write(content(n))
			if errors.Join(werr, w.Finish(false)) != nil || d.Sync(t.Context()) != nil {
				return n
			}
		}
		return faultFiles
	})
}

func writeAll(t *testing.T, b *bench) {
	t.Helper()
	d, err := lto.Open(t.Context(), target.Connect(b.drive), lto.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range faultFiles {
		w, err := tape.NewWriter(d, tape.GiveUp)
		if err != nil {
			t.Fatal(err)
		}
		_, werr := w.Write(content(n))
		if err := errors.Join(werr, w.Finish(false)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(d.Sync(t.Context()), d.Close()); err != nil {
		t.Fatal(err)
	}
}

// Reading gives what is on the tape, or an error.
func TestNoFaultGivesAnotherFileThanAskedFor(t *testing.T) {
	campaign(t, writeAll, func(d *lto.Drive) int {
		for _, n := range []int{2, 0, 1} {
			if d.Locate(t.Context(), uint64(n)) != nil {
				return faultFiles
			}
			r, err := tape.NewReader(d)
			if err != nil {
				return faultFiles
			}
			got, err := io.ReadAll(r)
			_ = r.Close()
			if err == nil && !bytes.Equal(got, content(n)) {
				t.Errorf("file %d came with %d bytes of %d, and no error", n, len(got), len(content(n)))
			}
		}
		return faultFiles
	})
}

// Appending puts a file behind the last one, or nothing over what is there.
func TestNoFaultPutsAFileOverAnother(t *testing.T) {
	campaign(t, writeAll, func(d *lto.Drive) int {
		if n, err := d.EndOfData(t.Context()); err != nil || n != faultFiles {
			if err == nil {
				t.Errorf("the end of the data is file %d", n)
			}
			return faultFiles
		}
		w, err := tape.NewWriter(d, tape.GiveUp)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(content(faultFiles))
		_ = w.Finish(false)
		return faultFiles
	})
}
