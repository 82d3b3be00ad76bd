// Package datastore is a repository in a directory, byte for byte a datastore
// of Proxmox Backup Server (PBS), on top of a vfs.FS.
//
// # Layout
//
//	.lock                      record locks between writers and garbage collection
//	.gc-status                 JSON, the last garbage collection
//	.chunks/0000 .. ffff/      chunks, named by digest, each an encoded blob
//	{vm,ct,host}/ID/           a group: owner, notes, one directory a snapshot
//	{vm,ct,host}/ID/TIME/      a snapshot: indexes, blobs, index.json.blob, .protected
//	ns/NAME/                   a namespace, with the three types and ns again
//	.holdfast/                 ours alone, invisible to PBS: locks, writers
//
// # What is visible when
//
// A snapshot exists for readers when index.json.blob is in place. A session
// writes in this order: chunks, index under a temporary name, sync of that
// index, rename of the index, sync of everything (see [SyncLevel]), manifest
// under a temporary name, sync of it, rename, sync of the directory. Removal
// goes the other way round: the manifest first, then a sync, then the rest.
//
// A chunk file that was there before a session and that no finished snapshot
// vouches for is read and its CRC checked before the session relies on it: it
// may be what a power cut left of an earlier, unfinished session.
//
// # Locks
//
// All locks are byte-range locks, on two files: .lock, whose whole range PBS
// takes, and .holdfast/locks, where a byte stands for each thing (see
// lockfile.go). A process on another host takes part where the network file
// system carries such locks. On the host of a PBS, the lock files of PBS are
// taken too ([PeerLocks]).
//
//	operation                takes
//	backup session           .lock [0,1) shared, writer entry; group exclusive;
//	                         previous snapshot shared; new snapshot exclusive
//	insert or touch a chunk  the chunk's directory shared, for that moment
//	mend                     .lock [0,1) shared, writer entry; group exclusive;
//	                         snapshot exclusive
//	open to read, verify     snapshot shared
//	notes, verify state      manifest exclusive
//	client log               snapshot shared, then manifest exclusive
//	forget, prune            snapshot exclusive, manifest; then group (try)
//	forget a group           group exclusive, then each snapshot as above
//	protect                  snapshot exclusive
//	group notes, owner       group exclusive
//	move a group             .lock [1,∞) exclusive; the group exclusive in both
//	                         namespaces; each snapshot exclusive, manifest
//	garbage collection       .lock [1,∞) exclusive; each chunk directory
//	                         exclusive while it is swept
//
// PBS writers lock the whole of .lock shared, so they and our garbage
// collection exclude one another; our writers hold byte 0 only, so they may
// run beside our collection, which learns the start of the oldest from the
// writer entries, while a collection of PBS (exclusive on the whole file) still
// stays out. Meeting pairs:
//
//	backup   × GC       chunks touched since the oldest writer's start stay
//	backup   × forget   the previous snapshot is locked shared
//	insert   × sweep    the chunk directory's lock
//	verify   × forget   snapshot lock; who comes second gives up
//	verify   × insert   a damaged chunk is set aside under its directory's
//	                    exclusive lock, after another look
//	verify   × backup   a base that is found damaged fails the backup at its end
//	prune    × backup   a snapshot judged unfinished stays if it is finished now
//	move     × GC       one at a time: the mark phase could miss a snapshot twice
//	forget   × GC       what vanishes or appears makes the mark phase look again
//
// # Source
//
// proxmox-backup: pbs-datastore/src (chunk_store.rs, datastore.rs,
// backup_info.rs); docs/formats.
package datastore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Names inside the base directory.
const (
	lockFile     = ".lock"
	gcStatusFile = ".gc-status"
	privateDir   = ".holdfast"
	rangesFile   = ".holdfast/locks"
	writersDir   = ".holdfast/writers"
	manifestName = "index.json.blob"
	clientLog    = "client.log.blob"
)

// Permissions as PBS sets them.
const (
	dirPerm   fs.FileMode = 0o755
	chunkPerm fs.FileMode = 0o750
	filePerm  fs.FileMode = 0o644
)

// SyncLevel says how hard a session works to survive a power cut.
type SyncLevel string

// The levels, named as in PBS. With SyncNone an acknowledged backup may be
// lost or damaged by a power cut; with the other two it cannot.
const (
	SyncNone       SyncLevel = "none"
	SyncFilesystem SyncLevel = "filesystem" // one syncfs before the manifest
	SyncFile       SyncLevel = "file"       // every chunk and its directory
)

// ParseSyncLevel reads the text form.
func ParseSyncLevel(s string) (SyncLevel, error) {
	switch l := SyncLevel(s); l {
	case SyncNone, SyncFilesystem, SyncFile:
		return l, nil
	}
	return "", fmt.Errorf("sync level %q: want none, filesystem or file", s)
}

// PeerLocks are the lock files of a PBS that serves the same directory. Lock
// takes the lock of a group or snapshot, named type/id[/time], in ns; it never
// waits and fails with vfs.ErrLocked.
type PeerLocks interface {
	Lock(ns names.Namespace, rel string, mode vfs.LockMode) (vfs.Unlocker, error)
}

// Options configure an opened store; the zero value is right for use.
type Options struct {
	Location string    // for people; where the store is
	Sync     SyncLevel // default SyncFilesystem
	Peer     PeerLocks // nil when no PBS serves the directory
	Node     string    // host name in UPIDs; default "localhost"
	PID      int
	Rand     io.Reader // default crypto/rand
	// Sleep waits, or returns early with the context's cause. Tests with a
	// simulated clock replace it.
	Sleep func(context.Context, time.Duration) error
}

// Store is an open datastore. It is safe for concurrent use and implements
// repo.Repository.
type Store struct {
	fs     vfs.FS
	opt    Options
	codecs *codecs
}

var _ repo.Repository = (*Store)(nil)

// Open opens the datastore at the root of fsys. It fails with
// repo.ErrNotFound when there is no chunk directory, and writes nothing.
func Open(fsys vfs.FS, opt Options) (*Store, error) {
	s := &Store{fs: fsys, opt: opt, codecs: new(codecs)}
	if s.opt.Sync == "" {
		s.opt.Sync = SyncFilesystem
	}
	if s.opt.Node == "" {
		s.opt.Node = "localhost"
	}
	if s.opt.Rand == nil {
		s.opt.Rand = rand.Reader
	}
	if s.opt.Sleep == nil {
		s.opt.Sleep = cancel.Sleep
	}
	info, err := fsys.Lstat(names.ChunkDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %s holds no repository (no %s directory)", repo.ErrNotFound, s.Location(), names.ChunkDir)
	case err != nil:
		return nil, fmt.Errorf("open repository %s: %w", s.Location(), err)
	case !info.Mode.IsDir():
		return nil, fmt.Errorf("%w: %s holds no repository (%s is not a directory)", repo.ErrNotFound, s.Location(), names.ChunkDir)
	}
	return s, nil
}

// Location names the repository for people.
func (s *Store) Location() string {
	if s.opt.Location == "" {
		return "."
	}
	return s.opt.Location
}

// Usage reports the capacity of the file system.
func (s *Store) Usage(context.Context) (vfs.Usage, error) { return s.fs.Usage() }

// Close releases the file system. Sessions and snapshots end before.
func (s *Store) Close() error {
	s.codecs.close()
	if c, ok := s.fs.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
