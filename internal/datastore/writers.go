package datastore

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// writer is this session's entry among those that insert chunks. The entry is
// an empty file under .holdfast/writers whose modification time, stamped by
// the file system that also stamps the chunks, is the writer's start, and
// whose lock lives as long as the writer does.
type writer struct {
	store *Store
	name  string
	held  locks
}

// register makes the entry, before the first chunk is touched.
func (s *Store) register() (*writer, error) {
	if err := makePrivate(s.fs); err != nil {
		return nil, fmt.Errorf("register writer: %w", err)
	}
	if err := touchFile(s.fs, lockFile, filePerm); err != nil {
		return nil, fmt.Errorf("register writer: %w", err)
	}
	store, err := s.fs.LockRange(lockFile, 0, 1, vfs.Shared)
	if err != nil {
		if errors.Is(err, vfs.ErrLocked) {
			return nil, fmt.Errorf("a garbage collection of the backup server runs on %s: %w", s.Location(), err)
		}
		return nil, fmt.Errorf("lock %s: %w", lockFile, err)
	}
	w := &writer{store: s, held: locks{store}}
	var id [16]byte
	if _, err := io.ReadFull(s.opt.Rand, id[:]); err != nil {
		return nil, errors.Join(fmt.Errorf("register writer: %w", err), w.held.Unlock())
	}
	w.name = writersDir + "/" + hex.EncodeToString(id[:])
	// The lock comes before the file: a collection never sees the entry of a
	// live writer without its lock.
	own, err := s.lockByte(byteOf("writer", w.name), vfs.Exclusive)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("register writer: %w", err), w.held.Unlock())
	}
	w.held = append(w.held, own)
	if err := touchFile(s.fs, w.name, filePerm); err != nil {
		return nil, errors.Join(fmt.Errorf("register writer: %w", err), w.release())
	}
	return w, nil
}

// release ends the entry. Should the file stay behind, it means nothing
// without its lock, and the next collection removes it: no reason to call a
// backup failed.
func (w *writer) release() error {
	_ = w.store.fs.Remove(w.name)
	return w.held.Unlock()
}

// oldestWriter returns the start of the oldest live writer, or now when there
// is none, and removes the entries of dead ones.
func (s *Store) oldestWriter(now time.Time) (time.Time, error) {
	entries, err := s.fs.ReadDir(writersDir)
	if errors.Is(err, fs.ErrNotExist) {
		return now, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("list writers: %w", err)
	}
	oldest := now
	for _, e := range entries {
		name := writersDir + "/" + e.Name
		u, err := s.lockByte(byteOf("writer", name), vfs.Exclusive)
		if err == nil { // its writer is dead
			err = errors.Join(ignoreMissing(s.fs.Remove(name)), u.Unlock())
			if err != nil {
				return time.Time{}, fmt.Errorf("clear writer entry: %w", err)
			}
			continue
		}
		if !errors.Is(err, vfs.ErrLocked) {
			return time.Time{}, fmt.Errorf("examine writer entry: %w", err)
		}
		info, err := s.fs.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) { // ended meanwhile
			continue
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("examine writer entry: %w", err)
		}
		if info.Mtime.Before(oldest) {
			oldest = info.Mtime
		}
	}
	return oldest, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
