//go:build unix

package drivelock_test

import (
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/drivelock"
)

func TestLockIsHeldByOne(t *testing.T) {
	path := drivelock.Path(t.TempDir(), "/dev/tape/by-id/scsi-12345-sg")
	if want := `dev-tape-by\x2did-scsi\x2d12345\x2dsg`; filepath.Base(path) != want {
		t.Errorf("the lock is %s, want %s", filepath.Base(path), want)
	}
	if busy, err := drivelock.Busy(path); busy || err != nil {
		t.Errorf("without a lock file: %v, %v", busy, err)
	}
	synctest.Test(t, func(t *testing.T) {
		first, err := drivelock.Take(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if busy, err := drivelock.Busy(path); !busy || err != nil {
			t.Errorf("held: %v, %v", busy, err)
		}
		start := time.Now()
		if _, err := drivelock.Take(t.Context(), path); !errors.Is(err, tape.ErrBusy) || time.Since(start) != 10*time.Second {
			t.Errorf("the second gets %v after %v", err, time.Since(start))
		}
		go func() {
			time.Sleep(5 * time.Second)
			if err := first.Unlock(); err != nil {
				t.Error(err)
			}
		}()
		second, err := drivelock.Take(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Unlock(); err != nil {
			t.Error(err)
		}
		if busy, err := drivelock.Busy(path); busy || err != nil {
			t.Errorf("given back: %v, %v", busy, err)
		}
	})
}
