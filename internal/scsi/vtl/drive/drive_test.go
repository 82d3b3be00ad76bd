package drive_test

import (
	"bytes"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// bench is a drive with a cartridge in it, and what a host does with it.
type bench struct {
	t    *testing.T
	d    *drive.Drive
	disk *simdisk.Disk
	fs   *simdisk.Process
}

func memory() cartridge.Memory {
	return cartridge.Memory{
		Barcode: "TEST01L8", Serial: "S0000001", Density: cartridge.LTO8,
		Capacity: 64 << 20, EarlyWarning: 1 << 20, Manufactured: "20250102",
	}
}

// newBench makes a drive of generation 8 with a cartridge; change may be nil.
func newBench(t *testing.T, change func(c *drive.Config, m *cartridge.Memory)) *bench {
	t.Helper()
	cfg, m := drive.Config{Generation: 8, Serial: "DRV0000001"}, memory()
	if change != nil {
		change(&cfg, &m)
	}
	d, err := drive.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, d: d, disk: simdisk.New(simdisk.Options{})}
	b.fs = b.disk.Process()
	if err := cartridge.Create(b.fs, "tape", m); err != nil {
		t.Fatal(err)
	}
	b.insert()
	return b
}

// insert puts the cartridge in and listens to what the drive has to tell.
func (b *bench) insert() {
	b.t.Helper()
	c, err := cartridge.Open(b.fs, "tape")
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.d.Insert(c); err != nil {
		b.t.Fatal(err)
	}
	b.calm()
}

// calm takes the unit attentions.
func (b *bench) calm() {
	for range 8 {
		if s, ok := scsi.AsSense(b.do(0, 0, 0, 0, 0, 0)); !ok || s.Key != scsi.UnitAttention {
			return
		}
	}
	b.t.Fatal("there is no end of unit attentions")
}

// do carries out a command without data.
func (b *bench) do(cdb ...byte) error {
	_, err := b.d.Execute(cdb, nil, nil)
	return err
}

// in carries out a command with an answer.
func (b *bench) in(size int, cdb ...byte) ([]byte, error) {
	in := make([]byte, size)
	n, err := b.d.Execute(cdb, nil, in)
	return in[:n], err
}

// ok is in that must succeed.
func (b *bench) ok(size int, cdb ...byte) []byte {
	b.t.Helper()
	got, err := b.in(size, cdb...)
	if err != nil {
		b.t.Fatalf("% x: %v", cdb, err)
	}
	return got
}

// must do a command without data.
func (b *bench) must(cdb ...byte) {
	b.t.Helper()
	if err := b.do(cdb...); err != nil {
		b.t.Fatalf("% x: %v", cdb, err)
	}
}

func length(n int) []byte { return []byte{byte(n >> 16), byte(n >> 8), byte(n)} }

func (b *bench) write(data []byte) error {
	_, err := b.d.Execute(append(append([]byte{0x0a, 0}, length(len(data))...), 0), data, nil)
	return err
}

func (b *bench) read(size int) ([]byte, error) {
	return b.in(size, append(append([]byte{0x08, 0x02}, length(size)...), 0)...)
}

// says fails unless err is a sense with a key and a code.
func (b *bench) says(err error, k scsi.Key, code uint16) *scsi.Sense {
	b.t.Helper()
	s, ok := scsi.AsSense(err)
	if !ok || !s.Says(k, code) {
		b.t.Fatalf("it says %v, want %x/%04x", err, k, code)
	}
	return s
}

// file is the number of the object and of the file at the position.
func (b *bench) position() (object, file uint64) {
	b.t.Helper()
	p := b.ok(32, 0x34, 6, 0, 0, 0, 0, 0, 0, 0, 0)
	for i := range 8 {
		object, file = object<<8|uint64(p[8+i]), file<<8|uint64(p[16+i])
	}
	return object, file
}

func TestBlocksAndFilemarksComeBack(t *testing.T) {
	b := newBench(t, nil)
	first, second := bytes.Repeat([]byte("a"), 1000), bytes.Repeat([]byte("b"), 262144)
	for _, data := range [][]byte{first, second} {
		if err := b.write(data); err != nil {
			t.Fatal(err)
		}
	}
	b.must(0x10, 0, 0, 0, 1, 0)
	if object, file := b.position(); object != 3 || file != 1 {
		t.Fatalf("at object %d of file %d, want 3 of 1", object, file)
	}
	b.must(0x01, 0, 0, 0, 0, 0)
	for _, want := range [][]byte{first, second} {
		if got, err := b.read(262144); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, want %d: %v", len(got), len(want), err)
		}
	}
	_, err := b.read(512)
	if s := b.says(err, scsi.NoSense, 0x0001); !s.Filemark || s.Info != 512 {
		t.Fatalf("at the filemark: %+v", s)
	}
	_, err = b.read(512)
	b.says(err, scsi.BlankCheck, 0x0005)
}
