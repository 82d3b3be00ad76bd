// Package dirstore keeps backups of guests in plain files that QEMU and tar
// read without us: a storage of package provider in a directory.
//
// # Layout
//
// That of the published example of a backup provider for Proxmox VE, so what it
// wrote is listed, restored, continued and pruned here:
//
//	<guest>/previous-info                 "<first> <last>\n": the start of the
//	                                      backup that the chain began with, and
//	                                      that of the newest backup, in seconds
//	<guest>/<kind>-<start>/guest.conf     as it came
//	                       firewall.conf  if there was one
//	                       <device>.qcow2 of a machine ("qemu"): one for each disk
//	                       archive.tar    of a container ("lxc"), or archive.sqfs
//	                       backup.log
//	<guest>/<kind>-<start>.failed/backup.log
//
// and beside them, by us:
//
//	<guest>/<kind>-<start>/notes          text
//	                       protected      empty; while it is there the backup stays
//	                       .removed       empty; the backup is there for the sake of others only
//	<guest>/.lock                         see below
//	<guest>/.<kind>-<start>.part/         a backup that is being made
//	<guest>/.<kind>-<start>.gone/         one that is being removed
//	<guest>/<kind>-<start>/.<device>.merged   takes the place of <device>.qcow2
//
// An incremental disk has the disk of the backup before as its backing file, by
// the relative name ../<kind>-<start>/<device>.qcow2, so that a storage can be
// moved. Absolute names, which the example writes, are followed below the
// storage.
//
// # Whole or not there
//
// A backup is made in a .part directory. When all files are synced the directory
// gets its name, in one step, and previous-info is replaced, in one step. A
// crash in between leaves an older previous-info: the next backup then is a full
// one. Of a failed backup nothing is left but its log.
//
// # Removal
//
// A backup that others build on is removed by no longer being listed, durably.
// Its disks are merged into those that build on them, as soon as that is worth
// it: disk by disk a new file that holds both is made, synced, and replaces the
// old one in one step; when nobody builds on it any more the backup goes. At every
// moment all backups that are listed can be restored. Merging copies, so a long
// file is merged only when what is put on it has at least half its length; until
// then it takes room, though little more than what merging would leave. Where
// merging fails, for want of room or because of a disk that cannot be read, it is
// tried again with the next removal.
//
// # Several processes and hosts
//
// Locks are byte ranges of <guest>/.lock, as in a datastore: a crash frees them,
// and NFSv4 carries them.
//
//	                        byte 0 (chain)   byte 1 (making)
//	backup                  shared           exclusive
//	restore                 shared
//	removal, merging        exclusive
//	what a crash left       exclusive        exclusive
//
// A backup waits for a removal to end; everyone else who finds a lock taken says
// so. The example takes no locks: do not use both at a time.
//
// # Hostile images
//
// Who writes to the storage may be anybody with access to it, and a qcow2 header
// names other files. Every chain is opened under the rules of qcow2.OpenIn: all
// files are qcow2 and below the storage, no symbolic link is followed, the length
// is bounded. Nothing else of an image is believed.
//
// # Memory
//
// [copiers] buffers of [piece] bytes, as many of 2 MiB with compression, the tables of one image that is read and of
// one that is written; nothing grows with disks or trees, but lists of backups do
// with their number.
package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Trees says what the tree of a container is kept as.
type Trees string

// The kinds of container archives.
const (
	Tar      Trees = "tar"
	Squashfs Trees = "squashfs" // by mksquashfs; it has no place for ACLs
)

// Options says how a storage is used. The zero value is useful.
type Options struct {
	// Incremental lets the backup of a machine build on the one before, where
	// there is a dirty bitmap.
	Incremental bool
	Trees       Trees  // "": Tar
	Compress    bool   // disks, with zstd: QEMU reads them from version 5.1 on
	Name        string // in logs; "": the directory
	Log         *slog.Logger
}

// Store is a storage in a directory.
type Store struct {
	fs  vfs.FS
	dir string // absolute
	o   Options

	close func() error
}

var _ provider.Storage = (*Store)(nil)

// Open opens the storage in a directory that exists.
func Open(dir string, o Options) (*Store, error) {
	v, err := vfs.OpenOS(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no storage %s: %w: %w", dir, repo.ErrNotFound, err)
		}
		return nil, fmt.Errorf("open storage: %w", err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	s, err := New(v, abs, o)
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	s.close = v.Close
	return s, nil
}

// New makes a storage of a file system; dir is the absolute path of its root,
// which restoring a container needs.
func New(v vfs.FS, dir string, o Options) (*Store, error) {
	switch o.Trees {
	case "":
		o.Trees = Tar
	case Tar, Squashfs:
	default:
		return nil, fmt.Errorf("containers cannot be kept as %q: tar and squashfs can be had", o.Trees)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Name == "" {
		o.Name = dir
	}
	return &Store{fs: v, dir: dir, o: o, close: func() error { return nil }}, nil
}

// Name implements [provider.Storage].
func (s *Store) Name() string { return s.o.Name }

// Identity implements [provider.Storage]: a directory has no name but its path.
func (s *Store) Identity(context.Context) (string, error) { return "", nil }

// Close implements [provider.Storage].
func (s *Store) Close() error { return s.close() }

// Usage implements [provider.Storage].
func (s *Store) Usage(context.Context) (provider.Usage, error) {
	u, err := s.fs.Usage()
	if err != nil {
		return provider.Usage{}, err
	}
	return provider.Usage{Total: int64(u.Total), Free: int64(u.Available), Used: int64(u.Used)}, nil
}

// Prepare implements [provider.Storage].
func (s *Store) Prepare(ctx context.Context) error {
	ids, err := s.guests()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.reconcile(id); err != nil {
			return fmt.Errorf("remove what was left of guest %d: %w", id, err)
		}
	}
	return s.probe()
}

// probe finds out whether the storage can be written to.
func (s *Store) probe() error {
	const name = ".holdfast-probe"
	f, err := s.fs.Create(name, fileMode)
	switch {
	case errors.Is(err, fs.ErrExist): // somebody else's, or what a crash left
		return s.fs.Remove(name)
	case err != nil:
		return fmt.Errorf("storage %s cannot be written to: %w", s.o.Name, err)
	}
	return errors.Join(f.Close(), s.fs.Remove(name))
}

// PutLog implements [provider.Storage].
func (s *Store) PutLog(_ context.Context, a provider.Archive, log []byte) error {
	dir := dirOf(a)
	if _, err := s.fs.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		dir += failedSuffix
		if err := s.mkdir(path.Dir(dir)); err != nil {
			return err
		}
		if err := s.mkdir(dir); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return s.replace(dir, logFile, log)
}
