package overlay_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image/overlay"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

const simSize = 2*pageSpan + 12*block + 700 // three map pages, the last block is short

// start is a disk with a new, empty overlay.
func start(t *testing.T) *simdisk.Disk {
	t.Helper()
	d := simdisk.New(simdisk.Options{})
	ov, err := overlay.CreateOn(&simulated{p: d.Process()}, "ov", &made{size: simSize}, meta(simSize), overlay.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ov.Close(); err != nil {
		t.Fatal(err)
	}
	return d
}

// few pages, so that changes are flushed for lack of room too.
var few = overlay.Options{MapPages: 4}

func reopen(t *testing.T, d *simulated) *overlay.Overlay {
	t.Helper()
	ov, err := overlay.OpenOn(d, "ov", &made{size: simSize}, meta(simSize), few)
	if err != nil {
		t.Fatal(err)
	}
	return ov
}

func TestPowerCutAtAnyStepKeepsWhatWasFlushed(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("history ", seed), func(t *testing.T) {
			begin := start(t)
			for step := 0; ; step++ {
				d := begin.Clone()
				m, r := newModel(simSize), rng(seed)
				ov := reopen(t, &simulated{p: d.Process(), noHole: seed%3 == 0})
				d.StopAfter(step)
				var err error
				for i := 0; i < 25 && err == nil; i++ {
					_, err = m.step(r, ov)
				}
				if err != nil && !errors.Is(err, simdisk.ErrPowerCut) {
					t.Fatal(err)
				}
				modes := simdisk.Modes()
				for i, mode := range []simdisk.Mode{modes[step%len(modes)], simdisk.Uniform} {
					after := d.CrashAs(mode, rng(uint64(step*2+i)))
					now := m.clone()
					again := reopen(t, &simulated{p: after.Process()})
					now.check(t, again, powerCut)
					carryOn(t, now, again, after, uint64(step))
				}
				if err == nil {
					if step < 20 {
						t.Fatalf("only %d steps", step)
					}
					return
				}
			}
		})
	}
}

// carryOn works on after a crash, and crashes again.
func carryOn(t *testing.T, m *model, ov *overlay.Overlay, d *simdisk.Disk, seed uint64) {
	t.Helper()
	r := rng(seed)
	for range 5 {
		if what, err := m.step(r, ov); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	m.check(t, ov, running)
	again := d.Crash(r)
	ov = reopen(t, &simulated{p: again.Process()})
	m.check(t, ov, powerCut)
}

func (m *model) clone() *model {
	c := newModel(m.size)
	c.next = m.next
	for s, v := range m.now {
		c.now[s] = v
	}
	for s, v := range m.crash {
		c.crash[s] = v
	}
	for s, b := range m.odd {
		c.odd[s] = b
	}
	return c
}

func TestLongHistoriesWithCrashesAndReopeningsFollowTheModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("history ", seed), func(t *testing.T) {
			r := rng(1000 + seed)
			d, m := start(t), newModel(simSize)
			sim := &simulated{p: d.Process(), noHole: seed%2 == 0}
			ov := reopen(t, sim)
			for range 250 {
				switch r.IntN(25) {
				case 0: // the power goes
					d = d.Crash(r)
					sim = &simulated{p: d.Process(), noHole: seed%2 == 0}
					ov = reopen(t, sim)
					m.check(t, ov, powerCut)
				case 1: // the process dies: the page cache stays
					sim.p.Kill()
					sim = &simulated{p: d.Process(), noHole: seed%2 == 0}
					ov = reopen(t, sim)
					m.check(t, ov, killed)
				case 2:
					if err := ov.Close(); err != nil {
						t.Fatal(err)
					}
					m.flushed()
					ov = reopen(t, sim)
				case 3:
					m.check(t, ov, running)
				default:
					if what, err := m.step(r, ov); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
				}
			}
			m.check(t, ov, running)
		})
	}
}

