package vtl_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/fault"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// where is the place of each cartridge.
func where(t *testing.T, l *vtl.Library) map[string]string {
	t.Helper()
	list, err := l.Cartridges()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, c := range list {
		all[c.Name] = c.Place
	}
	return all
}

func TestCartridgesGoOutAndIn(t *testing.T) {
	l := open(t, create(t, vtl.Default(8, 1, 2), "A00001L8", "A00002L8", "A00003L8").Process())
	defer func() { _ = l.Close() }()
	at := func(name, want string) {
		t.Helper()
		if got := where(t, l)[name]; got != want {
			t.Fatalf("%s is at %q, want %q", name, got, want)
		}
	}
	at("A00003L8", "shelf") // there are two slots
	for _, step := range []struct {
		do    func(string) error
		name  string
		place string
	}{
		{l.Export, "A00001L8", "shelf"},
		{l.Import, "A00003L8", "station 1"},
		{l.Import, "A00001L8", "station 2"},
	} {
		if err := step.do(step.name); err != nil {
			t.Fatal(err)
		}
		at(step.name, step.place)
	}
	if err := l.Delete("A00001L8"); err == nil {
		t.Fatal("a cartridge in the station was deleted")
	}
	if err := l.Export("A00001L8"); err != nil {
		t.Fatal(err)
	}
	if err := l.Delete("A00001L8"); err != nil {
		t.Fatal(err)
	}
	if err := l.Import("A00001L8"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a deleted cartridge: %v", err)
	}
	if err := l.Import("../A00002L8"); err == nil {
		t.Fatal("a name that leads elsewhere was taken")
	}
	if err := l.Insert(0, "A00002L8"); err == nil {
		t.Fatal("a hand put a cartridge into a drive of the changer")
	}
}

func TestALibraryWithoutChangerIsFedByHand(t *testing.T) {
	disk := create(t, vtl.Default(8, 1, 0), "A00001L8")
	l := open(t, disk.Process())
	if l.Changer() != nil || len(l.Units()) != 1 {
		t.Fatalf("it has %d units", len(l.Units()))
	}
	if err := l.Insert(0, "A00001L8"); err != nil {
		t.Fatal(err)
	}
	if err := l.Insert(0, "A00001L8"); err == nil {
		t.Fatal("it was inserted twice")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, disk.Process())
	defer func() { _ = l.Close() }()
	newHost(t, l.Drive(0)).must(0, 0, 0, 0, 0, 0)
	if err := l.Eject(0); err != nil {
		t.Fatal(err)
	}
	if got := where(t, l)["A00001L8"]; got != "shelf" {
		t.Fatalf("it is at %q", got)
	}
}

