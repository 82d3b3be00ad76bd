package lto_test

import (
	"io"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/lto"
)

// sink is a unit that throws blocks away.
type sink struct{ target.Unit }

func (s sink) Execute(cdb, out, in []byte) (int, error) {
	if scsi.OpcodeOf(cdb) == scsi.Write6 {
		return len(out), nil
	}
	return s.Unit.Execute(cdb, out, in)
}

// The way from a stream to a drive: alone, and into a virtual drive on disk.
func BenchmarkWrite(b *testing.B) {
	const size = 64 << 20
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	for _, kind := range []string{"sink", "vtl"} {
		b.Run("drive="+kind, func(b *testing.B) {
			dir := b.TempDir()
			cfg := vtl.Default(8, 1, 2)
			cfg.Changer.Slots = 0
			if err := vtl.Create(dir, cfg); err != nil {
				b.Fatal(err)
			}
			l, err := vtl.Open(dir, vtl.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			if err := l.AddCartridge(vtl.Cartridge{Barcode: "TEST01L8"}); err != nil {
				b.Fatal(err)
			}
			if err := l.Insert(0, "TEST01L8"); err != nil {
				b.Fatal(err)
			}
			unit := target.Unit(l.Drive(0))
			if kind == "sink" {
				unit = sink{unit}
			}
			d, err := lto.Open(b.Context(), target.Connect(unit), lto.Config{})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if err := d.Rewind(b.Context()); err != nil {
					b.Fatal(err)
				}
				w, err := tape.NewWriter(d, tape.GiveUp)
				if err != nil {
					b.Fatal(err)
				}
				for range size / len(data) {
					if _, err := w.Write(data); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.Finish(false); err != nil && kind == "vtl" { // a sink has fewer objects than were written
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	const size = 32 << 20
	d := newBench(b).open(lto.Config{})
	w, err := tape.NewWriter(d, tape.GiveUp)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := w.Write(make([]byte, size)); err != nil {
		b.Fatal(err)
	}
	if err := w.Finish(false); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Rewind(b.Context()); err != nil {
			b.Fatal(err)
		}
		r, err := tape.NewReader(d)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); n != size || err != nil {
			b.Fatal(n, err)
		}
		_ = r.Close()
	}
}
