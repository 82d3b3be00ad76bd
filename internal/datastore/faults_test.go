package datastore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/faultfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// faultKinds are the ways in which one call fails.
func faultKinds() map[string]func(n int) *faultfs.Rule {
	writes := []faultfs.Op{faultfs.Create, faultfs.Mkdir, faultfs.Rename, faultfs.Write, faultfs.Sync, faultfs.SyncDir, faultfs.SyncFS, faultfs.Close}
	// A lock that cannot be given back stays; nothing else could be expected.
	all := append([]faultfs.Op{
		faultfs.Open, faultfs.ReadDir, faultfs.Lstat, faultfs.LockRange, faultfs.Usage, faultfs.Read, faultfs.Size,
	}, faultfs.Changing()...)
	return map[string]func(n int) *faultfs.Rule{
		"EIO":    func(n int) *faultfs.Rule { return &faultfs.Rule{Ops: all, N: n, Err: syscall.EIO} },
		"ENOSPC": func(n int) *faultfs.Rule { return &faultfs.Rule{Ops: writes, N: n, Err: syscall.ENOSPC, Short: true} },
		"answer lost": func(n int) *faultfs.Rule {
			return &faultfs.Rule{Ops: append(faultfs.Changing(), faultfs.Unlock), N: n, Err: syscall.EIO, Done: true}
		},
	}
}

// restoring is one more operation, besides those that a power cut interrupts.
var restoring = operation{"restore", func(t *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
	n, ok := pick(w, rng)
	if !ok {
		return nil
	}
	return func(s *datastore.Store) error {
		img, _, err := t.restore(context.Background(), s, n)
		if err == nil && !bytes.Equal(img, w.must[n].Image) {
			return errWrong
		}
		return err
	}
}}

var listing = operation{"list", func(_ *tester, w *world, _ *rand.Rand) func(*datastore.Store) error {
	return func(s *datastore.Store) error {
		infos, err := s.Snapshots(context.Background(), "", nil)
		_, err2 := s.Groups(context.Background(), "")
		for _, info := range infos {
			err = errors.Join(err, info.Problem)
		}
		if err == nil && err2 == nil && len(infos) != len(w.must) {
			return fmt.Errorf("%w: %d snapshots listed of %d", errWrong, len(infos), len(w.must))
		}
		return errors.Join(err, err2)
	}
}}

// Every call of every operation fails once, in each way. The operation says so,
// or does without; it leaves nothing half done, and nothing in the way.
func TestEachFailingCallIsReportedAndDoesNoHarm(t *testing.T) {
	for _, op := range append(slices.Clone(operations), restoring, listing) {
		if strings.HasPrefix(op.name, "removal by another program") {
			continue // that program's calls are not ours
		}
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			tt := newTester(t)
			start := history(t, tt, rand.New(rand.NewPCG(1, 2)))
			for kind, rule := range faultKinds() {
				tried, survived := 0, 0
				for n := 1; ; n++ {
					err, fired, failed := tt.fault(start, op, rule(n))
					if failed != nil {
						t.Fatalf("%s at call %d: %v", kind, n, failed)
					}
					if !fired {
						if err != nil {
							t.Fatalf("without a fault: %v", err)
						}
						break
					}
					tried++
					if err == nil {
						survived++
					}
				}
				t.Logf("%s: %d calls failed once; %d times the operation did without", kind, tried, survived)
			}
		})
	}
}

// fault runs op once with a failing call and checks what is left. err is what
// the operation said, failed what is wrong with that.
func (t *tester) fault(start *world, op operation, rule *faultfs.Rule) (err error, fired bool, failed error) {
	w := start.clone()
	run := op.begin(t, w, rand.New(rand.NewPCG(7, 1)))
	f := faultfs.New(w.disk, rule)
	s, err := open(f, w.disk)
	if err == nil {
		datastore.ShareCodecs(t.codecs, s)
		err = run(s)
	}
	if !f.Fired() {
		return err, false, nil
	}
	calls := f.Calls()
	i := nth(calls, rule)
	if err != nil {
		if why := sentence(err); why != nil {
			return err, true, why
		}
		if errors.Is(err, errWrong) {
			return err, true, err
		}
	}
	if _, corrupt := errors.AsType[*repo.CorruptError](err); corrupt {
		return err, true, fmt.Errorf("a failing call is taken for damage: %w", err)
	}
	if why := leftovers(w.disk, calls, i); why != nil {
		return err, true, fmt.Errorf("%w (%s; the operation said: %v)", why, calls[i], err)
	}
	w.disk.Advance(time.Minute)
	after := w.clone()
	after.disk = w.disk.Crash(rand.New(rand.NewPCG(uint64(rule.N), 3)))
	if why := t.check(after, rand.New(rand.NewPCG(1, 4))); why != nil {
		return err, true, fmt.Errorf("power cut after a failing %s (the operation said: %v): %w", calls[i], err, why)
	}
	if why := t.check(w, rand.New(rand.NewPCG(1, 4))); why != nil {
		return err, true, fmt.Errorf("after a failing %s (the operation said: %v): %w", calls[i], err, why)
	}
	return err, true, nil
}

