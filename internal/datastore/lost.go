package datastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo/verify"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// lostDir holds an empty file for each chunk that some index names and that a
// verification or collection found damaged or missing, until it is stored
// again. A session takes the chunks of the previous snapshot as known without
// looking at each; a chunk that it shares with a snapshot that was found
// damaged would then be missing in every later one as well.
const lostDir = privateDir + "/lost"

// markLost says that a chunk is not there any more, before it is not.
func (s *Store) markLost(d digest.Digest) error {
	there, err := exists(s.fs, lostDir)
	if err != nil {
		return err
	}
	if !there {
		if err := errors.Join(makePrivate(s.fs), makeDir(s.fs, lostDir, chunkPerm), s.fs.SyncDir(privateDir)); err != nil {
			return err
		}
	}
	if err := touchFile(s.fs, lostDir+"/"+d.String(), filePerm); err != nil {
		return err
	}
	return s.fs.SyncDir(lostDir)
}

// lost returns the chunks that are still missing, and forgets those that are
// back, durably so.
func (s *Store) lost(ctx context.Context) (map[digest.Digest]bool, error) {
	entries, err := s.fs.ReadDir(lostDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list lost chunks: %w", err)
	}
	lost := map[digest.Digest]bool{}
	var back []string
	for _, e := range entries {
		d, err := digest.Parse(e.Name)
		if err != nil {
			continue
		}
		sound, err := s.isSound(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("lost chunk %s: %w", d, err)
		}
		if sound {
			back = append(back, lostDir+"/"+e.Name)
		} else {
			lost[d] = true
		}
	}
	if len(back) == 0 {
		return lost, nil
	}
	if err := s.fs.SyncFS(); err != nil {
		return nil, err
	}
	for _, name := range back {
		if err := ignoreMissing(s.fs.Remove(name)); err != nil {
			return nil, err
		}
	}
	return lost, nil
}

// isSound reports whether a chunk is stored with the right CRC. The lock keeps
// it from seeing a damaged chunk that is just being set aside.
func (s *Store) isSound(ctx context.Context, d digest.Digest) (ok bool, err error) {
	u, err := s.lockChunkDir(ctx, prefixOf(d), vfs.Exclusive)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, u.Unlock()) }()
	raw, err := s.readChunk(d, nil)
	if verify.IsDamage(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = blob.Check(raw)
	return err == nil, nil
}

// namesLost returns a chunk that an index of the snapshot names and that is
// lost; ok is false when there is none.
func (s *Store) namesLost(n names.Snapshot, lost map[digest.Digest]bool) (d digest.Digest, ok bool, err error) {
	if len(lost) == 0 {
		return d, false, nil
	}
	files, err := s.archiveNames(n)
	if err != nil {
		return d, false, err
	}
	var indexes []string
	for _, f := range files {
		if strings.HasSuffix(f, ".fidx") || strings.HasSuffix(f, ".didx") {
			indexes = append(indexes, n.Path()+"/"+f)
		}
	}
	return s.nameLost(indexes, lost)
}

// nameLost is the same for some index files.
func (s *Store) nameLost(indexes []string, lost map[digest.Digest]bool) (d digest.Digest, ok bool, err error) {
	if len(lost) == 0 {
		return d, false, nil
	}
	for _, f := range indexes {
		_, err := s.walkIndex(f, func(x digest.Digest) error {
			if lost[x] {
				d, ok = x, true
				return errFound
			}
			return nil
		})
		if ok {
			return d, true, nil
		}
		if err != nil {
			return d, false, fmt.Errorf("index %s: %w", f, err)
		}
	}
	return d, false, nil
}

// errFound ends a walk.
var errFound = errors.New("found")

// walkIndex calls f with every digest that an index names and returns the
// logical size in bytes.
func (s *Store) walkIndex(name string, f func(digest.Digest) error) (size int64, err error) {
	file, err := s.fs.Open(name)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := file.Close(); err == nil {
			err = cerr
		}
	}()
	length, err := file.Size()
	if err != nil {
		return 0, err
	}
	if strings.HasSuffix(name, "fidx") { // it may be a temporary name
		x, err := fidx.Open(file, length)
		if err != nil {
			return 0, err
		}
		return int64(x.Size), x.Each(func(_ int, d digest.Digest) error { return f(d) })
	}
	x, err := didx.Open(file, length)
	if err != nil {
		return 0, err
	}
	return x.Size(), x.Each(func(_ int, _, _ int64, d digest.Digest) error { return f(d) })
}
