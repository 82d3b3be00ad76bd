package extract

import (
	"context"

	"golang.org/x/sys/unix"
)

// Named returns o for a file system where every file has a name.
func (o Options) Named() Options {
	o.named = true
	return o
}

// ByProc returns o for a process that names files through /proc.
func (o Options) ByProc() Options {
	o.byProc = true
	return o
}

// RemoveTree removes a name in a directory, which was seen to be a directory.
func RemoveTree(path, name string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	r := &run{ctx: context.Background(), names: newTemporary()}
	d := &dir{run: r, fd: fd}
	defer d.close()
	if err := d.look(false); err != nil {
		return err
	}
	return r.removeTree(d, name)
}
