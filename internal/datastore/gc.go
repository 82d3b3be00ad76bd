package datastore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore/sweep"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/digestset"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// GC removes the chunks that no index names. It marks by touching every chunk
// that an index names and sweeps what was not touched for long. A dry run
// touches too, which harms nothing, and only counts what it would remove.
func (s *Store) GC(ctx context.Context, opt repo.GCOptions) (repo.GCStatus, error) {
	st, err := s.gc(ctx, opt)
	if err != nil {
		return st, fmt.Errorf("garbage collection: %w", err)
	}
	return st, nil
}

func (s *Store) gc(ctx context.Context, opt repo.GCOptions) (st repo.GCStatus, err error) {
	if opt.Progress == nil {
		opt.Progress = func(repo.GCProgress) {}
	}
	u, err := s.lockForGC()
	if err != nil {
		return st, err
	}
	defer func() { err = errors.Join(err, u.Unlock()) }()

	if !opt.SkipAtimeCheck && !opt.DryRun {
		if err := s.checkAtime(ctx); err != nil {
			return st, err
		}
	}
	start, err := s.clock()
	if err != nil {
		return st, err
	}
	oldest, err := s.oldestWriter(start)
	if err != nil {
		return st, err
	}
	m := &marker{store: s, progress: opt.Progress, status: &st, seen: digestset.New(markCache)}
	if err := m.markAll(ctx); err != nil {
		return st, err
	}
	if !opt.DryRun {
		// What was removed so far must not come back after its chunks are gone.
		if err := s.fs.SyncFS(); err != nil {
			return st, err
		}
	}
	sw := sweeper{
		store: s, dry: opt.DryRun, status: &st, progress: opt.Progress,
		oldest: oldest, minAtime: start.Add(-opt.Cutoff),
	}
	if oldest.Before(start) {
		sw.minAtime = sweep.MinAtime(start, oldest, opt.Cutoff)
	}
	if err := sw.run(ctx); err != nil {
		return st, err
	}
	if opt.DryRun {
		return st, nil
	}
	if st.UPID = opt.UPID; st.UPID == "" {
		st.UPID = s.taskID(start, "garbage_collection", "")
	}
	return st, s.saveStatus(st)
}

// lockForGC keeps other collections and all writers of PBS away, ours not.
func (s *Store) lockForGC() (vfs.Unlocker, error) {
	if err := makePrivate(s.fs); err != nil {
		return nil, err
	}
	if err := touchFile(s.fs, lockFile, filePerm); err != nil {
		return nil, err
	}
	u, err := s.fs.LockRange(lockFile, 1, 0, vfs.Exclusive)
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("another garbage collection runs, or the backup server is writing: %w", err)
	}
	return u, err
}

// clock is the time in the eyes of whoever stamps the files, which for a
// network file system is another machine.
func (s *Store) clock() (time.Time, error) {
	if err := s.fs.Touch(rangesFile); err != nil {
		return time.Time{}, err
	}
	info, err := s.fs.Lstat(rangesFile)
	return info.Atime, err
}

// checkAtime proves that a touch is kept, on the zero chunk of 4 MiB.
func (s *Store) checkAtime(ctx context.Context) error {
	d, raw, err := s.zeroChunk()
	if err != nil {
		return err
	}
	if _, err := s.putChunk(ctx, d, raw); err != nil {
		return err
	}
	name := names.ChunkPath(d)
	for range 2 {
		before, err := s.fs.Lstat(name)
		if err != nil {
			return err
		}
		if err := s.opt.Sleep(ctx, time.Second); err != nil {
			return err
		}
		if err := s.fs.Touch(name); err != nil {
			return err
		}
		after, err := s.fs.Lstat(name)
		if err != nil {
			return err
		}
		if after.Inode == before.Inode { // else somebody replaced it: once more
			if after.Atime.After(before.Atime) {
				return nil
			}
			break
		}
	}
	return fmt.Errorf("%s does not keep access times, by which unused chunks are told from used ones; "+
		"nothing was removed (mount it in another way, or skip this check if you are sure)", s.Location())
}

// taskID is a UPID in the terms of PBS, where a garbage collection and a
// verification are tasks of a node.
func (s *Store) taskID(start time.Time, kind, worker string) string {
	return upid.New(s.opt.Node, s.opt.PID, start, kind, worker, DefaultOwner).String()
}

// LastGC returns the state of the last collection; unreadable content counts
// as none.
func (s *Store) LastGC(context.Context) (repo.GCStatus, error) {
	var st repo.GCStatus
	b, err := s.readFile(gcStatusFile, nil, maxText)
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return st, fmt.Errorf("state of the last garbage collection: %w", err)
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return repo.GCStatus{}, nil
	}
	return st, nil
}

func (s *Store) saveStatus(st repo.GCStatus) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return s.replaceFile(gcStatusFile, b, true)
}

// markCache is how many digests are remembered as touched: 16 MiB.
const markCache = 1 << 20
