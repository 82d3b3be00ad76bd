package changer_test

import (
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/changer"
)

// fakeDrive is a drive that holds a name.
type fakeDrive struct {
	serial              string
	name                string
	threaded, prevented bool
}

func (d *fakeDrive) Identity() (vendor, product, serial string) {
	return "IBM", "ULT3580-TD8", d.serial
}
func (d *fakeDrive) State() (threaded, prevented bool) { return d.threaded, d.prevented }

// vault keeps names in drives, and fails on purpose.
type vault struct {
	drives []*fakeDrive
	saved  []changer.Place
	fail   string // the call that fails
}

var errVault = errors.New("the vault fails")

func (v *vault) Insert(n int, name string) error {
	if v.fail == "insert" || v.fail == "insert once" {
		v.fail = strings.TrimSuffix(v.fail, "insert once")
		return errVault
	}
	v.drives[n].name, v.drives[n].threaded = name, true
	return nil
}

func (v *vault) Remove(n int) error {
	if v.fail == "remove" {
		return errVault
	}
	v.drives[n].name, v.drives[n].threaded = "", false
	return nil
}

func (v *vault) Save(places []changer.Place) error {
	if v.fail == "save" {
		return errVault
	}
	v.saved = slices.Clone(places)
	return nil
}

type fakeClock struct{ now time.Time }

func (c *fakeClock) Now() time.Time        { return c.now }
func (c *fakeClock) Sleep(d time.Duration) { c.now = c.now.Add(d) }

// bench is a changer of 8 slots, 2 stations and 2 drives: E01001L8 is in drive 0
// and comes from slot 1, E01002L8 is in slot 2, and slot 3 has one without a label.
type bench struct {
	t     *testing.T
	c     *changer.Changer
	v     *vault
	clock *fakeClock
}

const (
	transport = 0
	station   = 10
	drive0    = 500
	drive1    = 501
	slot1     = 1000
	slot2     = 1001
	slot3     = 1002
)

func newBench(t *testing.T, q changer.Quirks) *bench {
	t.Helper()
	b := &bench{t: t, clock: &fakeClock{}, v: &vault{drives: []*fakeDrive{
		{serial: "DRV1", name: "E01001L8", threaded: true}, {serial: "DRV2"},
	}}}
	media := map[string]changer.Medium{}
	for _, m := range []changer.Medium{{"E01001L8", "E01001L8", changer.Data}, {"E01002L8", "E01002L8", changer.WORM}, {"plain", "", changer.Data}} {
		media[m.Name] = m
	}
	var err error
	b.c, err = changer.New(changer.Config{
		Serial: "CHG1", Slots: 8, ImportExport: 2, Drives: []changer.Drive{b.v.drives[0], b.v.drives[1]},
		Quirks: q, Clock: b.clock, Times: changer.Times{Move: time.Minute, Inventory: time.Hour},
	}, b.v, []changer.Place{{drive0, "E01001L8", slot1}, {slot2, "E01002L8", 0}, {slot3, "plain", 0}}, media)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := scsi.AsSense(b.do(0, 0, 0, 0, 0, 0)); !ok || !s.Says(scsi.UnitAttention, 0x2900) {
		t.Fatalf("a changer that was switched on says %v", s)
	}
	return b
}

func (b *bench) do(cdb ...byte) error {
	_, err := b.c.Execute(cdb, nil, nil)
	return err
}

func (b *bench) ok(size int, cdb ...byte) []byte {
	b.t.Helper()
	in := make([]byte, size)
	n, err := b.c.Execute(cdb, nil, in)
	if err != nil {
		b.t.Fatalf("%x: %v", cdb, err)
	}
	return in[:n]
}

func (b *bench) move(from, to int) error {
	return b.do(0xa5, 0, 0, 0, byte(from>>8), byte(from), byte(to>>8), byte(to), 0, 0, 0, 0)
}

// says fails unless err is a sense with a key and a code.
func (b *bench) says(err error, k scsi.Key, code uint16) {
	b.t.Helper()
	if s, ok := scsi.AsSense(err); !ok || !s.Says(k, code) {
		b.t.Fatalf("it says %v, want %x/%04x", err, k, code)
	}
}

// where is what the vault was told last.
func (b *bench) where() map[uint16]string {
	all := map[uint16]string{}
	for _, p := range b.c.Places() {
		all[p.Address] = p.Name
	}
	return all
}

