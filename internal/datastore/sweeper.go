package datastore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore/sweep"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// sweeper removes the chunks that were not touched since minAtime.
type sweeper struct {
	store            *Store
	dry              bool
	status           *repo.GCStatus
	progress         func(repo.GCProgress)
	oldest, minAtime time.Time
}

// staleTemp is the age at which a temporary chunk file is left over from a
// writer that is no more.
const staleTemp = 24 * time.Hour

func (w *sweeper) run(ctx context.Context) error {
	dirs, err := w.store.fs.ReadDir(names.ChunkDir)
	if err != nil {
		return err
	}
	for i, e := range dirs {
		if i%256 == 0 {
			w.progress(repo.GCProgress{Phase: "sweep", Done: i, Total: len(dirs), Of: "chunk directories"})
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		prefix, ok := parsePrefix(e.Name)
		if !ok || !e.IsDir() {
			continue
		}
		if err := w.sweepDir(ctx, prefix); err != nil {
			return fmt.Errorf("sweep %s: %w", chunkDir(prefix), err)
		}
	}
	return nil
}

// parsePrefix reads the four hex digits that name a chunk directory.
func parsePrefix(name string) (uint16, bool) {
	var b [2]byte
	if len(name) != 4 {
		return 0, false
	}
	_, err := hex.Decode(b[:], []byte(name))
	return uint16(b[0])<<8 | uint16(b[1]), err == nil
}

// sweepDir goes through one directory under the lock that keeps writers from
// relying on a chunk of it at that moment. An empty one, the common case in a
// small store, needs no lock.
func (w *sweeper) sweepDir(ctx context.Context, prefix uint16) (err error) {
	dir := chunkDir(prefix)
	entries, err := w.store.fs.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return ignoreMissing(err)
	}
	if !w.dry {
		u, err := w.store.lockChunkDir(ctx, prefix, vfs.Exclusive)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, u.Unlock()) }()
	}
	for _, e := range entries {
		info, err := w.store.fs.Lstat(dir + "/" + e.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.Mode.IsRegular() {
			continue
		}
		if err := w.sweepFile(dir, e.Name, info); err != nil {
			return err
		}
	}
	return nil
}

func (w *sweeper) sweepFile(dir, name string, info vfs.Info) error {
	chunk, ok := names.ParseChunkFile(name)
	if !ok {
		// A temporary file's writer stamps it last when it writes to it.
		if strings.Contains(name, ".tmp_") && info.Mtime.Before(w.oldest.Add(-staleTemp)) {
			return w.remove(dir + "/" + name)
		}
		return nil
	}
	bad := chunk.Bad >= 0
	switch sweep.Decide(info.Atime, w.minAtime, w.oldest) {
	case sweep.Remove:
		if err := w.remove(dir + "/" + name); err != nil {
			return err
		}
		if bad {
			w.status.RemovedBad++
			return nil
		}
		w.status.RemovedChunks++
		w.status.RemovedBytes += info.Size
	case sweep.Pending:
		if bad {
			w.status.StillBad++
			return nil
		}
		w.status.PendingChunks++
		w.status.PendingBytes += info.Size
	case sweep.InUse:
		w.status.DiskBytes += info.Size
		if bad {
			w.status.StillBad++
			return nil
		}
		w.status.DiskChunks++
	}
	return nil
}

func (w *sweeper) remove(name string) error {
	if w.dry {
		return nil
	}
	return w.store.fs.Remove(name)
}
