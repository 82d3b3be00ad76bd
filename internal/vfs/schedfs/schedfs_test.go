package schedfs_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/schedfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
	"github.com/holdfast-backup/holdfast/internal/vfs/vfstest"
)

func TestOneProcessSeesTheFileSystem(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		handed, end, over := make(chan vfs.FS), make(chan struct{}), make(chan schedfs.Result)
		go func() {
			over <- schedfs.Run(schedfs.Config{Patience: time.Minute}, simdisk.New(simdisk.Options{}), func(v vfs.FS) error {
				handed <- v
				<-end
				return nil
			})
		}()
		t.Cleanup(func() {
			close(end)
			if r := <-over; r.Err != nil {
				t.Error(r)
			}
		})
		return <-handed
	})
}

// counter makes a disk with a number in a file, and a process that adds one.
func counter(t *testing.T, lock bool) (*simdisk.Disk, func(v vfs.FS) error) {
	t.Helper()
	d := simdisk.New(simdisk.Options{})
	if err := errors.Join(add(d, 0), touch(d, "n.lock")); err != nil {
		t.Fatal(err)
	}
	return d, func(v vfs.FS) error {
		if lock {
			u, err := poll(v, "n.lock", forever)
			if err != nil {
				return err
			}
			defer func() { _ = u.Unlock() }()
		}
		f, err := v.Open("n")
		if err != nil {
			return err
		}
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, 0); err != nil {
			return err
		}
		return add(v, b[0]+1)
	}
}

func add(v vfs.FS, n byte) error {
	for i := 0; ; i++ {
		tmp := fmt.Sprintf("tmp%d", i)
		f, err := v.Create(tmp, 0o600)
		if errors.Is(err, syscall.EEXIST) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err = f.Write([]byte{n}); err != nil {
			return err
		}
		return v.Rename(tmp, "n")
	}
}

func value(t *testing.T, d *simdisk.Disk) int {
	t.Helper()
	b, err := d.Content("n")
	if err != nil || len(b) != 1 {
		t.Fatal(b, err)
	}
	return int(b[0])
}

func TestEveryStrategyFindsALostUpdate(t *testing.T) {
	for name, s := range map[string]schedfs.Strategy{"random": schedfs.Random(), "PCT": schedfs.PCT(3, 20)} {
		lost := 0
		for seed := range uint64(100) {
			d, inc := counter(t, false)
			r := schedfs.Run(schedfs.Config{Seed: seed, Strategy: s}, d, inc, inc)
			if err := errors.Join(r.Errors...); err != nil || r.Err != nil {
				t.Fatal(err, r)
			}
			if value(t, d) != 2 {
				lost++
			}
		}
		if lost == 0 || lost == 100 {
			t.Errorf("%s: %d of 100 runs lost an update", name, lost)
		}
	}
}

func TestLockPreventsALostUpdateInEverySchedule(t *testing.T) {
	runs := 0
	for s := schedfs.NewSearch(2); s.More(); runs++ {
		d, inc := counter(t, true)
		r := schedfs.Run(schedfs.Config{Strategy: s.Strategy()}, d, inc, inc, inc)
		if err := errors.Join(r.Errors...); err != nil || r.Err != nil || value(t, d) != 3 {
			t.Fatalf("value %d, %v\n%s", value(t, d), err, r)
		}
	}
	if runs < 100 {
		t.Errorf("only %d schedules", runs)
	}
}

func TestSearchTriesEachScheduleOnce(t *testing.T) {
	two := func(name string) func(vfs.FS) error {
		return func(v vfs.FS) error {
			return errors.Join(v.Mkdir(name+"1", 0o755), v.Mkdir(name+"2", 0o755))
		}
	}
	for interruptions, want := range []int{2, 4, 6, 6} {
		seen := map[string]bool{}
		runs := 0
		for s := schedfs.NewSearch(interruptions); s.More(); runs++ {
			r := schedfs.Run(schedfs.Config{Strategy: s.Strategy()}, simdisk.New(simdisk.Options{}), two("a"), two("b"))
			seen[r.String()] = true
		}
		if len(seen) != want || runs != want {
			t.Errorf("%d interruptions: %d schedules in %d runs, want %d", interruptions, len(seen), runs, want)
		}
	}
}

func TestSameSeedSameSchedule(t *testing.T) {
	traces := map[string]int{}
	for seed := range uint64(20) {
		var first string
		for range 2 {
			d, inc := counter(t, true)
			r := schedfs.Run(schedfs.Config{Seed: seed}, d, inc, inc, inc)
			if first == "" {
				first = r.String()
			} else if r.String() != first {
				t.Fatalf("seed %d:\n%s\nand\n%s", seed, first, r)
			}
		}
		traces[first]++
	}
	if len(traces) < 10 {
		t.Errorf("20 seeds gave %d schedules", len(traces))
	}
}

