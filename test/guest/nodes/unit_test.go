//go:build linux

package nodes

import (
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/sg"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/tcmu"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// watched counts what reaches a unit, and is held up by commands of one kind.
type watched struct {
	target.Unit
	begun chan struct{} // told of each that is held up

	mu    sync.Mutex
	count map[scsi.Opcode]int
	slow  scsi.Opcode
	until func() // how long they are held up; nil: not at all
}

func watch(u target.Unit) *watched {
	return &watched{Unit: u, count: map[scsi.Opcode]int{}, begun: make(chan struct{}, 64)}
}

func (w *watched) Execute(cdb, out, in []byte) (int, error) {
	op := scsi.OpcodeOf(cdb)
	w.mu.Lock()
	w.count[op]++
	until := w.until
	if op != w.slow {
		until = nil
	}
	w.mu.Unlock()
	if until != nil {
		w.begun <- struct{}{}
		until()
	}
	return w.Unit.Execute(cdb, out, in)
}

// hold holds up commands of one kind.
func (w *watched) hold(op scsi.Opcode, until func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slow, w.until = op, until
}

func (w *watched) seen(op scsi.Opcode) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count[op]
}

// capacity of a cartridge: to fill it takes a while here.
const capacity = 8 << 20

// newDrive is a drive with an empty cartridge.
func newDrive(t *testing.T, serial string) *drive.Drive {
	t.Helper()
	fs := simdisk.New(simdisk.Options{}).Process()
	err := cartridge.Create(fs, "tape", cartridge.Memory{
		Barcode: "TEST01L8", Serial: "S0000001", Density: cartridge.LTO8,
		Capacity: capacity, EarlyWarning: 2 << 20, Manufactured: "20250102",
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := cartridge.Open(fs, "tape")
	if err != nil {
		t.Fatal(err)
	}
	d, err := drive.New(drive.Config{Generation: 8, Serial: serial})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Insert(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close the drive: %v", err)
		}
	})
	return d
}

// newLibrary is a library with two drives and two cartridges, the changer first.
func newLibrary(t *testing.T) (units []target.Unit) {
	t.Helper()
	fs := simdisk.New(simdisk.Options{}).Process()
	if err := vtl.CreateOn(fs, vtl.Default(8, 2, 4)); err != nil {
		t.Fatal(err)
	}
	lib, err := vtl.OpenOn(fs, vtl.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lib.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"HLD001L8", "HLD002L8"} {
		if err := lib.AddCartridge(vtl.Cartridge{Barcode: name, Capacity: capacity}); err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range lib.Units() {
		units = append(units, u.Unit)
	}
	return units
}

// attach makes nodes of units for the time of the test.
func attach(t *testing.T, units ...target.Unit) (*tcmu.Attached, []scsi.Found) {
	t.Helper()
	a, err := tcmu.Attach("test", units)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("take the nodes away: %v", err)
		}
	})
	nodes, err := a.Nodes()
	if err != nil {
		t.Fatal(err)
	}
	return a, nodes
}

// open opens a node and hears what the unit has to say first.
func open(t *testing.T, node string) *sg.Device {
	t.Helper()
	d, err := sg.Open(node)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // a test may have closed it
	calm(t, d)
	return d
}

// calm takes the unit attentions.
func calm(t *testing.T, tr scsi.Transport) {
	t.Helper()
	var err error
	for range 8 {
		if err = scsi.CheckReady(tr); err == nil {
			return
		}
		if s, ok := scsi.AsSense(err); !ok || s.Key != scsi.UnitAttention {
			break
		}
	}
	t.Fatalf("the unit does not get ready: %v", err)
}
