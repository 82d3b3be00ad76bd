// Package runstate keeps what is known about drives and changers until the machine
// is started again: what a drive is busy with, and what a changer held when it was
// last asked. The files are those of PBS, below /run/proxmox-backup:
//
//	drive-state/DRIVE      text: a task, or a few words such as "reading label";
//	                       it counts only while the drive is locked
//	                       (internal/tape/drivelock)
//	changer-state/CHANGER  JSON: drives, slots, transports
//
// A file is replaced as a whole. It is not synced: what a crash of the machine takes
// is worth nothing after it.
//
// In the JSON the status of an element is "Empty", "Full" or {"VolumeTag":"LABEL"}.
// Addresses of elements are zero in what this program writes.
//
// ErrFormat is wrapped for a changer's state that cannot be understood. Whoever
// meets it asks the changer.
//
// Source: proxmox-backup: pbs-tape/src/lib.rs, src/tape/changer/mod.rs,
// src/tape/drive/mod.rs.
package runstate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/keystore"
)

const (
	driveDir   = "drive-state"
	changerDir = "changer-state"

	maxText = 4 << 10 // of a drive's state
	maxJSON = 4 << 20 // of a changer's
)

// Dir is the directory for what does not outlive the machine. It has no state and
// is safe for concurrent use.
type Dir struct{ path string }

// New returns the directory at a path, /run/proxmox-backup for a server.
func New(path string) Dir { return Dir{path} }

// SetDrive says what a drive is busy with. Call it while the drive is locked; ""
// says that it is not busy any more.
func (d Dir) SetDrive(name, text string) error {
	path, err := d.file(driveDir, name)
	if err != nil {
		return err
	}
	if text == "" {
		return gone(os.Remove(path))
	}
	return put(path, []byte(text))
}

// Drive returns what was said last about a drive, "" for nothing. It is true only
// if the drive is locked.
func (d Dir) Drive(name string) (string, error) {
	path, err := d.file(driveDir, name)
	if err != nil {
		return "", err
	}
	b, err := keystore.Read(path, maxText)
	return strings.TrimSpace(string(b)), gone(err)
}

// gone drops the error of what is not there.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// file is the path of a drive's or a changer's file.
func (d Dir) file(dir, name string) (string, error) {
	if !names.IsSafeID(name) {
		return "", fmt.Errorf("%.40q names no drive and no changer", name)
	}
	return filepath.Join(d.path, dir, name), nil
}

// put replaces a file, which everybody may read.
func put(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