func TestCartridgesAreWhatTheirBarcodesSay(t *testing.T) {
	l := open(t, create(t, vtl.Default(8, 1, 20)).Process())
	defer func() { _ = l.Close() }()
	for _, tc := range []struct {
		barcode  string
		density  cartridge.Density
		capacity int64
		worm     bool
		uses     int
	}{
		{"A00001L4", cartridge.LTO4, 800e9, false, 0},
		{"A00001M8", cartridge.LTO7M8, 9e12, false, 0},
		{"A00001LY", cartridge.LTO8, 12e12, true, 0},
		{"A00001LA", cartridge.LTO10, 30e12, false, 0},
		{"CLNU01", cartridge.LTO4, 800e9, false, 50},
	} {
		if err := l.AddCartridge(vtl.Cartridge{Barcode: tc.barcode}); err != nil {
			t.Fatal(err)
		}
		list, err := l.Cartridges()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			m := c.Memory
			if c.Name == tc.barcode && (m.Density != tc.density || m.Capacity != tc.capacity || m.WORM != tc.worm || m.Uses != tc.uses || m.Cleaning != (tc.uses > 0)) {
				t.Errorf("%s is %+v", tc.barcode, m)
			}
		}
	}
	for _, bad := range []string{"", "nothing", "../x/L8", ".hiddenL8", "has blankL8"} {
		if err := l.AddCartridge(vtl.Cartridge{Barcode: bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if err := l.AddCartridge(vtl.Cartridge{Barcode: "A00001L4"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second one of the name: %v", err)
	}
}

// A crash at any moment of adding, moving and writing leaves a library that
// opens, with each cartridge in one place, and what was flushed on it.
func TestACrashLeavesALibrary(t *testing.T) {
	start := create(t, vtl.Default(8, 1, 4), "A00001L8")
	done := false
	for n := 0; !done; n++ {
		disk := start.Clone()
		disk.StopAfter(n)
		rng := rand.New(rand.NewPCG(uint64(n), 4))
		flushed := false
		l, err := vtl.OpenOn(disk.Process(), vtl.Options{})
		if err == nil {
			done, flushed = work(t, l)
		}
		for range 4 {
			after, err := vtl.OpenOn(disk.Crash(rng).Process(), vtl.Options{})
			if err != nil {
				t.Fatalf("a power cut after %d calls: %v", n, err)
			}
			places := where(t, after)
			if p := places["A00001L8"]; p != "slot 1" && p != "drive 0" || flushed && p != "drive 0" {
				t.Fatalf("a power cut after %d calls: the cartridge is at %q", n, p)
			}
			if flushed {
				h := newHost(t, after.Drive(0))
				h.must(0x11, 1, 0, 0, 1, 0) // over the filemark that was flushed
			}
			if places["A00002L8"] == "" { // what is left of it is in nobody's way
				if err := after.AddCartridge(vtl.Cartridge{Barcode: "A00002L8"}); err != nil {
					t.Fatalf("a power cut after %d calls: %v", n, err)
				}
			}
			if err := after.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// work uses a library until the power goes.
func work(t *testing.T, l *vtl.Library) (done, flushed bool) {
	if newHost(t, l.Changer()).move(slot1, drive0) != nil {
		return false, false
	}
	if _, err := newHost(t, l.Drive(0)).do(scsi.None, nil, 0x10, 0, 0, 0, 1, 0); err != nil {
		return false, false
	}
	if l.AddCartridge(vtl.Cartridge{Barcode: "A00002L8"}) != nil {
		return false, true
	}
	return l.Close() == nil, true
}

func TestADamagedCartridgeLeavesTheOthersAlone(t *testing.T) {
	disk := create(t, vtl.Default(8, 1, 4), "A00001L8", "A00002L8", "A00003L8")
	l := open(t, disk.Process())
	if err := newHost(t, l.Changer()).move(slot1, drive0); err != nil {
		t.Fatal(err)
	}
	newHost(t, l.Drive(0)).must(0x10, 0, 0, 0, 1, 0)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	spoil := func([]byte) []byte { return make([]byte, 32*20_000) } // more than a crash can tear
	if err := errors.Join(disk.Corrupt("cartridges/A00001L8/index", spoil), disk.Corrupt("cartridges/A00002L8/cartridge.json", spoil)); err != nil {
		t.Fatal(err)
	}
	l = open(t, disk.Process())
	defer func() { _ = l.Close() }()
	list, err := l.Cartridges()
	if err != nil || len(list) != 3 || list[0].Damage == "" || list[0].Place != "shelf" || list[1].Damage == "" || list[2].Damage != "" || list[2].Place != "slot 3" {
		t.Fatalf("the library has %+v: %v", list, err)
	}
	if err := newHost(t, l.Changer()).move(slot1+2, drive0); err != nil {
		t.Fatal(err)
	}
	if err := l.Import("A00001L8"); err == nil {
		t.Fatal("a damaged cartridge was imported")
	}
	if err := l.Delete("A00001L8"); err != nil {
		t.Fatal(err)
	}
}

func TestFaultsComeThroughTheUnits(t *testing.T) {
	disk := create(t, vtl.Default(8, 1, 2), "A00001L8")
	l, err := vtl.OpenOn(disk.Process(), vtl.Options{Wrap: func(u vtl.Unit) target.Unit {
		if u.Name != "drive0" {
			return u.Unit
		}
		return fault.New(u.Unit, &fault.Rule{Ops: []scsi.Opcode{scsi.Write6}, N: 3, Lost: true, Done: true, Hook: func() {
			if err := u.Unit.(*drive.Drive).PowerCut(1); err != nil {
				t.Error(err)
			}
		}})
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	units := l.Units()
	if err := newHost(t, units[0]).move(slot1, drive0); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, units[1])
	h.must(0, 0, 0, 0, 0, 0) // takes the unit attentions
	for i := range 3 {
		_, err := h.do(scsi.Out, []byte("x"), 0x0a, 0, 0, 0, 1, 0)
		if _, lost := errors.AsType[*scsi.TransportError](err); lost != (i == 2) {
			t.Fatalf("write %d: %v", i, err)
		}
	}
	h.must(0x11, 3, 0, 0, 0, 0)
	p := make([]byte, 32)
	if _, err := h.do(scsi.In, p, 0x34, 6, 0, 0, 0, 0, 0, 0, 0, 0); err != nil || p[15] != 1 {
		t.Fatalf("after a power cut that left one block the end is at %d: %v", p[15], err)
	}
}

func TestUnitsAreUsedByManyAtATime(t *testing.T) {
	l := open(t, create(t, vtl.Default(8, 2, 4), "A00001L8", "A00002L8").Process())
	defer func() { _ = l.Close() }()
	c := newHost(t, l.Changer())
	for n := range 2 {
		if err := c.move(slot1+n, drive0+n); err != nil {
			t.Fatal(err)
		}
	}
	end := make(chan struct{})
	for n := range 2 {
		go func() {
			defer func() { end <- struct{}{} }()
			h := newHost(t, l.Drive(n))
			for range 200 {
				if _, err := h.do(scsi.Out, []byte("x"), 0x0a, 0, 0, 0, 1, 0); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	go func() {
		defer func() { end <- struct{}{} }()
		h := newHost(t, l.Changer())
		for range 200 {
			if _, err := h.do(scsi.In, make([]byte, 4096), 0xb8, 0x10, 0, 0, 0xff, 0xff, 1, 0, 0x10, 0, 0, 0); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 3 {
		<-end
	}
}

func TestAConfigurationThatCannotBeIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(c *vtl.Config){
		"no drives":         func(c *vtl.Config) { c.Drives = nil },
		"an old generation": func(c *vtl.Config) { c.Drives[0].Generation = 2 },
		"the same serial":   func(c *vtl.Config) { c.Drives[0].Serial = c.Changer.Serial },
		"no serial":         func(c *vtl.Config) { c.Changer.Serial = "" },
		"too many slots":    func(c *vtl.Config) { c.Changer.Slots = 70_000 },
	} {
		cfg := vtl.Default(8, 1, 2)
		spoil(&cfg)
		if err := vtl.CreateOn(simdisk.New(simdisk.Options{}).Process(), cfg); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	cfg := vtl.Default(8, 1, 2)
	cfg.Changer.Move, cfg.Drives[0].Times.Load = vtl.Duration(time.Minute), vtl.Duration(2*time.Second)
	cfg.Drives[0].Quirks.Padded = true
	l := open(t, create(t, cfg).Process())
	defer func() { _ = l.Close() }()
	if got := l.Config(); got.Changer != cfg.Changer || got.Drives[0] != cfg.Drives[0] {
		t.Errorf("the configuration came back as %+v", got)
	}
}
