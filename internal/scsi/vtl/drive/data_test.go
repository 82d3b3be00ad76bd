package drive_test

import (
	"bytes"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
)

// fill writes blocks of some lengths and goes back to the start.
func (b *bench) fill(lengths ...int) {
	b.t.Helper()
	for i, n := range lengths {
		if err := b.write(bytes.Repeat([]byte{byte('a' + i)}, n)); err != nil {
			b.t.Fatal(err)
		}
	}
	b.must(0x01, 0, 0, 0, 0, 0)
}

func TestALengthThatDiffersIsToldUnlessSuppressed(t *testing.T) {
	for _, tc := range []struct {
		name    string
		silent  byte
		asked   int
		got     int
		differs int64 // 0: not told
	}{
		{"a shorter block", 0, 1500, 1000, 500},
		{"a longer block", 0, 600, 600, -400},
		{"the same", 0, 1000, 1000, 0},
		{"a shorter block, suppressed", 2, 1500, 1000, 0},
		{"a longer block, suppressed", 2, 600, 600, 0},
	} {
		b := newBench(t, nil)
		b.fill(1000)
		n := length(tc.asked)
		got, err := b.in(tc.asked, 0x08, tc.silent, n[0], n[1], n[2], 0)
		s, told := scsi.AsSense(err)
		if len(got) != tc.got || told != (tc.differs != 0) || told && (!s.ILI || s.Info != tc.differs || s.Key != scsi.NoSense) {
			t.Errorf("%s: %d bytes, %v", tc.name, len(got), err)
		}
		if object, _ := b.position(); object != 1 {
			t.Errorf("%s: the position is %d, want behind the block", tc.name, object)
		}
	}
}

// blockLength sets fixed blocks by MODE SELECT(6).
func (b *bench) blockLength(n int) {
	b.t.Helper()
	l := length(n)
	list := []byte{0, 0, 0x10, 8, 0, 0, 0, 0, 0, l[0], l[1], l[2]}
	if _, err := b.d.Execute([]byte{0x15, 0x10, 0, 0, byte(len(list)), 0}, list, nil); err != nil {
		b.t.Fatal(err)
	}
}

func TestFixedBlocksMoveManyAtATime(t *testing.T) {
	b := newBench(t, nil)
	b.says(b.do(0x08, 1, 0, 0, 1, 0), scsi.IllegalRequest, 0x2400) // no length is set
	b.blockLength(100)
	data := bytes.Repeat([]byte("0123456789"), 30)
	if n, err := b.d.Execute([]byte{0x0a, 1, 0, 0, 3, 0}, data, nil); n != 300 || err != nil {
		t.Fatalf("%d bytes were taken: %v", n, err)
	}
	b.must(0x10, 0, 0, 0, 1, 0)
	if object, _ := b.position(); object != 4 {
		t.Fatalf("three blocks and a filemark lead to %d", object)
	}
	b.must(0x01, 0, 0, 0, 0, 0)
	got, err := b.in(500, 0x08, 1, 0, 0, 5, 0)
	if s := b.says(err, scsi.NoSense, 0x0001); s.Info != 2 || !bytes.Equal(got, data) {
		t.Fatalf("five blocks of three: %d bytes, %+v", len(got), s)
	}
	b.must(0x01, 0, 0, 0, 0, 0)
	b.must(0x11, 0, 0, 0, 1, 0)
	_, err = b.in(60, 0x08, 2, 0, 0, 60, 0)
	if s, ok := scsi.AsSense(err); !ok || !s.ILI || s.Info != -40 {
		t.Fatalf("with a length set, a block that is cut is told even if suppressed: %v", err)
	}
	b.blockLength(70)
	b.must(0x01, 0, 0, 0, 0, 0)
	got, err = b.in(210, 0x08, 1, 0, 0, 3, 0)
	if s, ok := scsi.AsSense(err); !ok || !s.ILI || s.Info != 3 || len(got) != 70 {
		t.Fatalf("blocks of another length: %d bytes, %v", len(got), err)
	}
}

