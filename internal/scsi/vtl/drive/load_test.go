package drive_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
)

func (b *bench) remove() {
	b.t.Helper()
	c, err := b.d.Remove()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		b.t.Fatal(err)
	}
}

// put puts the cartridge in and takes no unit attentions.
func (b *bench) put() {
	b.t.Helper()
	c, err := cartridge.Open(b.fs, "tape")
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.d.Insert(c); err != nil {
		b.t.Fatal(err)
	}
}

func TestADriveTellsWhatHappenedToIt(t *testing.T) {
	d, err := drive.New(drive.Config{Generation: 8, Serial: "1"})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, d: d}
	if got := b.ok(36, 0x12, 0, 0, 0, 36, 0); got[0] != 1 || string(got[8:16]) != "IBM     " {
		t.Fatalf("INQUIRY says %q", got)
	}
	b.says(b.do(0, 0, 0, 0, 0, 0), scsi.UnitAttention, 0x2900)
	b.says(b.do(0, 0, 0, 0, 0, 0), scsi.NotReady, 0x3a00)
	b = newBench(t, nil)
	b.remove()
	b.says(b.do(0x01, 0, 0, 0, 0, 0), scsi.NotReady, 0x3a00)
	b.put()
	b.says(b.do(0, 0, 0, 0, 0, 0), scsi.UnitAttention, 0x2800)
	b.must(0, 0, 0, 0, 0, 0)
}

func TestLoadingTakesItsTime(t *testing.T) {
	clock := &fakeClock{now: time.Unix(1_700_000_000, 0)}
	b := newBench(t, func(c *drive.Config, _ *cartridge.Memory) {
		c.Clock, c.Times.Load = clock, 20*time.Second
	})
	b.says(b.do(0, 0, 0, 0, 0, 0), scsi.NotReady, 0x0401)
	b.says(b.write([]byte("x")), scsi.NotReady, 0x0401)
	clock.Sleep(19 * time.Second)
	b.says(b.do(0, 0, 0, 0, 0, 0), scsi.NotReady, 0x0401)
	clock.Sleep(time.Second)
	b.must(0, 0, 0, 0, 0, 0)
	b.must(0x1b, 0, 0, 0, 0, 0)
	b.says(b.do(0, 0, 0, 0, 0, 0), scsi.NotReady, 0x3a00)
	before := clock.now
	b.must(0x1b, 0, 0, 0, 1, 0)
	if took := clock.now.Sub(before); took != 20*time.Second {
		t.Fatalf("a load without IMMED took %s", took)
	}
	b.must(0, 0, 0, 0, 0, 0)
}

func TestLongCommandsEndAtOnceWhereAskedTo(t *testing.T) {
	clock := &fakeClock{now: time.Unix(1_700_000_000, 0)}
	b := newBench(t, func(c *drive.Config, _ *cartridge.Memory) {
		c.Clock, c.Times.Erase, c.Times.Format, c.Times.Wind = clock, time.Hour, time.Minute, time.Minute
	})
	b.must(0x19, 3, 0, 0, 0, 0)
	b.says(b.do(0, 0, 0, 0, 0, 0), scsi.NotReady, 0x0407)
	if page := b.ok(64, 0x4d, 0, 0x51, 0, 0, 0, 0, 0, 64, 0); page[10] != 0x09 {
		t.Fatalf("page 11 says %x, want erasing", page)
	}
	clock.Sleep(time.Hour)
	b.must(0, 0, 0, 0, 0, 0)
	b.must(0x04, 1, 0, 0, 0, 0)
	b.says(b.do(0, 0, 0, 0, 0, 0), scsi.NotReady, 0x0404)
	clock.Sleep(time.Minute)
	b.fill(10)
	b.must(0x11, 3, 0, 0, 0, 0)
	b.must(0x01, 1, 0, 0, 0, 0)
	raw := b.ok(252, 3, 0, 0, 0, 252, 0)
	if s, err := scsi.ParseSense(scsi.RequestSense, raw); err != nil || !s.Says(scsi.NoSense, 0x001a) {
		t.Fatalf("while it rewinds, REQUEST SENSE gives %x", raw)
	}
	before := clock.now
	if _, err := b.read(10); err != nil || clock.now.Sub(before) != time.Minute {
		t.Fatalf("a read did not wait for the rewind: %s, %v", clock.now.Sub(before), err)
	}
}

// gate is a clock whose sleepers wait until they are let go.
type gate struct {
	fakeClock
	asleep, wake chan struct{}
}

func (g *gate) Sleep(time.Duration) {
	g.asleep <- struct{}{}
	<-g.wake
}

