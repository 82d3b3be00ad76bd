package dir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

const (
	serverConfig = "/etc/proxmox-backup/datastore.cfg"
	oldLocking   = "/run/proxmox-backup/old-locking"
)

// peerLocks returns the lock files of the backup server that serves path, or
// nil when there is none.
func peerLocks(path string) (datastore.PeerLocks, error) {
	config, err := os.ReadFile(serverConfig)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		// A user who may not read the server's configuration may not write to
		// its datastores or its lock files either.
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for a backup server that serves %s: %w", path, err)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	if real, err = filepath.Abs(real); err != nil {
		return nil, err
	}
	store, ok := storeAt(string(config), real)
	if !ok {
		return nil, nil
	}
	_, err = os.Lstat(oldLocking)
	return serverLocks{store: store, base: real, old: err == nil}, nil
}

// storeAt finds the datastore whose path is dir in a section-config file.
func storeAt(config, dir string) (string, bool) {
	var store string
	for line := range strings.Lines(config) {
		if name, ok := strings.CutPrefix(line, "datastore:"); ok {
			store = strings.TrimSpace(name)
			continue
		}
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key == "path" && filepath.Clean(strings.TrimSpace(value)) == dir && store != "" {
			return store, true
		}
	}
	return "", false
}

// serverLocks takes the locks of one datastore of a server: since 3.3.5 lock
// files below /run, before that the group and snapshot directories themselves.
type serverLocks struct {
	store, base string
	old         bool
}

// Lock takes a lock without waiting.
func (l serverLocks) Lock(ns names.Namespace, rel string, mode vfs.LockMode) (vfs.Unlocker, error) {
	if l.old && !strings.HasSuffix(rel, names.ManifestLock) {
		return flock(filepath.Join(l.base, ns.Path(), rel), unix.O_RDONLY|unix.O_DIRECTORY, mode)
	}
	path := names.LockPath(l.store, ns, rel)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("lock of the backup server: %w", err)
	}
	return flock(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT, mode)
}

type fileLock struct{ f *os.File }

func (l fileLock) Unlock() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}

// flock locks a file that its holders delete when they are done with it: the
// lock counts only if the name still leads to what was locked.
func flock(path string, flags int, mode vfs.LockMode) (vfs.Unlocker, error) {
	f, err := os.OpenFile(path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o660)
	if errors.Is(err, fs.ErrNotExist) {
		return fileLock{}, nil // a directory yet to be made locks nothing
	}
	if err != nil {
		return nil, fmt.Errorf("lock of the backup server: %w", err)
	}
	how := unix.LOCK_SH
	if mode == vfs.Exclusive {
		how = unix.LOCK_EX
	}
	err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = vfs.ErrLocked
	}
	if err == nil {
		err = sameFile(f, path)
	}
	if err != nil {
		return nil, fmt.Errorf("lock of the backup server, %s: %w", path, errors.Join(err, f.Close()))
	}
	return fileLock{f}, nil
}

func sameFile(f *os.File, path string) error {
	held, err := f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(held, now) {
		return vfs.ErrLocked // somebody had it and is just removing it
	}
	return err
}