// nth finds the call that the rule made fail.
func nth(calls []faultfs.Call, rule *faultfs.Rule) int {
	seen := 0
	return slices.IndexFunc(calls, func(c faultfs.Call) bool {
		if slices.Contains(rule.Ops, c.Op) {
			seen++
		}
		return seen == rule.N
	})
}

// sentence checks that an error says what was done, where, and why.
func sentence(err error) error {
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSuffix(line, "\n")
		words := strings.Fields(line)
		place := strings.ContainsAny(line, "/.") // a path, a snapshot, a file
		if len(words) < 4 || !place || strings.Contains(line, "%!") || strings.Contains(line, "0x") || strings.HasSuffix(line, ":") {
			return fmt.Errorf("not a sentence: %q", line)
		}
	}
	return nil
}

// leftovers looks for locks, writers and temporary files, except what a failed
// removal could not remove.
func leftovers(d *simdisk.Disk, calls []faultfs.Call, failed int) error {
	for _, name := range []string{".lock", ".holdfast/locks"} {
		u, err := d.Process().LockRange(name, 0, 0, vfs.Exclusive)
		if err != nil {
			return fmt.Errorf("a lock is left: %w", err)
		}
		_ = u.Unlock()
	}
	var kept string
	if failed >= 0 && calls[failed].Op == faultfs.Remove {
		kept = calls[failed].Name
	}
	for _, f := range d.Files() {
		if strings.Contains(f, ".tmp_") && f != kept || path.Dir(f) == ".holdfast/writers" && f != kept {
			return fmt.Errorf("%s is left", f)
		}
	}
	return nil
}

// A disk of every size runs full during some operation.
func TestFullDiskLosesNothingAndWorksAgainAfterRoomWasMade(t *testing.T) {
	tt := newTester(t)
	full, fitted := 0, 0
	for room := int64(1 << 10); fitted < 3; room += 1 << 10 {
		w := newWorld(simdisk.New(simdisk.Options{Capacity: 8<<10 + room}))
		err := datastore.Create(t.Context(), w.disk, datastore.CreateOptions{Lazy: true})
		if errors.Is(err, syscall.ENOSPC) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, uint64(room)))
		s, err := tt.open(w.disk)
		if err != nil {
			t.Fatal(err)
		}
		failed := 0
		for range 4 {
			err := beginBackup(tt, w, rng)(s)
			switch {
			case errors.Is(err, syscall.ENOSPC):
				if why := sentence(err); why != nil {
					t.Fatal(why)
				}
				failed++
				clear(w.may)
			case err != nil:
				t.Fatalf("%d bytes of room: %v", room, err)
			}
			w.disk.Advance(time.Hour)
			if why := leftovers(w.disk, nil, -1); why != nil {
				t.Fatalf("%d bytes of room: %v", room, why)
			}
		}
		if _, err := tt.checkSnapshots(s, w); err != nil {
			t.Fatalf("%d bytes of room: %v", room, err)
		}
		if failed == 0 {
			fitted++
			continue
		}
		full++
		if err := tt.makeRoom(w, s); err != nil {
			t.Fatalf("%d bytes of room, %d backups: %v", room, len(w.must), err)
		}
	}
	t.Logf("%d disks ran full", full)
}

// makeRoom forgets everything, collects, and backs up something small.
func (t *tester) makeRoom(w *world, s *datastore.Store) error {
	first := len(w.must) > 0
	var small content
	for n, c := range w.must {
		small = content{Image: c.Image[:2*contract.ChunkSize], Conf: c.Conf}
		if err := s.Forget(context.Background(), n); err != nil {
			return err
		}
		delete(w.must, n)
	}
	if err := collect(s); err != nil && first {
		return err
	}
	if !first {
		return nil // not even one fits
	}
	n := snapshotAt("100", w.disk.Now())
	if err := t.backup(context.Background(), s, n, small.Image, small.Conf); err != nil {
		return fmt.Errorf("the next backup: %w", err)
	}
	w.must[n] = small
	_, err := t.checkSnapshots(s, w)
	return err
}