func TestTheActivityIsToldWhileACommandRuns(t *testing.T) {
	g := &gate{asleep: make(chan struct{}), wake: make(chan struct{})}
	b := newBench(t, func(c *drive.Config, _ *cartridge.Memory) { c.Clock, c.Times.Wind = g, time.Minute })
	if err := b.write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.do(0x01, 0, 0, 0, 0, 0); err != nil {
			t.Error(err)
		}
	})
	<-g.asleep
	if page := b.ok(64, 0x4d, 0, 0x51, 0, 0, 0, 0, 0, 64, 0); page[10] != 0x08 {
		t.Errorf("page 11 says %x, want rewinding", page)
	}
	b.ok(36, 0x12, 0, 0, 0, 36, 0)
	if threaded, _ := b.d.State(); !threaded {
		t.Error("the changer sees no medium in it")
	}
	g.wake <- struct{}{}
	wg.Wait()
}

func TestAPreventedMediumStays(t *testing.T) {
	b := newBench(t, nil)
	b.must(0x1e, 0, 0, 0, 1, 0)
	b.says(b.do(0x1b, 0, 0, 0, 0, 0), scsi.IllegalRequest, 0x5302)
	if _, err := b.d.Remove(); !errors.Is(err, drive.ErrPrevented) {
		t.Fatalf("it came out: %v", err)
	}
	b.must(0x1e, 0, 0, 0, 0, 0)
	b.must(0x1b, 0, 0, 0, 0, 0)
	b.remove()
	if _, err := b.d.Remove(); !errors.Is(err, drive.ErrEmpty) {
		t.Fatalf("from an empty drive came: %v", err)
	}
}

func TestACleaningCartridgeIsUsedUp(t *testing.T) {
	clock := &fakeClock{now: time.Unix(1_700_000_000, 0)}
	b := newBench(t, func(c *drive.Config, m *cartridge.Memory) {
		c.Clock, c.Times.Clean = clock, time.Minute
		m.Cleaning, m.Uses = true, 1
	})
	b.says(b.do(0, 0, 0, 0, 0, 0), scsi.NotReady, 0x3003)
	clock.Sleep(time.Minute)
	b.says(b.do(0, 0, 0, 0, 0, 0), scsi.NotReady, 0x3a00)
	b.remove()
	b.insert()
	b.says(b.do(0, 0, 0, 0, 0, 0), scsi.NotReady, 0x3a00)
	if alerts := b.ok(64, 0x4d, 0, 0x52, 0, 0, 0, 0, 0, 64, 0); alerts[10]&0x04 == 0 { // flag 16h
		t.Fatalf("no alert of the expired cartridge: %x", alerts)
	}
}

func TestGenerationsFit(t *testing.T) {
	for _, tc := range []struct {
		drive         int
		medium        cartridge.Density
		reads, writes bool
	}{
		{4, cartridge.LTO4, true, true},
		{4, cartridge.LTO3, true, true},
		{5, cartridge.LTO3, true, false},
		{4, cartridge.LTO5, false, false},
		{7, cartridge.LTO5, true, false},
		{7, cartridge.LTO7M8, false, false},
		{8, cartridge.LTO7M8, true, true},
		{8, cartridge.LTO7, true, true},
		{8, cartridge.LTO6, false, false},
		{9, cartridge.LTO8, true, true},
		{9, cartridge.LTO7, false, false},
		{9, cartridge.LTO7M8, false, false},
		{10, cartridge.LTO9, false, false},
		{10, cartridge.LTO10H, true, true},
	} {
		b := newBench(t, func(c *drive.Config, m *cartridge.Memory) { c.Generation, m.Density = tc.drive, tc.medium })
		err := b.do(0, 0, 0, 0, 0, 0)
		if tc.reads != (err == nil) {
			t.Errorf("generation %d with %s: %v", tc.drive, tc.medium, err)
		}
		if !tc.reads {
			b.says(err, scsi.NotReady, 0x3000)
			continue
		}
		if err := b.write([]byte("x")); tc.writes != (err == nil) {
			t.Errorf("generation %d writes %s: %v", tc.drive, tc.medium, err)
		}
	}
}

func TestAnOldDriveLacksWhatCameLater(t *testing.T) {
	b := newBench(t, func(c *drive.Config, m *cartridge.Memory) { c.Generation, m.Density = 4, cartridge.LTO4 })
	b.says(b.do(0x04, 0, 0, 0, 0, 0), scsi.IllegalRequest, 0x2000)
	b.says(b.do(0x5a, 8, 0x0f, 0, 0, 0, 0, 0, 64, 0), scsi.IllegalRequest, 0x2000)
	b.says(b.do(0x55, 0x10, 0, 0, 0, 0, 0, 0, 0, 0), scsi.IllegalRequest, 0x2000)
	b.says(b.do(0x4d, 0, 0x57, 0, 0, 0, 0, 0, 64, 0), scsi.IllegalRequest, 0x2400)
	b.says(b.do(0x1a, 8, 0x10, 1, 64, 0), scsi.IllegalRequest, 0x2400)
	if got := b.ok(64, 0x1a, 8, 0x0f, 0, 64, 0); len(got) != 4+16 || got[1] != 0x48 {
		t.Fatalf("MODE SENSE(6) gives %x", got)
	}
}