const forever = 1 << 62

// poll asks for a lock, at most so many times.
func poll(v vfs.FS, name string, attempts int) (u vfs.Unlocker, err error) {
	for range attempts {
		if u, err = v.LockRange(name, 0, 0, vfs.Exclusive); !errors.Is(err, vfs.ErrLocked) {
			break
		}
	}
	return u, err
}

func touch(v vfs.FS, name string) error {
	f, err := v.Create(name, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// inOrder takes locks one after the other and holds them to the end.
func inOrder(names ...string) func(vfs.FS) error {
	return func(v vfs.FS) error {
		for _, n := range names {
			u, err := poll(v, n, forever)
			if err != nil {
				return err
			}
			defer func() { _ = u.Unlock() }()
		}
		return nil
	}
}

func twoFiles(t *testing.T) *simdisk.Disk {
	t.Helper()
	d := simdisk.New(simdisk.Options{})
	if err := errors.Join(touch(d, "a"), touch(d, "b")); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDeadlockIsFoundAndReported(t *testing.T) {
	for s := schedfs.NewSearch(1); s.More(); {
		r := schedfs.Run(schedfs.Config{Strategy: s.Strategy()}, twoFiles(t), inOrder("a", "b"), inOrder("b", "a"))
		if r.Err == nil {
			continue
		}
		if !errors.Is(r.Err, schedfs.ErrDeadlock) || !strings.Contains(r.Err.Error(), "lockrange a 0+0 exclusive") {
			t.Errorf("err = %v", r.Err)
		}
		for i, err := range r.Errors {
			if !errors.Is(err, schedfs.ErrDeadlock) {
				t.Errorf("process %d: %v", i, err)
			}
		}
		return
	}
	t.Error("one interruption suffices for a deadlock, but none was found")
}

func TestWhoGivesUpIsNoDeadlock(t *testing.T) {
	gaveUp := 0
	for s := schedfs.NewSearch(1); s.More(); {
		both := func(first, second string) func(vfs.FS) error {
			return func(v vfs.FS) error {
				a, err := poll(v, first, 1)
				if err != nil {
					return err
				}
				b, err := poll(v, second, 1000)
				if err == nil {
					err = b.Unlock()
				}
				return errors.Join(err, a.Unlock())
			}
		}
		r := schedfs.Run(schedfs.Config{Strategy: s.Strategy()}, twoFiles(t), both("a", "b"), both("b", "a"))
		if r.Err != nil {
			t.Fatal(r)
		}
		if slices.ContainsFunc(r.Errors, func(err error) bool { return errors.Is(err, vfs.ErrLocked) }) {
			gaveUp++
		}
	}
	if gaveUp == 0 {
		t.Error("no schedule in which somebody gives up")
	}
}

func TestRefusedRequestIsHeldBackUntilItMayBeGranted(t *testing.T) {
	for what, free := range map[string]func(v vfs.FS, u vfs.Unlocker) error{
		"unlock": func(_ vfs.FS, u vfs.Unlocker) error { return u.Unlock() },
		"end":    func(vfs.FS, vfs.Unlocker) error { return nil },
		"rename": func(v vfs.FS, _ vfs.Unlocker) error { return errors.Join(v.Rename("b", "a"), v.SyncFS()) },
	} {
		held := false
		holder := func(v vfs.FS) error {
			u, err := v.LockRange("a", 0, 0, vfs.Exclusive)
			if err != nil {
				return err
			}
			held = true
			for range 20 {
				if err := v.SyncFS(); err != nil {
					return err
				}
			}
			return free(v, u)
		}
		asks := 0
		asker := func(v vfs.FS) error {
			for {
				u, err := v.LockRange("a", 0, 0, vfs.Exclusive)
				if err == nil && held {
					return u.Unlock()
				}
				if err == nil {
					err = u.Unlock()
				} else if asks++; errors.Is(err, vfs.ErrLocked) {
					err = nil
				}
				if err != nil {
					return err
				}
			}
		}
		// The asker is always preferred, but for the moment when the holder begins.
		begin := func(*rand.Rand, int) schedfs.Picker {
			return func(step int, ready []int) int {
				if step == 0 {
					return 0
				}
				return ready[len(ready)-1]
			}
		}
		r := schedfs.Run(schedfs.Config{Strategy: begin}, twoFiles(t), holder, asker)
		if err := errors.Join(r.Errors...); err != nil || r.Err != nil || asks != 1 {
			t.Errorf("%s: refused %d times, %v\n%s", what, asks, err, r)
		}
	}
}

func TestSleepingHolderIsNoDeadlockInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		holder := func(v vfs.FS) error {
			u, err := poll(v, "a", 1)
			if err != nil {
				return err
			}
			time.Sleep(time.Minute)
			return u.Unlock()
		}
		asker := func(v vfs.FS) error {
			time.Sleep(time.Second)
			u, err := poll(v, "a", forever)
			if err != nil {
				return err
			}
			return u.Unlock()
		}
		r := schedfs.Run(schedfs.Config{Quiet: synctest.Wait}, twoFiles(t), holder, asker)
		if err := errors.Join(r.Errors...); err != nil || r.Err != nil {
			t.Errorf("%v\n%s", err, r)
		}
	})
}

