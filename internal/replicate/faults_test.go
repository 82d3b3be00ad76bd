package replicate_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/replicate"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs/faultfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// pair is a source with some history and a target that has a part of it.
func pair(t testing.TB) (a, b place, o replicate.Options) {
	a, b = newPlace(t), newPlace(t)
	if err := a.CreateNamespace(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	backup(t, a, day(1), content(4, 1), nil)
	backup(t, a, snapshot("ct/1/2026-06-01T00:00:00Z"), content(2, 1), nil)
	o = replicate.Options{Depth: -1, RemoveVanished: true, Workers: 1}
	run(t, a, b, o)
	backup(t, a, day(2), content(4, 1, 2), nil)
	putLog(t, a, day(2), "fine")
	if err := a.Forget(t.Context(), snapshot("ct/1/2026-06-01T00:00:00Z")); err != nil {
		t.Fatal(err)
	}
	backup(t, a, snapshot("ns/x/vm/1/2026-06-01T00:00:00Z"), content(2, 3), key(t))
	return a, b, o
}

// partial reports what is at the target and not, with the same content, at the
// source; ct/1 may be there until it is removed, and a beginning that no listing
// takes for a snapshot.
func partial(t testing.TB, a, b repo.Repository) {
	t.Helper()
	there := map[string]bool{}
	for _, line := range listing(t, a, "") {
		there[line] = true
	}
	for _, line := range listing(t, b, "") {
		if strings.HasSuffix(line, " unfinished") {
			continue
		}
		if !there[line] && !strings.HasPrefix(line, "ct/1/") && !there[strings.Replace(line, "no log", logOfDay2, 1)] {
			t.Errorf("the target has %s", line)
		}
	}
	verified(t, b)
}

var logOfDay2 = ""

// Every call to either disk fails once, in several ways. What is at the target then
// is whole, and the next run does the rest.
func TestEachFailureOfEitherSideLeavesNothingHalf(t *testing.T) {
	a, b, o := pair(t)
	logOfDay2 = logText(t, a, day(2))
	all := append([]faultfs.Op{
		faultfs.Open, faultfs.ReadDir, faultfs.Lstat, faultfs.LockRange, faultfs.Read, faultfs.Size,
	}, faultfs.Changing()...)
	writes := []faultfs.Op{faultfs.Create, faultfs.Mkdir, faultfs.Rename, faultfs.Write, faultfs.Sync, faultfs.SyncFS}
	kinds := []func(n int) *faultfs.Rule{
		func(n int) *faultfs.Rule { return &faultfs.Rule{Ops: all, N: n, Err: syscall.EIO} },
		func(n int) *faultfs.Rule { return &faultfs.Rule{Ops: writes, N: n, Err: syscall.ENOSPC, Short: true} },
		func(n int) *faultfs.Rule { return &faultfs.Rule{Ops: all, N: n, Err: syscall.EIO, Times: -1} },
	}
	for _, side := range []string{"source", "target"} {
		for k, rule := range kinds {
			for n := 1; ; n++ {
				sick := rule(n)
				src, dst := a.disk.Clone(), b.disk.Clone()
				from, to := faultfs.New(src), faultfs.New(dst)
				left, right := open(t, from, src), open(t, to, dst)
				map[string]*faultfs.FS{"source": from, "target": to}[side].Add(sick)
				rep, err := replicate.Run(t.Context(), left, right, o)
				if !from.Fired() && !to.Fired() {
					if n == 1 && (side == "target" || k != 1) {
						t.Fatalf("%s: nothing could fail", side)
					}
					break
				}
				healthy := place{open(t, dst, dst), dst}
				partial(t, a, healthy)
				run(t, a, healthy, o)
				equal(t, a, healthy)
				if t.Failed() {
					t.Fatalf("%s, kind %d, call %d: %v, %v", side, k, n, err, rep.Err())
				}
			}
		}
	}
}

// The power of the target fails between any two steps. What it has then is whole,
// and the next run does the rest.
func TestAnInterruptedRunIsResumed(t *testing.T) {
	a, b, o := pair(t)
	logOfDay2 = logText(t, a, day(2))
	for n := 0; ; n++ {
		disk := b.disk.Clone()
		to := open(t, disk, disk)
		disk.StopAfter(n)
		rep, err := replicate.Run(t.Context(), a, to, o)
		done := errors.Join(err, rep.Err()) == nil
		for _, mode := range []simdisk.Mode{simdisk.Uniform, simdisk.Everything, simdisk.Nothing} {
			left := disk.CrashAs(mode, rand.New(rand.NewPCG(uint64(n), 1)))
			again := place{open(t, left, left), left}
			partial(t, a, again)
			run(t, a, again, o)
			equal(t, a, again)
			if t.Failed() {
				t.Fatalf("power cut after %d steps, %s", n, mode)
			}
		}
		if done {
			break
		}
	}
}

// ticking ends a context at the n-th read of a chunk.
type ticking struct {
	repo.Repository
	left   *atomic.Int64
	cancel context.CancelCauseFunc
}

type tickingSnapshot struct {
	repo.Snapshot
	t ticking
}

var errEnough = errors.New("enough")

func (c ticking) Open(ctx context.Context, n names.Snapshot) (repo.Snapshot, error) {
	s, err := c.Repository.Open(ctx, n)
	return tickingSnapshot{s, c}, err
}

func (s tickingSnapshot) ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	if s.t.left.Add(-1) == 0 {
		s.t.cancel(errEnough)
	}
	return s.Snapshot.ReadChunk(ctx, d, buf)
}