func TestPowerCutWhileCreatingLeavesAnOverlayOrNone(t *testing.T) {
	base := &made{size: simSize}
	for step := 0; ; step++ {
		d := simdisk.New(simdisk.Options{})
		d.StopAfter(step)
		_, err := overlay.CreateOn(&simulated{p: d.Process()}, "ov", base, meta(simSize), few)
		for seed := range uint64(20) {
			after := d.Crash(rng(seed))
			sim := &simulated{p: after.Process()}
			ov, oerr := overlay.OpenOn(sim, "ov", base, meta(simSize), few)
			switch {
			case oerr == nil:
				newModel(simSize).check(t, ov, powerCut)
				continue
			case err == nil || !errors.Is(oerr, fs.ErrNotExist):
				t.Fatalf("step %d: created: %v, opened: %v", step, err, oerr)
			}
			if _, err := overlay.CreateOn(sim, "ov", base, meta(simSize), few); err != nil {
				t.Fatalf("step %d: again: %v", step, err)
			}
		}
		if err == nil {
			return
		}
	}
}

// faulty fails the n-th change of a file and those after it, times of them.
func faulty(op string, n, times int, err error) func(string) error {
	return func(o string) error {
		if o != op {
			return nil
		}
		if n--; n < 0 && n >= -times {
			return err
		}
		return nil
	}
}

func TestAFailedWriteLeavesOldOrNewAndLaterOnesWork(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("history ", seed), func(t *testing.T) {
			r := rng(seed)
			d, m := start(t), newModel(simSize)
			sim := &simulated{p: d.Process(), noHole: seed%2 == 0}
			ov := reopen(t, sim)
			sim.fail = faulty("write", 3+r.IntN(30), 1+r.IntN(6), syscall.ENOSPC)
			failed := 0
			for range 60 {
				what, err := m.step(r, ov)
				if err != nil && !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("%s: %v", what, err)
				}
				if err != nil {
					failed++
				}
			}
			if failed == 0 {
				t.Fatal("nothing failed")
			}
			m.check(t, ov, running)
			if seed%2 == 0 {
				d = d.Crash(r)
				m.check(t, reopen(t, &simulated{p: d.Process()}), powerCut)
			}
		})
	}
}

func TestAfterAFailedSyncNothingIsPromisedUntilItIsOpenedAgain(t *testing.T) {
	for n := range 12 {
		t.Run(fmt.Sprint("sync ", n), func(t *testing.T) {
			r := rng(uint64(n))
			d, m := start(t), newModel(simSize)
			sim := &simulated{p: d.Process()}
			ov := reopen(t, sim)
			sim.fail = faulty("sync", n, 1, syscall.EIO)
			var err error
			for i := 0; i < 400 && err == nil; i++ {
				_, err = m.step(r, ov)
			}
			if !errors.Is(err, overlay.ErrBroken) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("err = %v, want ErrBroken and EIO", err)
			}
			for what, call := range map[string]func() error{
				"flush":   ov.Flush,
				"write":   func() error { _, err := ov.WriteAt(make([]byte, block), 0); return err },
				"zero":    func() error { return ov.Zero(0, block) },
				"discard": func() error { return ov.Discard(0, block) },
			} {
				if err := call(); !errors.Is(err, overlay.ErrBroken) {
					t.Errorf("%s after the failure: %v", what, err)
				}
			}
			m.check(t, ov, running)
			crashed := d.Crash(rand.New(rand.NewPCG(9, uint64(n))))
			now := m.clone()
			now.check(t, reopen(t, &simulated{p: crashed.Process()}), powerCut)
			if err := ov.Close(); !errors.Is(err, overlay.ErrBroken) {
				t.Errorf("close: %v", err)
			}
			again := reopen(t, sim)
			m.check(t, again, killed)
			if err := again.Flush(); err != nil {
				t.Error(err)
			}
		})
	}
}
