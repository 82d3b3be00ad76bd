package cartridge_test

import (
	"bytes"
	"errors"
	"flag"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// Within 500 rounds every part of the order is needed at least once.
var (
	crashRounds = flag.Uint64("crash-rounds", 500, "random histories that end in crashes")
	crashSeed   = flag.Uint64("crash-seed", 0, "the first of their seeds")
)

// history is what a cartridge may hold after a crash: a prefix of now with at least
// sure objects, or, within a command that overwrites, one of before.
type history struct {
	before, now tape
	sure        int
	loads       uint64 // of the last memory that was saved, which may be one less
}

// work writes at random until the power goes.
func (h *history) work(c *cartridge.Cartridge, rng *rand.Rand) {
	for {
		at := len(h.now)
		if rng.IntN(8) == 0 {
			at = rng.IntN(len(h.now) + 1)
		}
		var err error
		switch rng.IntN(10) {
		case 0, 1:
			if err = c.Flush(); err == nil {
				h.sure = len(h.now)
			}
		case 2:
			c.Memory.Loads++
			h.loads = c.Memory.Loads
			err = c.SaveMemory()
		default:
			o := randomThing(rng)
			h.before, h.sure = h.now, min(h.sure, at)
			h.now = append(h.now[:at:at], o)
			err = put(c, at, o)
		}
		if err != nil {
			return
		}
		h.before = nil
	}
}

// allows looks for the cartridge in what is allowed.
func (h *history) allows(t *testing.T, c *cartridge.Cartridge) {
	t.Helper()
	n := int(c.Objects())
	if n < h.sure {
		t.Fatalf("%d objects are there, %d were flushed", n, h.sure)
	}
	if loads := c.Memory.Loads; loads != h.loads && loads+1 != h.loads {
		t.Fatalf("the memory is that of load %d, want %d or the one before", loads, h.loads)
	}
	want := h.now
	if n > len(want) || n > 0 && !holds(t, c, want[n-1], n-1) {
		want = h.before
	}
	if n > len(want) {
		t.Fatalf("%d objects are there, %d were written", n, len(want))
	}
	same(t, c, want[:n])
}

func holds(t *testing.T, c *cartridge.Cartridge, o thing, at int) bool {
	t.Helper()
	p := make([]byte, 4096)
	got, err := c.ReadBlock(uint64(at), p, keyOf(o.key))
	return err == nil && bytes.Equal(p[:got.Length], o.data)
}

func TestACrashLeavesAPrefixWithAllThatWasFlushed(t *testing.T) {
	for seed := *crashSeed; seed < *crashSeed+*crashRounds; seed++ {
		t.Log("seed", seed) // which is shown where it fails
		rng := rand.New(rand.NewPCG(seed, 2))
		d := newDisk(t)
		c := open(t, d)
		h := &history{}
		d.StopAfter(rng.IntN(200))
		h.work(c, rng)
		for range 8 {
			h.allows(t, open(t, d.Crash(rng)))
		}
		for range 2 { // a crash while what the first one left is put in order
			d = d.Crash(rng)
			h.allows(t, open(t, d))
		}
		// What is there can be written on.
		c = open(t, d)
		h = &history{now: h.now[:0:0], loads: c.Memory.Loads}
		if err := c.Truncate(0); err != nil {
			t.Fatal(err)
		}
		d.StopAfter(rng.IntN(60))
		h.work(c, rng)
		h.allows(t, open(t, d.Crash(rng)))
	}
}

func TestAFailedFlushIsNotForgotten(t *testing.T) {
	d := newDisk(t)
	c := open(t, d)
	if err := c.WriteMark(0); err != nil {
		t.Fatal(err)
	}
	d.StopAfter(0)
	if err := c.Flush(); !errors.Is(err, simdisk.ErrPowerCut) {
		t.Fatalf("a flush without power: %v", err)
	}
	d.StopAfter(-1)
	if err := c.WriteMark(1); !errors.Is(err, simdisk.ErrPowerCut) {
		t.Fatalf("a write after it: %v", err)
	}
	if err := c.Flush(); !errors.Is(err, simdisk.ErrPowerCut) {
		t.Fatalf("a flush after it: %v", err)
	}
	same(t, open(t, d), nil)
}

func TestDamageIsFoundAndOnlyThere(t *testing.T) {
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b = bytes.Clone(b); b[at] ^= 1; return b }
	}
	for _, tc := range []struct {
		name string
		file string
		at   int
	}{
		{"a byte of the data", "tape/data", 1500},
		{"a byte of an entry", "tape/index", 1*32 + 3},
		{"a sum of an entry", "tape/index", 1*32 + 30},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDisk(t)
			c := open(t, d)
			want := tape{}
			for i := range 20_000 { // more than recovery looks at
				o := thing{}
				if i < 3 {
					o.data = bytes.Repeat([]byte{byte(i + 1)}, 1000)
				}
				want = append(want, o)
				if err := put(c, i, o); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if err := d.Corrupt(tc.file, flip(tc.at)); err != nil {
				t.Fatal(err)
			}
			c = open(t, d)
			_, err := c.ReadBlock(1, make([]byte, 1000), nil)
			if bad, ok := errors.AsType[*cartridge.CorruptError](err); !ok || bad.Object != 1 {
				t.Fatalf("the damaged object: %v", err)
			}
			check(t, c, want, 0)
			check(t, c, want, 2)
			check(t, c, want, 19_999)
		})
	}
}