func TestAMoveIsCheckedAndRemembered(t *testing.T) {
	b := newBench(t, changer.Quirks{})
	b.says(b.move(slot1, drive1), scsi.IllegalRequest, 0x3b0e)
	b.says(b.move(slot2, drive0), scsi.IllegalRequest, 0x3b0d)
	b.says(b.move(slot2, 400), scsi.IllegalRequest, 0x2101)
	b.says(b.move(400, drive1), scsi.IllegalRequest, 0x2101)
	b.says(b.do(0xa5, 0, 0x03, 0xe8, 0x03, 0xe9, 0x01, 0xf5, 0, 0, 0, 0), scsi.IllegalRequest, 0x2101) // a slot is no transport
	before := b.clock.now
	if err := b.move(slot2, drive1); err != nil {
		t.Fatal(err)
	}
	if b.clock.now.Sub(before) != time.Minute || b.v.drives[1].name != "E01002L8" {
		t.Fatalf("it took %s, and drive 1 holds %q", b.clock.now.Sub(before), b.v.drives[1].name)
	}
	if !slices.Contains(b.v.saved, changer.Place{Address: drive1, Name: "E01002L8", From: slot2}) {
		t.Fatalf("the vault was told %v", b.v.saved)
	}
	if err := b.move(drive1, station); err != nil {
		t.Fatal(err)
	}
	if got, err := b.status(0x13, station, 1, 0, 0xffff); err != nil || parse(t, got, true)[station] != (element{flags: 0x39, tag: "E01002L8", from: slot2}) {
		t.Fatalf("the station holds %x: %v", got, err)
	}
}

func TestAMoveThatFailsLeavesAllAsItWas(t *testing.T) {
	for _, fail := range []string{"insert", "save", "remove", "insert once"} {
		b := newBench(t, changer.Quirks{})
		before := b.where()
		b.v.fail = fail
		from, to := slot2, drive1
		switch fail {
		case "remove":
			from, to = drive0, slot1
		case "insert once": // into the other drive
			from = drive0
		}
		b.says(b.move(from, to), scsi.HardwareError, 0x1501)
		if after := b.where(); !maps.Equal(before, after) || b.v.drives[0].name != "E01001L8" || b.v.drives[1].name != "" {
			t.Errorf("%s fails: %v, and the drives hold %q and %q", fail, after, b.v.drives[0].name, b.v.drives[1].name)
		}
		b.v.fail = ""
		if err := b.move(from, to); err != nil {
			t.Errorf("%s: afterwards: %v", fail, err)
		}
	}
}

func TestAMediumThatIsHeldStays(t *testing.T) {
	b := newBench(t, changer.Quirks{})
	b.v.drives[0].prevented = true
	b.says(b.move(drive0, slot1), scsi.IllegalRequest, 0x5302)
	b.v.drives[0].prevented = false
	if err := b.move(drive0, slot1); err != nil {
		t.Fatal(err)
	}
	b = newBench(t, changer.Quirks{EjectFirst: true})
	b.says(b.move(drive0, slot1), scsi.IllegalRequest, 0x5302)
	b.v.drives[0].threaded = false
	if err := b.move(drive0, slot1); err != nil {
		t.Fatal(err)
	}
}

