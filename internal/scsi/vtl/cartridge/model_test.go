package cartridge_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// thing is an object in the model: a filemark where data is nil.
type thing struct {
	data []byte
	key  int // 0: none
}

// tape is the model: what a cartridge should hold.
type tape []thing

func (t tape) marks(before int) (n uint64) {
	for _, o := range t[:before] {
		if o.data == nil {
			n++
		}
	}
	return n
}

// mark is where the n-th filemark is.
func (t tape) mark(n uint64) (int, bool) {
	for i, o := range t {
		if o.data == nil {
			if n == 0 {
				return i, true
			}
			n--
		}
	}
	return 0, false
}

func keyOf(n int) *cartridge.Key {
	if n == 0 {
		return nil
	}
	return cartridge.NewKey([32]byte{byte(n)})
}

func memory() cartridge.Memory {
	return cartridge.Memory{Barcode: "A00001L8", Serial: "1", Density: cartridge.LTO8, Capacity: 1 << 40, EarlyWarning: 1 << 20}
}

// newDisk makes a cartridge on a new disk whose names are all durable.
func newDisk(t *testing.T) *simdisk.Disk {
	t.Helper()
	d := simdisk.New(simdisk.Options{})
	if err := cartridge.Create(d.Process(), "tape", memory()); err != nil {
		t.Fatal(err)
	}
	return d
}

func open(t *testing.T, d *simdisk.Disk) *cartridge.Cartridge {
	t.Helper()
	c, err := cartridge.Open(d.Process(), "tape")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func randomThing(rng *rand.Rand) thing {
	if rng.IntN(4) == 0 {
		return thing{}
	}
	b := make([]byte, 1+rng.IntN(3000))
	if rng.IntN(4) > 0 { // otherwise zeros, which leave holes
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
	}
	return thing{b, rng.IntN(3)}
}

func put(c *cartridge.Cartridge, at int, o thing) error {
	if o.data == nil {
		return c.WriteMark(uint64(at))
	}
	return c.WriteBlock(uint64(at), o.data, keyOf(o.key))
}

// same compares the whole cartridge with a model.
func same(t *testing.T, c *cartridge.Cartridge, want tape) {
	t.Helper()
	if c.Objects() != uint64(len(want)) || c.Marks() != want.marks(len(want)) {
		t.Fatalf("%d objects with %d filemarks, want %d with %d", c.Objects(), c.Marks(), len(want), want.marks(len(want)))
	}
	for i := range want {
		check(t, c, want, i)
	}
	for n := range c.Marks() + 1 {
		at, err := c.FindMark(n)
		want, there := want.mark(n)
		if there != (err == nil) || there && at != uint64(want) {
			t.Fatalf("filemark %d is at %d, want %d: %v", n, at, want, err)
		}
	}
}

func check(t *testing.T, c *cartridge.Cartridge, want tape, i int) {
	t.Helper()
	p := make([]byte, 4096)
	o, err := c.ReadBlock(uint64(i), p, keyOf(want[i].key))
	if err != nil {
		t.Fatalf("object %d: %v", i, err)
	}
	w := want[i]
	if o.Mark != (w.data == nil) || o.Length != len(w.data) || o.Files != want.marks(i) || o.Encrypted != (w.key != 0) {
		t.Fatalf("object %d is %+v, want %d bytes behind %d filemarks", i, o, len(w.data), want.marks(i))
	}
	if !bytes.Equal(p[:o.Length], w.data) {
		t.Fatalf("object %d holds other bytes", i)
	}
}

func TestACartridgeIsARowOfObjects(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		d := newDisk(t)
		c, model := open(t, d), tape{}
		for range 120 {
			switch at := rng.IntN(len(model) + 1); rng.IntN(20) {
			case 0:
				if err := c.Truncate(uint64(at)); err != nil {
					t.Fatal(err)
				}
				model = model[:at]
			case 1:
				if err := c.Flush(); err != nil || c.Pending() != 0 {
					t.Fatal(err)
				}
			case 2:
				keep := rng.IntN(c.Pending() + 1)
				model = model[:len(model)-c.Pending()+keep]
				if err := c.Lose(keep); err != nil {
					t.Fatal(err)
				}
			case 3:
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
				c = open(t, d)
			case 4:
				o := randomThing(rng)
				if err := put(c, at, o); err != nil {
					t.Fatal(err)
				}
				model = append(model[:at:at], o)
			case 5:
				same(t, c, model)
			default:
				o := randomThing(rng)
				if err := put(c, len(model), o); err != nil {
					t.Fatal(err)
				}
				model = append(model, o)
			}
		}
		same(t, c, model)
		if _, err := c.At(uint64(len(model))); !errors.Is(err, cartridge.ErrEndOfData) {
			t.Fatalf("behind the end: %v", err)
		}
	}
}

func TestMuchThatWaitsIsFlushedWithoutBeingAsked(t *testing.T) {
	c := open(t, newDisk(t))
	for n := range uint64(20_000) {
		if err := c.WriteMark(n); err != nil {
			t.Fatal(err)
		}
	}
	if c.Pending() >= 1<<14 {
		t.Fatalf("%d objects wait in memory", c.Pending())
	}
	if at, err := c.FindMark(19_999); err != nil || at != 19_999 {
		t.Fatalf("the last filemark is at %d: %v", at, err)
	}
}
