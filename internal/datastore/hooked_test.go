package datastore_test

import (
	"fmt"
	"io/fs"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// hooked tells a test of calls before they are made. It is for races that have
// a name: what another process does meanwhile is done inside the hook.
type hooked struct {
	vfs.FS
	before func(call string)
}

// Open implements vfs.FS.
func (h *hooked) Open(name string) (vfs.File, error) {
	h.before("open " + name)
	return h.FS.Open(name)
}

// Mkdir implements vfs.FS.
func (h *hooked) Mkdir(name string, perm fs.FileMode) error {
	h.before("mkdir " + name)
	return h.FS.Mkdir(name, perm)
}

// ReadDir implements vfs.FS.
func (h *hooked) ReadDir(name string) ([]vfs.DirEntry, error) {
	h.before("readdir " + name)
	return h.FS.ReadDir(name)
}

// Remove implements vfs.FS.
func (h *hooked) Remove(name string) error {
	h.before("remove " + name)
	return h.FS.Remove(name)
}

// Rename implements vfs.FS.
func (h *hooked) Rename(from, to string) error {
	h.before("rename to " + to)
	return h.FS.Rename(from, to)
}

// LockRange implements vfs.FS.
func (h *hooked) LockRange(name string, off, length int64, mode vfs.LockMode) (vfs.Unlocker, error) {
	if mode == vfs.Exclusive {
		h.before(fmt.Sprintf("lock %s %d", name, off))
	}
	return h.FS.LockRange(name, off, length, mode)
}