func TestTheEndComesWithWarnings(t *testing.T) {
	b := newBench(t, func(_ *drive.Config, m *cartridge.Memory) { m.Capacity, m.EarlyWarning = 10<<20, 2<<20 })
	page := make([]byte, 8+32)
	page[3] = 0x10
	copy(page[8:], []byte{0x50, 1, 0, 28})
	page[8+4+3] = 3 // MB before the early warning
	if _, err := b.d.Execute([]byte{0x55, 0x10, 0, 0, 0, 0, 0, 0, byte(len(page)), 0}, page, nil); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for i := 1; ; i++ {
		s, _ := scsi.AsSense(b.write(block))
		flags := b.ok(32, 0x34, 6, 0, 0, 0, 0, 0, 0, 0, 0)[0]
		switch {
		case i < 6 && (s != nil || flags != 0):
			t.Fatalf("block %d: %v, flags %x", i, s, flags)
		case i == 6 && (s == nil || s.Code() != 0x0007 || s.Key != scsi.NoSense || !s.EOM || flags != 0x01):
			t.Fatalf("the programmed warning: %v, flags %x", s, flags)
		case i == 7 && (s != nil || flags != 0x01):
			t.Fatalf("the programmed warning comes twice: %v, flags %x", s, flags)
		case i > 7 && i < 10 && (s == nil || s.Code() != 0x0002 || s.Key != scsi.NoSense || !s.EOM || flags != 0x41):
			t.Fatalf("block %d, in the early warning zone: %v, flags %x", i, s, flags)
		case i == 10:
			if s == nil || s.Key != scsi.VolumeOverflow || !s.EOM || s.Info != 1<<20 {
				t.Fatalf("behind the end: %v", s)
			}
			if object, _ := b.position(); object != 9 {
				t.Fatalf("at %d, want behind what was written", object)
			}
			// A filemark has room, and is told the same.
			b.says(b.do(0x10, 0, 0, 0, 1, 0), scsi.NoSense, 0x0002)
			b.says(b.do(0x10, 0, 0xff, 0xff, 0xff, 0), scsi.VolumeOverflow, 0x0002)
			return
		}
	}
}

func TestOverwritingEndsTheTapeThere(t *testing.T) {
	b := newBench(t, nil)
	b.fill(10, 20, 30)
	b.must(0x11, 0, 0, 0, 1, 0)
	if err := b.write([]byte("new")); err != nil {
		t.Fatal(err)
	}
	_, err := b.read(10)
	b.says(err, scsi.BlankCheck, 0x0005)
	b.must(0x01, 0, 0, 0, 0, 0)
	b.must(0x19, 0, 0, 0, 0, 0)
	_, err = b.read(10)
	b.says(err, scsi.BlankCheck, 0x0005)
}

func TestAProtectedMediumIsOnlyRead(t *testing.T) {
	b := newBench(t, nil)
	b.fill(10)
	c, err := b.d.Remove()
	if err != nil {
		t.Fatal(err)
	}
	c.Memory.WriteProtect = true
	if err := b.d.Insert(c); err != nil {
		t.Fatal(err)
	}
	b.calm()
	b.says(b.write([]byte("x")), scsi.DataProtect, 0x2700)
	b.says(b.do(0x10, 0, 0, 0, 1, 0), scsi.DataProtect, 0x2700)
	b.says(b.do(0x19, 0, 0, 0, 0, 0), scsi.DataProtect, 0x2700)
	b.must(0x10, 0, 0, 0, 0, 0) // nothing but a flush
	if got := b.ok(8, 0x1a, 0x08, 0x0f, 0, 8, 0); got[2]&0x80 == 0 {
		t.Fatalf("the mode header does not say so: %x", got)
	}
	if got, err := b.read(10); err != nil || len(got) != 10 {
		t.Fatalf("it cannot be read: %v", err)
	}
}

func TestAWORMMediumIsOnlyAppendedTo(t *testing.T) {
	b := newBench(t, func(_ *drive.Config, m *cartridge.Memory) { m.WORM = true })
	b.fill(10, 20)
	b.says(b.write([]byte("x")), scsi.DataProtect, 0x300c)
	b.says(b.do(0x19, 1, 0, 0, 0, 0), scsi.DataProtect, 0x300c)
	b.says(b.do(0x04, 0, 0, 0, 0, 0), scsi.DataProtect, 0x300c)
	b.must(0x11, 3, 0, 0, 0, 0)
	if err := b.write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if got := b.ok(64, 0x5a, 0x08, 0x1d, 0, 0, 0, 0, 0, 64, 0); got[8+2]&1 == 0 {
		t.Fatalf("page 1d does not say so: %x", got)
	}
}