func TestACancelledRunSaysWhyAndLeavesNothingHalf(t *testing.T) {
	a, b, o := pair(t)
	logOfDay2 = logText(t, a, day(2))
	o.Workers, o.Groups = 3, 2
	for n := 1; n <= 4; n++ {
		disk := b.disk.Clone()
		to := open(t, disk, disk)
		ctx, cancel := context.WithCancelCause(t.Context())
		left := new(atomic.Int64)
		left.Store(int64(n))
		_, err := replicate.Run(ctx, ticking{a, left, cancel}, to, o)
		if !errors.Is(err, errEnough) {
			t.Errorf("%v", err)
		}
		partial(t, a, to)
		run(t, a, to, o)
		equal(t, a, to)
	}
}

// Any history of backups, removals and runs in a chain of three ends with three
// equal repositories.
func TestAChainOfRandomHistoriesStaysEqual(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 9))
		a, b, c := newPlace(t), newPlace(t), newPlace(t)
		o := replicate.Options{Depth: -1, RemoveVanished: true, ResyncCorrupt: true}
		clock := int64(1_780_000_000)
		for range 30 {
			o.Workers, o.Groups = 1+rng.IntN(4), 1+rng.IntN(3)
			ns := names.Namespace([]string{"", "x", "x/y"}[rng.IntN(3)])
			switch rng.IntN(8) {
			case 0, 1, 2:
				for _, n := range []names.Namespace{"x", "x/y"} {
					if n.Contains(ns) || ns.Contains(n) {
						if err := a.CreateNamespace(t.Context(), n); err != nil && !errors.Is(err, repo.ErrExists) {
							t.Fatal(err)
						}
					}
				}
				k := key(t)
				if rng.IntN(3) > 0 {
					k = nil
				}
				clock += 60
				id := fmt.Sprint(100 + rng.IntN(3))
				if k != nil {
					id += "e"
				}
				backup(t, a, names.Snapshot{NS: ns, Group: names.Group{Type: names.VM, ID: id}, Time: clock}, content(1+rng.IntN(5), rng.Uint64N(3), rng.Uint64N(3)), k)
			case 3:
				if infos, err := a.Snapshots(t.Context(), "", nil); err == nil && len(infos) > 0 {
					if err := a.Forget(t.Context(), infos[rng.IntN(len(infos))].Snapshot); err != nil {
						t.Fatal(err)
					}
				}
			case 4:
				if all, err := a.Namespaces(t.Context(), ""); err == nil && len(all) > 0 {
					if err := a.DeleteNamespace(t.Context(), all[rng.IntN(len(all))], true); err != nil {
						t.Fatal(err)
					}
				}
			case 5:
				for _, s := range []place{a, b, c} {
					s.disk.Advance(30 * time.Hour)
					if _, err := s.GC(t.Context(), repo.GCOptions{}); err != nil {
						t.Fatal(err)
					}
				}
			case 6:
				run(t, a, b, o)
			case 7:
				run(t, b, c, o)
			}
		}
		run(t, a, b, o)
		run(t, b, c, o)
		equal(t, a, b)
		equal(t, a, c)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
