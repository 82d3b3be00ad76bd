package datastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// CreateOptions say how a new store looks.
type CreateOptions struct {
	// Lazy leaves out the 65,536 chunk directories, which take 256 MiB on
	// ext4; they appear as they are needed. PBS adopts only a complete store.
	Lazy bool
	// Progress is called with the number of chunk directories made; may be nil.
	Progress func(done, total int)
}

const chunkDirs = 1 << 16

// Create makes a datastore in the root of fsys, which must hold nothing but
// names that begin with a dot, or lost+found. A repeated call after an
// interrupted one completes the store.
func Create(ctx context.Context, fsys vfs.FS, opt CreateOptions) error {
	entries, err := fsys.ReadDir(".")
	if err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	for _, e := range entries {
		if e.Name == lockFile {
			return fmt.Errorf("create repository: %w: the directory holds a repository already", repo.ErrExists)
		}
		if e.Name[0] != '.' && e.Name != "lost+found" {
			return fmt.Errorf("create repository: the directory is not empty: it holds %q", e.Name)
		}
	}
	if err := makeDir(fsys, names.ChunkDir, chunkPerm); err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	if !opt.Lazy {
		if err := CompleteChunkDirs(ctx, fsys, opt.Progress); err != nil {
			return fmt.Errorf("create repository: %w", err)
		}
	}
	if err := makePrivate(fsys); err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	// .lock comes last: with it the store is complete.
	if err := fsys.SyncFS(); err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	if err := touchFile(fsys, lockFile, filePerm); err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	if err := fsys.SyncDir("."); err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	return nil
}

// CompleteChunkDirs makes every chunk directory that is missing, as PBS wants
// them.
func CompleteChunkDirs(ctx context.Context, fsys vfs.FS, progress func(done, total int)) error {
	for i := range chunkDirs {
		if i%1024 == 0 {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if progress != nil {
				progress(i, chunkDirs)
			}
		}
		if err := makeDir(fsys, chunkDir(uint16(i)), chunkPerm); err != nil {
			return err
		}
	}
	return nil
}

// chunkDir is the chunk directory of digests that begin with prefix.
func chunkDir(prefix uint16) string { return fmt.Sprintf("%s/%04x", names.ChunkDir, prefix) }

// makePrivate makes our own directory where it is missing.
func makePrivate(fsys vfs.FS) error {
	if err := makeDir(fsys, privateDir, chunkPerm); err != nil {
		return err
	}
	if err := makeDir(fsys, writersDir, chunkPerm); err != nil {
		return err
	}
	return touchFile(fsys, rangesFile, 0o660)
}

// makeDir makes a directory unless it is there.
func makeDir(fsys vfs.FS, name string, perm fs.FileMode) error {
	if err := fsys.Mkdir(name, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// touchFile makes an empty file unless it is there.
func touchFile(fsys vfs.FS, name string, perm fs.FileMode) error {
	f, err := fsys.Create(name, perm)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}