func TestPeopleUseTheStation(t *testing.T) {
	b := newBench(t, changer.Quirks{})
	address, err := b.c.FreeSlot(true)
	if err != nil || address != station {
		t.Fatalf("the free station is %d: %v", address, err)
	}
	m := changer.Medium{Name: "NEW001L8", Barcode: "NEW001L8", Kind: changer.Data}
	if err := b.do(0x1e, 0, 0, 0, 1, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.c.Put(address, m); !errors.Is(err, changer.ErrLocked) {
		t.Fatalf("a locked station took it: %v", err)
	}
	if err := b.do(0x1e, 0, 0, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.c.Put(address, m); err != nil {
		t.Fatal(err)
	}
	b.says(b.do(0, 0, 0, 0, 0, 0), scsi.UnitAttention, 0x2801)
	if got, err := b.status(0x13, station, 1, 0, 0xffff); err != nil || parse(t, got, true)[station].flags != 0x3b {
		t.Fatalf("the station holds %x: %v", got, err)
	}
	if err := b.c.Put(address, m); err == nil {
		t.Fatal("a full station took it")
	}
	b.v.fail = "save"
	if err := b.c.Take("NEW001L8"); !errors.Is(err, errVault) || b.where()[station] != "NEW001L8" {
		t.Fatalf("a move that was not noted: %v", err)
	}
	b.v.fail = ""
	if err := b.c.Take("NEW001L8"); err != nil {
		t.Fatal(err)
	}
	if err := b.c.Take("E01001L8"); err == nil {
		t.Fatal("a medium was taken out of a drive")
	}
	if _, there := b.where()[station]; there {
		t.Fatal("it is still there")
	}
}

func TestModePagesTellTheElements(t *testing.T) {
	b := newBench(t, changer.Quirks{})
	want := "17000000" + "1d12" + "00000001" + "03e80008" + "000a0002" + "01f40002" + "0000"
	if got := hex.EncodeToString(b.ok(255, 0x1a, 8, 0x1d, 0, 255, 0)); got != want {
		t.Errorf("page 1d is %s, want %s", got, want)
	}
	if got := b.ok(255, 0x1a, 8, 0x1f, 0, 255, 0); got[4] != 0x1f || got[6] != 0x0e {
		t.Errorf("page 1f is %x", got)
	}
	before := b.clock.now
	if err := b.do(0x07, 0, 0, 0, 0, 0); err != nil || b.clock.now.Sub(before) != time.Hour {
		t.Errorf("an inventory took %s: %v", b.clock.now.Sub(before), err)
	}
	if err := b.do(0x2b, 0, 0, 0, 0x03, 0xe8, 0, 0, 0, 0); err != nil {
		t.Errorf("POSITION TO ELEMENT: %v", err)
	}
}

func TestQuirksAreWhatTheySay(t *testing.T) {
	all := func(q changer.Quirks, kind, ids byte) ([]byte, error) {
		return newBench(t, q).status(kind, 0, 100, ids, 0x1ffff)
	}
	_, err := all(changer.Quirks{NoTagWithID: true}, 0x14, 1)
	newBench(t, changer.Quirks{}).says(err, scsi.IllegalRequest, 0x2400)
	_, err = all(changer.Quirks{NoID: true}, 0x04, 1)
	newBench(t, changer.Quirks{}).says(err, scsi.IllegalRequest, 0x2400)
	if got, err := all(changer.Quirks{SerialOnly: true}, 0x04, 1); err != nil || parse(t, got, false)[drive0].id != "DRV1      " {
		t.Errorf("serial only: %x, %v", got, err)
	}
	if got, err := all(changer.Quirks{NoTransportTag: true}, 0x11, 0); err != nil || got[9] != 0x80 || got[11] != 16 {
		t.Errorf("a transport's tag: %x, %v", got, err)
	}
	if got, err := all(changer.Quirks{NoTransport: true}, 0x11, 0); err != nil || len(got) != 8 {
		t.Errorf("no transport: %x, %v", got, err)
	}
	if got, err := all(changer.Quirks{NoSource: true}, 0x14, 0); err != nil || parse(t, got, true)[drive0].from != 0 {
		t.Errorf("no source: %x, %v", got, err)
	}
	if got, err := all(changer.Quirks{MissingElements: true}, 0x14, 0); err != nil || got[3] != 3 {
		t.Errorf("one missing: %x, %v", got, err)
	}
	b := newBench(t, changer.Quirks{ShortAllocation: true})
	if got, err := b.status(0, 0, 100, 0, 0x10010); err != nil || len(got) != 16 {
		t.Errorf("16 bits of the length: %d bytes, %v", len(got), err)
	}
	b = newBench(t, changer.Quirks{NoPosition: true})
	b.says(b.do(0x2b, 0, 0, 0, 0x03, 0xe8, 0, 0, 0, 0), scsi.IllegalRequest, 0x2000)
}

// FuzzCommands sends commands to a changer: none makes it panic, and afterwards
// every medium is in one place.
func FuzzCommands(f *testing.F) {
	for op := range 256 {
		f.Add([]byte{byte(op), 0x10, 0, 0, 3, 0xe9, 1, 0xf5, 8, 0, 0, 0}, []byte{})
	}
	f.Add([]byte{0xa5, 0, 0, 0, 3, 0xe9, 1, 0xf5, 0, 0, 0, 0}, []byte{0xa5, 0, 0, 0, 1, 0xf5, 0, 10, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		b := newBench(t, changer.Quirks{})
		for _, cdb := range [][]byte{first, second} {
			in := make([]byte, 1024)
			n, err := b.c.Execute(cdb, nil, in)
			if _, ok := scsi.AsSense(err); n > len(in) || err != nil && !ok {
				t.Fatalf("%x: %d bytes, %v", cdb, n, err)
			}
		}
		names := slices.Sorted(maps.Values(b.where()))
		if !slices.Equal(names, []string{"E01001L8", "E01002L8", "plain"}) {
			t.Fatalf("the media are %v", names)
		}
	})
}