func TestFormatIsForTheBeginning(t *testing.T) {
	b := newBench(t, nil)
	b.fill(10, 20)
	b.must(0x11, 0, 0, 0, 1, 0)
	b.says(b.do(0x04, 0, 0, 0, 0, 0), scsi.IllegalRequest, 0x3b0c)
	b.must(0x01, 0, 0, 0, 0, 0)
	b.must(0x04, 0, 0, 0, 0, 0)
	_, err := b.read(10)
	b.says(err, scsi.BlankCheck, 0x0005)
	if got := b.ok(256, 0x8c, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 1, 0, 0, 0); !bytes.HasPrefix(got[4:], []byte{0, 7, 0x80, 0, 2, 0, 1}) {
		t.Fatalf("the memory does not count it: %x", got[:16])
	}
}

func TestAPowerCutLosesWhatIsInTheBuffer(t *testing.T) {
	for keep := range 4 {
		b := newBench(t, nil)
		if err := b.write([]byte("flushed")); err != nil {
			t.Fatal(err)
		}
		b.must(0x10, 0, 0, 0, 0, 0)
		for range 3 {
			if err := b.write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		if p := b.ok(20, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0); p[7] != 4 || p[11] != 1 || p[15] != 3 || p[19] != 3 {
			t.Fatalf("READ POSITION does not tell what is in the buffer: %x", p)
		}
		if err := b.d.PowerCut(keep); err != nil {
			t.Fatal(err)
		}
		b.says(b.do(0, 0, 0, 0, 0, 0), scsi.UnitAttention, 0x2900)
		b.must(0x11, 3, 0, 0, 0, 0)
		if object, _ := b.position(); object != uint64(1+keep) {
			t.Fatalf("%d objects are left, want %d", object, 1+keep)
		}
	}
}

func TestAFilemarkIsWaitedForUnlessAskedNotTo(t *testing.T) {
	for immed, left := range map[byte]uint64{0: 1, 1: 0} {
		b := newBench(t, nil)
		b.must(0x10, immed, 0, 0, 1, 0)
		if err := b.d.PowerCut(0); err != nil {
			t.Fatal(err)
		}
		b.calm()
		b.must(0x11, 3, 0, 0, 0, 0)
		if object, _ := b.position(); object != left {
			t.Errorf("with IMMED %d, %d objects are left after a power cut, want %d", immed, object, left)
		}
	}
}

func TestADeferredErrorStopsTheNextCommand(t *testing.T) {
	b := newBench(t, nil)
	b.d.Defer(scsi.Sense{Key: scsi.MediumError, ASC: 0x0c})
	if s := b.says(b.write([]byte("x")), scsi.MediumError, 0x0c00); !s.Deferred {
		t.Fatalf("it says %v", s)
	}
	if object, _ := b.position(); object != 0 {
		t.Fatal("the command was carried out")
	}
	b.d.Defer(scsi.Sense{Key: scsi.MediumError, ASC: 0x0c})
	raw := b.ok(252, 3, 0, 0, 0, 252, 0)
	if s, err := scsi.ParseSense(scsi.RequestSense, raw); err != nil || !s.Deferred || s.Code() != 0x0c00 {
		t.Fatalf("REQUEST SENSE gives %x", raw)
	}
	b.must(0, 0, 0, 0, 0, 0)
}

func TestADiskThatFailsIsAWriteError(t *testing.T) {
	b := newBench(t, nil)
	if err := b.write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	b.disk.StopAfter(0)
	b.says(b.do(0x10, 0, 0, 0, 0, 0), scsi.MediumError, 0x0c00)
	b.says(b.write([]byte("x")), scsi.MediumError, 0x0c00)
	if alerts := b.ok(64, 0x4d, 0, 0x52, 0, 0, 0, 0, 0, 64, 0); alerts[8]&0x04 == 0 { // flag 6
		t.Fatalf("no alert: %x", alerts)
	}
}
