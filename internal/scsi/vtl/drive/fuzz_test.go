package drive_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
)

// FuzzCommands sends two commands to a drive: none makes it panic, move more than
// there is room for, or end in an error that a unit must not give; and afterwards
// it still works.
func FuzzCommands(f *testing.F) {
	for op := range 256 {
		f.Add([]byte{byte(op), 0, 0, 0, 32, 0, 0, 0, 64, 0, 0, 0, 0, 64, 0, 0}, []byte{0x08, 0, 0, 0, 32, 0}, []byte("data"))
	}
	f.Add([]byte{0x55, 0x10, 0, 0, 0, 0, 0, 0, 16, 0}, []byte{0x0a, 1, 0, 0, 3, 0},
		[]byte{0, 0, 0, 0x10, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 4})
	f.Add([]byte{0xb5, 0x20, 0, 0x10, 0, 0, 0, 0, 0, 52, 0, 0}, []byte{0x0a, 0, 0, 0, 3, 0}, append(
		[]byte{0, 0x10, 0, 0x30, 0x40, 0, 2, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20}, make([]byte, 32)...))
	f.Fuzz(func(t *testing.T, first, second, data []byte) {
		b := newBench(t, func(_ *drive.Config, m *cartridge.Memory) { m.Capacity, m.EarlyWarning = 1<<20, 1<<18 })
		b.fill(100, 4)
		for _, cdb := range [][]byte{first, second} {
			in := make([]byte, 4096)
			for _, call := range []struct{ out, in []byte }{{nil, in}, {data, nil}, {nil, nil}} {
				n, err := b.d.Execute(cdb, call.out, call.in)
				if n < 0 || n > max(len(call.out), len(call.in)) {
					t.Fatalf("%x moved %d bytes of %d", cdb, n, max(len(call.out), len(call.in)))
				}
				if _, ok := scsi.AsSense(err); err != nil && !ok {
					t.Fatalf("%x: %v", cdb, err)
				}
			}
		}
		b.calm()
		b.ok(36, 0x12, 0, 0, 0, 36, 0)
		if err := b.do(0, 0, 0, 0, 0, 0); err == nil {
			b.must(0x01, 0, 0, 0, 0, 0)
		}
		if err := b.d.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