func TestKilledProcessFreesWhoWaitsForIt(t *testing.T) {
	for calls := range 4 {
		r := schedfs.Run(schedfs.Config{Kill: map[int]int{0: calls}, Strategy: schedfs.PCT(1, 1)}, twoFiles(t),
			inOrder("a", "b"), inOrder("a", "b"))
		if r.Err != nil || !errors.Is(r.Errors[0], simdisk.ErrKilled) && calls < 2 || r.Errors[1] != nil {
			t.Errorf("killed before call %d: %v\n%s", calls, r.Errors, r)
		}
	}
}

func TestPowerCutEndsWaiting(t *testing.T) {
	for n := range 3 {
		d := twoFiles(t)
		d.StopAfter(n)
		work := func(v vfs.FS) error {
			u, err := poll(v, "a", forever)
			if err != nil {
				return err
			}
			err = errors.Join(v.Touch("a"), v.Touch("b"))
			return errors.Join(err, u.Unlock())
		}
		r := schedfs.Run(schedfs.Config{Seed: uint64(n)}, d, work, work)
		if r.Err != nil || !slices.ContainsFunc(r.Errors, func(err error) bool { return errors.Is(err, simdisk.ErrPowerCut) }) {
			t.Errorf("after %d: %v\n%s", n, r.Errors, r)
		}
	}
}

func TestProcessOfManyGoroutinesIsExactInABubble(t *testing.T) {
	var first string
	for range 5 {
		synctest.Test(t, func(t *testing.T) {
			many := func(name string) func(vfs.FS) error {
				return func(v vfs.FS) error {
					var wg sync.WaitGroup
					for i := range 4 {
						wg.Go(func() {
							time.Sleep(time.Duration(i) * time.Second)
							_ = v.Mkdir(fmt.Sprint(name, i), 0o755)
							_ = v.SyncDir(fmt.Sprint(name, i))
						})
					}
					wg.Wait()
					return v.SyncFS()
				}
			}
			r := schedfs.Run(schedfs.Config{Seed: 7, Quiet: synctest.Wait}, simdisk.New(simdisk.Options{}), many("a"), many("b"))
			if r.Err != nil || len(r.Trace) != 18 {
				t.Errorf("%d steps\n%s", len(r.Trace), r)
			}
			if first == "" {
				first = r.String()
			} else if r.String() != first {
				t.Errorf("%s\nand\n%s", first, r)
			}
		})
	}
}

func TestDeadlockInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for s := schedfs.NewSearch(1); s.More(); {
			r := schedfs.Run(schedfs.Config{Strategy: s.Strategy(), Quiet: synctest.Wait}, twoFiles(t), inOrder("a", "b"), inOrder("b", "a"))
			if errors.Is(r.Err, schedfs.ErrDeadlock) {
				return
			}
		}
		t.Error("not found")
	})
}

func TestPanicIsAnError(t *testing.T) {
	r := schedfs.Run(schedfs.Config{}, twoFiles(t), func(vfs.FS) error { panic("ouch") }, inOrder("a"))
	if r.Errors[0] == nil || !strings.Contains(r.Errors[0].Error(), "ouch") || r.Errors[1] != nil {
		t.Errorf("got %v", r.Errors)
	}
}

func TestStuckProcessIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the plain rule, but with a clock that need not be waited for
		never := make(chan struct{})
		r := schedfs.Run(schedfs.Config{}, twoFiles(t), func(vfs.FS) error { <-never; return nil }, inOrder("a"))
		close(never)
		if !errors.Is(r.Err, schedfs.ErrStuck) || !errors.Is(r.Errors[1], schedfs.ErrStuck) {
			t.Errorf("%v, %v", r.Err, r.Errors)
		}
	})
}

func BenchmarkRun(b *testing.B) {
	for b.Loop() {
		d := simdisk.New(simdisk.Options{})
		work := func(v vfs.FS) error {
			for range 10 {
				if err := v.Touch("."); err != nil {
					return err
				}
			}
			return nil
		}
		schedfs.Run(schedfs.Config{}, d, work, work, work)
	}
	b.ReportMetric(30, "calls/op")
}