func TestAnEncryptedBlockNeedsItsKey(t *testing.T) {
	d := newDisk(t)
	c := open(t, d)
	secret := bytes.Repeat([]byte("secret"), 100)
	if err := c.WriteBlock(0, secret, keyOf(1)); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	if stored, err := d.Content("tape/data"); err != nil || len(stored) == 0 || bytes.Contains(stored, []byte("secret")) {
		t.Fatalf("the disk holds %d bytes, and the plain ones among them: %v", len(stored), err)
	}
	p := make([]byte, 1000)
	if _, err := c.ReadBlock(0, p, nil); !errors.Is(err, cartridge.ErrNoKey) {
		t.Fatalf("without a key: %v", err)
	}
	if _, err := c.ReadBlock(0, p, keyOf(2)); !errors.Is(err, cartridge.ErrKey) {
		t.Fatalf("with another key: %v", err)
	}
	if o, err := c.ReadBlock(0, p, keyOf(1)); err != nil || !bytes.Equal(p[:o.Length], secret) {
		t.Fatalf("with its key: %v", err)
	}
	if o, err := c.ReadBlock(0, p[:6], keyOf(1)); err != nil || o.Length != 600 || string(p[:6]) != "secret" {
		t.Fatalf("the start of it: %+v, %v", o, err)
	}
}

// FuzzIndex opens a cartridge with a foreign index: reading it ends, and each
// block has a length that there is room for.
func FuzzIndex(f *testing.F) {
	d := simdisk.New(simdisk.Options{})
	if err := cartridge.Create(d.Process(), "tape", memory()); err != nil {
		f.Fatal(err)
	}
	c, err := cartridge.Open(d.Process(), "tape")
	if err != nil {
		f.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 8 {
		if err := put(c, i, randomThing(rng)); err != nil {
			f.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		f.Fatal(err)
	}
	index, err := d.Content("tape/index")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(index)
	f.Add(index[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		d := d.Clone()
		if err := d.Corrupt("tape/index", func([]byte) []byte { return b }); err != nil {
			t.Fatal(err)
		}
		c, err := cartridge.Open(d.Process(), "tape")
		if err != nil {
			return
		}
		if c.Objects() > uint64(len(b)/32) {
			t.Fatalf("%d objects in an index of %d bytes", c.Objects(), len(b))
		}
		for i := range c.Objects() {
			o, err := c.ReadBlock(i, make([]byte, 100), keyOf(1))
			if err == nil && (o.Length > cartridge.MaxBlock || o.Mark && o.Length > 0) {
				t.Fatalf("object %d is %+v", i, o)
			}
		}
		if err := c.WriteMark(c.Objects()); err != nil {
			t.Fatal(err)
		}
	})
}
