package datastore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Bytes of .holdfast/locks. The chunk directory with prefix p is byte p. Every
// other thing is the byte at a 61-bit hash of its name behind that: two names
// at one byte would only make one wait for the other.
func byteOf(kind, name string) int64 {
	h := sha256.Sum256([]byte(kind + "\x00" + name))
	return chunkDirs + int64(binary.LittleEndian.Uint64(h[:])>>3)
}

// lockWait is how long a manifest lock is waited for, as in PBS.
const lockWait = 5 * time.Second

// lockByte takes one byte of .holdfast/locks. A store that nobody can write to
// needs no locks against writers: then a shared lock is granted as it is.
func (s *Store) lockByte(off int64, mode vfs.LockMode) (vfs.Unlocker, error) {
	u, err := s.fs.LockRange(rangesFile, off, 1, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makePrivate(s.fs); err != nil {
			if mode == vfs.Shared && readOnly(err) {
				return noLock{}, nil
			}
			return nil, err
		}
		u, err = s.fs.LockRange(rangesFile, off, 1, mode)
	}
	if err != nil && mode == vfs.Shared && readOnly(err) {
		return noLock{}, nil
	}
	return u, err
}

// readOnly reports errors that say that this process cannot change the store.
func readOnly(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)
}

type noLock struct{}

func (noLock) Unlock() error { return nil }

// locks is several held locks, released in the order opposite to their taking.
type locks []vfs.Unlocker

func (l locks) Unlock() error {
	var first error
	for i := len(l) - 1; i >= 0; i-- {
		if err := l[i].Unlock(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// lockPath takes the lock of a group or snapshot, ours and the peer's.
func (s *Store) lockPath(ns names.Namespace, rel string, mode vfs.LockMode) (vfs.Unlocker, error) {
	own, err := s.lockByte(byteOf("path", string(ns)+":"+rel), mode)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", rel, err)
	}
	if s.opt.Peer == nil {
		return own, nil
	}
	peer, err := s.opt.Peer.Lock(ns, rel, mode)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", rel, err), own.Unlock())
	}
	return locks{own, peer}, nil
}

func (s *Store) lockGroup(ns names.Namespace, g names.Group) (vfs.Unlocker, error) {
	return s.lockPath(ns, g.String(), vfs.Exclusive)
}

func (s *Store) lockSnapshot(n names.Snapshot, mode vfs.LockMode) (vfs.Unlocker, error) {
	return s.lockPath(n.NS, n.String(), mode)
}

// lockManifest waits up to five seconds: manifests are held for moments only.
func (s *Store) lockManifest(ctx context.Context, n names.Snapshot) (vfs.Unlocker, error) {
	return s.waitLock(ctx, lockWait, func() (vfs.Unlocker, error) {
		return s.lockPath(n.NS, n.String()+"/"+names.ManifestLock, vfs.Exclusive)
	})
}

// lockChunkDir takes the lock of the chunk directory with that prefix. Sweeping
// a directory takes milliseconds; a minute means that something is wrong.
func (s *Store) lockChunkDir(ctx context.Context, prefix uint16, mode vfs.LockMode) (vfs.Unlocker, error) {
	return s.waitLock(ctx, time.Minute, func() (vfs.Unlocker, error) {
		return s.lockByte(int64(prefix), mode)
	})
}

func (s *Store) waitLock(ctx context.Context, most time.Duration, try func() (vfs.Unlocker, error)) (vfs.Unlocker, error) {
	pause := time.Millisecond
	for waited := time.Duration(0); ; waited += pause {
		u, err := try()
		if err == nil || !errors.Is(err, vfs.ErrLocked) || waited >= most {
			return u, err
		}
		pause = min(2*pause, 50*time.Millisecond)
		if err := s.opt.Sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}
