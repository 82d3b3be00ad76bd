//go:build unix

package keystore

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Inherit implements [Disk].
func (d *osDisk) Inherit(name, model string) error {
	want, err := os.Lstat(d.path(model))
	if err != nil {
		return err
	}
	have, err := os.Lstat(d.path(name))
	if err != nil {
		return err
	}
	w, ok := want.Sys().(*syscall.Stat_t)
	h, also := have.Sys().(*syscall.Stat_t)
	if !ok || !also {
		return nil
	}
	if w.Uid != h.Uid || w.Gid != h.Gid {
		if err := os.Lchown(d.path(name), int(w.Uid), int(w.Gid)); err != nil {
			if w.Uid != h.Uid {
				return fmt.Errorf("keep its owner, user %d: %w", w.Uid, err)
			}
			return nil // not for a group that could not read it before
		}
	}
	if perm := private | want.Mode().Perm()&0o770; perm != fs.FileMode(private) {
		return os.Chmod(d.path(name), perm)
	}
	return nil
}

// Share implements [Disk].
func (d *osDisk) Share(name string) error {
	path := d.path(name)
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	have, err := os.Lstat(path)
	if err != nil {
		return err
	}
	w, ok := dir.Sys().(*syscall.Stat_t)
	h, also := have.Sys().(*syscall.Stat_t)
	if !ok || !also {
		return nil
	}
	if w.Gid != h.Gid && os.Lchown(path, -1, int(w.Gid)) != nil {
		return nil // not for a group that is not the directory's
	}
	return os.Chmod(path, private|0o040)
}
