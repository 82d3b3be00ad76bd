package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const errIO = syscall.EIO

// opImageRead is the one operation that the repository does not see.
const opImageRead = "read image"

// watched is an image that reports its reads.
type watched struct {
	*memImage
	call func(op string) error
}

func (w watched) ReadAt(p []byte, off int64) (int, error) {
	if err := w.call(opImageRead); err != nil {
		return 0, err
	}
	return w.memImage.ReadAt(p, off)
}

// everything is a job with one of each kind of source.
func everything(n int64, img *memImage, call func(op string) error) backup.Job {
	return backup.Job{
		Snapshot: at(n),
		Sources: []backup.Source{
			{Name: disk, Image: watched{img, call}},
			{Name: "pipe.img.fidx", Stream: image.NewStream(bytes.NewReader(img.b[:9*chunk]), image.SizeUnknown)},
			{Name: "vm.conf.blob", Data: []byte("cores: 2\n")},
		},
		Options: backup.Options{ChunkSize: chunk, Workers: 3},
	}
}

var errInjected = errors.New("injected")

// Every operation of a backup fails once, each in a run of its own: the error
// comes back, nothing is visible, nothing is left over, and the next run works.
func TestEveryFailureEndsTheBackupCleanly(t *testing.T) {
	each(t, func(t *testing.T, op string, n int64) (reached bool) {
		m, img, j, arm := faultyJob(t)
		var left atomic.Int64
		left.Store(n)
		arm(func(o string) error {
			if o == op && left.Add(-1) == 0 {
				return fmt.Errorf("%s: %w", op, errInjected)
			}
			return nil
		})
		_, err := backup.Run(t.Context(), m, j)
		if left.Load() > 0 {
			if err != nil {
				t.Fatal(err)
			}
			return false
		}
		if op == repotest.OpOpen { // the previous index: not fatal
			if err != nil {
				t.Fatalf("previous index unreadable: %v", err)
			}
			return true
		}
		if !errors.Is(err, errInjected) {
			t.Fatalf("%s %d: got %v", op, n, err)
		}
		if m.Snapshots() != 1 {
			t.Fatalf("%s %d: a snapshot is visible", op, n)
		}
		clean(t, m)
		arm(nil)
		again := everything(2, img, func(string) error { return nil })
		run(t, m, again)
		wantContent(t, m, 2, disk, nil, img.b)
		return true
	})
}

// The context ends in every operation, each in a run of its own.
func TestCancellationAtEveryPointReturnsItsCause(t *testing.T) {
	each(t, func(t *testing.T, op string, n int64) (reached bool) {
		if op == repotest.OpAbort {
			return false
		}
		m, _, j, arm := faultyJob(t)
		stop := errors.New("stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		var left atomic.Int64
		left.Store(n)
		arm(func(o string) error {
			if o == op && left.Add(-1) == 0 {
				cancel(stop)
			}
			return nil
		})
		_, err := backup.Run(ctx, m, j)
		if left.Load() > 0 {
			return false
		}
		if !errors.Is(err, stop) {
			t.Fatalf("%s %d: got %v", op, n, err)
		}
		if m.Snapshots() != 1 {
			t.Fatalf("%s %d: a snapshot is visible", op, n)
		}
		clean(t, m)
		return true
	})
}

// each calls try for the n-th call of every operation until it is not reached.
// A goroutine that stays behind is found by synctest.
func each(t *testing.T, try func(t *testing.T, op string, n int64) (reached bool)) {
	for _, op := range []string{
		repotest.OpBegin, repotest.OpHas, repotest.OpPut, repotest.OpPutBlob, repotest.OpCreate, repotest.OpSet,
		repotest.OpGrow, repotest.OpClose, repotest.OpFinish, repotest.OpOpen, opImageRead,
	} {
		t.Run(op, func(t *testing.T) {
			for n := int64(1); ; n++ {
				reached := false
				synctest.Test(t, func(t *testing.T) { reached = try(t, op, n) })
				if !reached {
					if n == 1 {
						t.Fatal("never called")
					}
					return
				}
			}
		})
	}
}

// faultyJob is a second backup, of an image that changed in part.
func faultyJob(t *testing.T) (m *repotest.Memory, img *memImage, j backup.Job, arm func(func(string) error)) {
	img = randomImage(rng(5), 24*chunk+100)
	m = repotest.New()
	run(t, m, everything(0, img, func(string) error { return nil }))
	fill(rng(6), img.b[2*chunk:7*chunk])
	for i := 2 * 4; i < 7*4; i++ {
		img.kinds[i] = image.Data
	}
	var fail atomic.Pointer[func(string) error]
	call := func(op string) error {
		if f := fail.Load(); f != nil && *f != nil {
			return (*f)(op)
		}
		return nil
	}
	m.Fail = call
	return m, img, everything(1, img, call), func(f func(string) error) { fail.Store(&f) }
}
