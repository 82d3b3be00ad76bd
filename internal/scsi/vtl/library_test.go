package vtl_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// host is what a host does with a unit; unit attentions are taken on the way.
type host struct {
	t  *testing.T
	tr scsi.Transport
}

func newHost(t *testing.T, u target.Unit) host { return host{t, target.Connect(u)} }

func (h host) do(dir scsi.Direction, data []byte, cdb ...byte) (int, error) {
	for {
		n, err := h.tr.Do(scsi.Command{CDB: cdb, Dir: dir, Data: data, Timeout: time.Minute})
		if s, ok := scsi.AsSense(err); ok && s.Key == scsi.UnitAttention {
			continue
		}
		return n, err
	}
}

func (h host) must(cdb ...byte) {
	h.t.Helper()
	if _, err := h.do(scsi.None, nil, cdb...); err != nil {
		h.t.Fatal(err)
	}
}

func (h host) move(from, to int) error {
	_, err := h.do(scsi.None, nil, 0xa5, 0, 0, 0, byte(from>>8), byte(from), byte(to>>8), byte(to), 0, 0, 0, 0)
	return err
}

// create makes a library of two drives with some cartridges on a new disk.
func create(t *testing.T, cfg vtl.Config, barcodes ...string) *simdisk.Disk {
	t.Helper()
	disk := simdisk.New(simdisk.Options{})
	p := disk.Process()
	if err := vtl.CreateOn(p, cfg); err != nil {
		t.Fatal(err)
	}
	l := open(t, p)
	for _, b := range barcodes {
		if err := l.AddCartridge(vtl.Cartridge{Barcode: b, Capacity: 64 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return disk
}

func open(t *testing.T, p *simdisk.Process) *vtl.Library {
	t.Helper()
	l, err := vtl.OpenOn(p, vtl.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

const (
	slot1  = 1000
	slot2  = 1001
	drive0 = 500
)

func TestWhatWasWrittenIsThereWhenTheLibraryIsOpenedAgain(t *testing.T) {
	disk := create(t, vtl.Default(8, 2, 10), "A00001L8", "A00002L8")
	l := open(t, disk.Process())
	if err := newHost(t, l.Changer()).move(slot2, drive0); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("x"), 4096)
	h := newHost(t, l.Drive(0))
	if _, err := h.do(scsi.Out, data, 0x0a, 0, 0, 0x10, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, disk.Process())
	defer func() { _ = l.Close() }()
	list, err := l.Cartridges()
	if err != nil || len(list) != 2 || list[0].Place != "slot 1" || list[1].Place != "drive 0" || list[1].Memory.Written != 4096 {
		t.Fatalf("the library has %+v: %v", list, err)
	}
	got := make([]byte, 4096)
	if n, err := newHost(t, l.Drive(0)).do(scsi.In, got, 0x08, 2, 0, 0x10, 0, 0); n != 4096 || err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes: %v", n, err)
	}
}

func TestOneProcessHasALibraryOpen(t *testing.T) {
	disk := create(t, vtl.Default(8, 1, 2))
	l := open(t, disk.Process())
	_, err := vtl.OpenOn(disk.Process(), vtl.Options{})
	if !errors.Is(err, vfs.ErrLocked) || !strings.Contains(err.Error(), "sockets") {
		t.Fatalf("a second one: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, disk.Process()).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestALibraryIsADirectory(t *testing.T) {
	dir := t.TempDir()
	if err := vtl.Create(dir, vtl.Default(9, 1, 4)); err != nil {
		t.Fatal(err)
	}
	l, err := vtl.Open(dir, vtl.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AddCartridge(vtl.Cartridge{Barcode: "B00001L9"}); err != nil {
		t.Fatal(err)
	}
	if err := newHost(t, l.Changer()).move(slot1, drive0); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, l.Drive(0))
	h.must(0x10, 0, 0, 0, 1, 0)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := vtl.Create(dir, vtl.Default(9, 1, 4)); err == nil {
		t.Fatal("a second library was made in the directory")
	}
}
