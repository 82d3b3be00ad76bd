//go:build linux

package main

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// loopback serves a directory through FUSE until it is unmounted.
func loopback(dir, at string) error {
	root, err := fs.NewLoopbackRoot(dir)
	if err != nil {
		return err
	}
	long := time.Hour
	server, err := fs.Mount(at, root, &fs.Options{
		EntryTimeout: &long, AttrTimeout: &long, NullPermissions: true,
		MountOptions: fuse.MountOptions{Options: []string{"ro"}, FsName: dir, DirectMount: true},
	})
	if err != nil {
		return err
	}
	server.Wait()
	return nil
}
