package lto_test

import (
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/fault"
	"github.com/holdfast-backup/holdfast/internal/tape/lto"
	"github.com/holdfast-backup/holdfast/internal/tape/tapetest"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// bench is an emulated drive, and what fails in it.
type bench struct {
	t     testing.TB
	drive *drive.Drive
	unit  *fault.Unit
	fs    *simdisk.Process
	seen  *log
}

// log keeps the commands that reached the drive.
type log struct {
	target.Unit
	cdbs [][]byte
}

func (l *log) Execute(cdb, out, in []byte) (int, error) {
	l.cdbs = append(l.cdbs, slices.Clone(cdb))
	return l.Unit.Execute(cdb, out, in)
}

// count is how many of the commands had this opcode.
func (l *log) count(op scsi.Opcode) (n int) {
	for _, c := range l.cdbs {
		if scsi.OpcodeOf(c) == op {
			n++
		}
	}
	return n
}

// setup is what a test can change.
type setup struct {
	drive  drive.Config
	medium cartridge.Memory
	rules  []*fault.Rule
}

// newBench makes a drive of generation 8 with an empty cartridge.
func newBench(t testing.TB, change ...func(*setup)) *bench {
	t.Helper()
	s := setup{
		drive: drive.Config{Generation: 8, Serial: "DRV0000001"},
		medium: cartridge.Memory{
			Barcode: "TEST01L8", Serial: "S0000001", Density: cartridge.LTO8,
			Capacity: tapetest.Capacity, EarlyWarning: 2 << 20, Manufactured: "20250102",
		},
	}
	for _, f := range change {
		f(&s)
	}
	d, err := drive.New(s.drive)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, drive: d, fs: simdisk.New(simdisk.Options{}).Process(), seen: &log{Unit: d}}
	b.unit = fault.New(b.seen, s.rules...)
	if err := cartridge.Create(b.fs, "tape", s.medium); err != nil {
		t.Fatal(err)
	}
	b.insert("tape")
	return b
}

// insert puts a cartridge into the drive.
func (b *bench) insert(name string) {
	b.t.Helper()
	c, err := cartridge.Open(b.fs, name)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.drive.Insert(c); err != nil {
		b.t.Fatal(err)
	}
}

// open opens the driver.
func (b *bench) open(cfg lto.Config) *lto.Drive {
	b.t.Helper()
	d, err := lto.Open(b.t.Context(), target.Connect(b.unit), cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}
