// Package dir opens a repository that is a directory on this machine.
//
// When the directory is also a datastore of a Proxmox Backup Server on this
// machine, as /etc/proxmox-backup/datastore.cfg tells, the lock files of that
// server are taken beside our own locks, so that both may work on it.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Options configure an opened repository.
type Options struct {
	Sync datastore.SyncLevel // default filesystem
}

// Open opens the repository in a directory.
func Open(path string, opt Options) (*datastore.Store, error) {
	fsys, err := vfs.OpenOS(path)
	if err != nil {
		return nil, openError(path, err)
	}
	peer, err := peerLocks(path)
	if err != nil {
		return nil, errors.Join(err, fsys.Close())
	}
	node, err := os.Hostname()
	if err != nil {
		node = "localhost"
	}
	s, err := datastore.Open(fsys, datastore.Options{
		Location: path, Sync: opt.Sync, Peer: peer, Node: node, PID: os.Getpid(),
	})
	if err != nil {
		return nil, errors.Join(err, fsys.Close())
	}
	return s, nil
}

func openError(path string, err error) error {
	info, serr := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("repository %s: %w: there is no such directory", path, repo.ErrNotFound)
	case serr == nil && !info.IsDir():
		return fmt.Errorf("repository %s: %w: it is a file, not a directory", path, repo.ErrNotFound)
	}
	return fmt.Errorf("open repository %s: %w", path, err)
}

// Create makes a repository in a directory, which it makes too if need be.
func Create(ctx context.Context, path string, opt datastore.CreateOptions) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("create repository %s: %w", path, err)
	}
	if abs == string(filepath.Separator) {
		return errors.New("create repository: the root directory cannot be one")
	}
	if above, ok := insideRepository(abs); ok {
		return fmt.Errorf("create repository %s: it lies inside the repository %s", path, above)
	}
	if err := makeBase(path); err != nil {
		return fmt.Errorf("create repository %s: %w", path, err)
	}
	fsys, err := vfs.OpenOS(path)
	if err != nil {
		return fmt.Errorf("create repository %s: %w", path, err)
	}
	err = datastore.Create(ctx, fsys, opt)
	if cerr := fsys.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// makeBase makes the directory unless it is there, readable by all whatever the
// umask, as a backup server wants it.
func makeBase(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(path, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil // a file there fails when it is opened as a directory
	}
	if err != nil {
		return err
	}
	return os.Chmod(path, 0o755)
}

// insideRepository looks for a repository among the directories above path:
// the collection of the outer one would take the chunks of the inner one for
// its own namespaces' business.
func insideRepository(path string) (string, bool) {
	for up := filepath.Dir(path); ; up = filepath.Dir(up) {
		if info, err := os.Lstat(filepath.Join(up, ".chunks")); err == nil && info.IsDir() {
			return up, true
		}
		if up == filepath.Dir(up) {
			return "", false
		}
	}
}
