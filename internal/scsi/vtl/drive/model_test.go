package drive_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
)

// model is a tape and a position on it; nil is a filemark. It goes one object at a
// time.
type model struct {
	objects [][]byte
	pos     int
}

func (m *model) write(b []byte) {
	m.objects = append(m.objects[:m.pos:m.pos], b)
	m.pos++
}

func (m *model) files() (n int) {
	for _, o := range m.objects[:m.pos] {
		if o == nil {
			n++
		}
	}
	return n
}

// blocks spaces over n blocks and returns what is said, and how many are left.
func (m *model) blocks(n int) (says string, left int) {
	for ; n > 0; n-- {
		if m.pos == len(m.objects) {
			return "end of data", n
		}
		m.pos++
		if m.objects[m.pos-1] == nil {
			return "filemark", n
		}
	}
	for ; n < 0; n++ {
		if m.pos == 0 {
			return "beginning", -n
		}
		m.pos--
		if m.objects[m.pos] == nil {
			return "filemark", -n
		}
	}
	return "", 0
}

func (m *model) marks(n int) (says string, left int) {
	for ; n > 0; n-- {
		for says == "" {
			if says, _ = m.blocks(1); says == "end of data" {
				return says, n
			}
		}
		says = ""
	}
	for ; n < 0; n++ {
		for says == "" {
			if says, _ = m.blocks(-1); says == "beginning" {
				return says, -n
			}
		}
		says = ""
	}
	return "", 0
}

// said turns an error into the model's words.
func said(err error) (string, int) {
	s, ok := scsi.AsSense(err)
	switch {
	case err == nil:
		return "", 0
	case !ok || !s.Valid:
		return err.Error(), 0
	case s.Says(scsi.NoSense, 0x0001) && s.Filemark:
		return "filemark", int(s.Info)
	case s.Says(scsi.NoSense, 0x0004) && s.EOM:
		return "beginning", int(s.Info)
	case s.Says(scsi.BlankCheck, 0x0005):
		return "end of data", int(s.Info)
	}
	return err.Error(), 0
}

func TestATapeIsLikeTheModel(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 3))
		b := newBench(t, func(c *drive.Config, _ *cartridge.Memory) { c.HP = seed%2 == 0 })
		m := &model{}
		for step := range 200 {
			what, got, want := m.step(b, rng)
			object, file := b.position()
			if got != want || object != uint64(m.pos) || file != uint64(m.files()) {
				t.Fatalf("seed %d, step %d, %s: %q, want %q; at object %d of file %d, want %d of %d",
					seed, step, what, got, want, object, file, m.pos, m.files())
			}
		}
	}
}

// step does one thing to both.
func (m *model) step(b *bench, rng *rand.Rand) (what, got, want string) {
	words := func(says string, left int) string { return fmt.Sprint(says, " ", left) }
	n := rng.IntN(13) - 6
	n24 := length(n & 0xffffff)
	switch rng.IntN(12) {
	case 0:
		m.pos = 0
		return "rewind", words(said(b.do(0x01, 0, 0, 0, 0, 0))), words("", 0)
	case 1:
		got, want = words(said(b.do(0x11, 0, n24[0], n24[1], n24[2], 0))), words(m.blocks(n))
		return fmt.Sprint("space blocks ", n), got, want
	case 2:
		got, want = words(said(b.do(0x11, 1, n24[0], n24[1], n24[2], 0))), words(m.marks(n))
		return fmt.Sprint("space filemarks ", n), got, want
	case 3:
		s := byte(0)
		if n < 0 {
			s = 0xff
		}
		cdb := []byte{0x91, 1, 0, 0, s, s, s, s, s, n24[0], n24[1], n24[2], 0, 0, 0, 0}
		got, want = words(said(b.do(cdb...))), words(m.marks(n))
		return fmt.Sprint("space(16) filemarks ", n), got, want
	case 4:
		m.pos = len(m.objects)
		return "end of data", words(said(b.do(0x11, 3, 0, 0, 0, 0))), words("", 0)
	case 5:
		m.pos = rng.IntN(len(m.objects) + 1)
		return "locate", words(said(b.do(0x92, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(m.pos>>8), byte(m.pos), 0, 0, 0, 0))), words("", 0)
	case 6, 7:
		return m.readStep(b)
	case 8:
		m.write(nil)
		return "filemark", words(said(b.do(0x10, byte(rng.IntN(2)), 0, 0, 1, 0))), words("", 0)
	}
	if rng.IntN(4) > 0 {
		m.pos = len(m.objects)
		b.must(0x11, 3, 0, 0, 0, 0)
	}
	data := bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(500))
	m.write(data)
	return "write", words(said(b.write(data))), words("", 0)
}

func (m *model) readStep(b *bench) (what, got, want string) {
	data, err := b.read(500)
	says, _ := said(err)
	got = fmt.Sprintf("%s %x", says, data)
	switch {
	case m.pos == len(m.objects):
		return "read", got, "end of data "
	case m.objects[m.pos] == nil:
		m.pos++
		return "read", got, "filemark "
	}
	m.pos++
	return "read", got, fmt.Sprintf(" %x", m.objects[m.pos-1])
}

func TestLocateByFileCountsAsTheMakerDoes(t *testing.T) {
	for _, hp := range []bool{false, true} {
		b := newBench(t, func(c *drive.Config, _ *cartridge.Memory) { c.HP = hp })
		for range 4 {
			if err := b.write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			b.must(0x10, 1, 0, 0, 1, 0)
		}
		b.must(0x92, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0)
		want := uint64(2)
		if hp {
			want = 1
		}
		if object, file := b.position(); file != want || object != 2*want {
			t.Errorf("HP %v: LOCATE of file 1 stops at object %d of file %d, want file %d", hp, object, file, want)
		}
		b.says(b.do(0x92, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0), scsi.BlankCheck, 0x0005)
		if _, file := b.position(); file != 4 {
			t.Errorf("HP %v: a file that is not there leads to file %d, want the end", hp, file)
		}
		b.must(0x92, 0x18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	}
}
