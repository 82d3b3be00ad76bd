package datastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/digestset"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// marker touches what every index names.
//
// Indexes are found by walking the directories, dot directories left out, so
// that an index at a strange place counts too. Backups and removals go on
// meanwhile: a session may reuse the chunks of a snapshot that is removed as
// soon as the session ends. The walk sees one of the two, or sees that it
// missed something and is repeated:
//
//   - A session whose directory was there when the group was listed held the
//     lock of its base from before that, and the base, being older, is looked
//     at first: it is complete then.
//   - A session that began later shows when the group is listed again after
//     all its snapshots were looked at. One that begins later still finds a
//     base that the walk has seen complete, or that is such a session itself.
type marker struct {
	store    *Store
	progress func(repo.GCProgress)
	status   *repo.GCStatus
	seen     *digestset.Set
	marked   map[string]bool // paths of indexes done
}

// maxWalks bounds the repetitions; each needs a removal or a new backup within
// the time of the one before.
const maxWalks = 100

func (m *marker) markAll(ctx context.Context) error {
	m.marked = map[string]bool{}
	for range maxWalks {
		stable, err := m.walk(ctx)
		if err != nil || stable {
			return err
		}
	}
	return fmt.Errorf("snapshots came and went during each of %d looks at the repository; try again when it is quieter", maxWalks)
}

// walk marks every index that is not marked yet. stable is false when something
// came or went meanwhile that it may have missed.
func (m *marker) walk(ctx context.Context) (stable bool, err error) {
	paths, missed, err := m.find(".", nil)
	if err != nil {
		return false, err
	}
	stable = !missed
	for i, p := range paths {
		if m.marked[p] {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return false, err
		}
		m.progress(repo.GCProgress{Phase: "mark", Done: i, Total: len(paths), Of: "indexes"})
		err := m.markIndex(ctx, p)
		if errors.Is(err, fs.ErrNotExist) {
			stable = false
			continue
		}
		if err != nil {
			return false, err
		}
		m.marked[p] = true
	}
	return stable, nil
}

// find collects the paths of indexes below dir. missed reports that directories
// came or went while it looked.
func (m *marker) find(dir string, into []string) (paths []string, missed bool, err error) {
	entries, err := m.store.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return into, true, nil
	}
	if err != nil {
		if errors.Is(err, fs.ErrPermission) && path.Base(dir) == "lost+found" && strings.Count(dir, "/") <= 1 {
			return into, false, nil
		}
		return nil, false, err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		switch {
		case strings.HasPrefix(e.Name, "."):
		case e.IsDir():
			var gone bool
			if into, gone, err = m.find(name, into); err != nil {
				return nil, false, err
			}
			missed = missed || gone
		case e.IsRegular() && (strings.HasSuffix(e.Name, ".fidx") || strings.HasSuffix(e.Name, ".didx")):
			into = append(into, name)
		}
	}
	if missed || !slices.ContainsFunc(entries, vfs.DirEntry.IsDir) {
		return into, missed, nil
	}
	again, err := m.store.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return into, true, nil
	}
	return into, !slices.Equal(directories(entries), directories(again)), err
}

func directories(entries []vfs.DirEntry) []string {
	var all []string
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, e.Name)
		}
	}
	return all
}

// markIndex marks one index. A damaged one stops the collection, for nobody
// can tell which chunks it needs; unless its snapshot was never finished, so
// that nobody can restore it either.
func (m *marker) markIndex(ctx context.Context, name string) error {
	bytes, err := m.store.walkIndex(name, func(d digest.Digest) error { return m.touch(ctx, d, name) })
	if err == nil {
		m.status.IndexFiles++
		m.status.IndexDataBytes += bytes
		return nil
	}
	if !errors.Is(err, fidx.ErrFormat) && !errors.Is(err, didx.ErrFormat) {
		return err
	}
	done, ferr := exists(m.store.fs, path.Dir(name)+"/"+manifestName)
	if ferr != nil {
		return ferr
	}
	if done {
		return fmt.Errorf("%w; forget that snapshot to let the collection go on", &repo.CorruptError{What: "index " + name, Err: err})
	}
	m.warn("index %s of an unfinished snapshot is damaged and was left out: %v", name, err)
	return nil
}

// touch marks one chunk. When it is missing its damaged copies are kept
// instead, for they are all there is.
func (m *marker) touch(ctx context.Context, d digest.Digest, index string) error {
	if m.seen.Has(d) {
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	err := m.store.fs.Touch(names.ChunkPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		m.warn("chunk %s is missing, but %s needs it", d, index)
		if err := m.store.markLost(d); err != nil {
			return err
		}
		for n := range names.MaxBad + 1 {
			if err := ignoreMissing(m.store.fs.Touch(names.BadChunkPath(d, n))); err != nil {
				return err
			}
		}
		err = nil
	}
	if err != nil {
		return fmt.Errorf("mark chunk %s: %w", d, err)
	}
	m.seen.Add(d)
	return nil
}

// maxWarnings bounds the list; the rest is only counted.
const maxWarnings = 1000

func (m *marker) warn(format string, args ...any) {
	if len(m.status.Warnings) < maxWarnings {
		m.status.Warnings = append(m.status.Warnings, fmt.Sprintf(format, args...))
	}
}
