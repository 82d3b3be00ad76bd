// Package stores is the datastores of a server: which there are, as datastore.cfg
// says, and the open ones.
//
// # datastore.cfg
//
//	datastore: tank
//		comment the big one
//		gc-schedule daily
//		maintenance-mode type=read-only,message="moving"
//		path /mnt/tank
//		tuning sync-level=file
//		verify-new true
//
// What is not known here stays in the file and does not matter. A store with
// backing-device is on a removable disk, and lies below /mnt/datastore while that is
// there.
//
// # Buckets
//
//	datastore: cloud
//		backend type=s3,client=garage,bucket=backups,max-cache-size=64GiB
//		path /var/cache/cloud
//
// The store lies in a bucket of an object store that s3.cfg names (package buckets),
// below the name of the datastore, as with PBS, or below the prefix that backend
// says. Several servers may have the same one, for nothing of it is on this machine; with
// max-cache-size objects that were read are kept below path, up to that size,
// otherwise path does not matter. A datastore that PBS has made in a bucket is
// opened for reading only.
//
// # Open stores
//
// A store is opened when it is needed first and stays open; one that is another
// since, by path or sync level, or gone from the file, is closed when its last
// user is done. The file is looked at again when it has changed. So is the directory,
// each time: one that was removed, and perhaps made again, or on which another disk
// is mounted, is another one, and nothing more is written to what was there.
//
// # Maintenance
//
//	read-only   nothing is written
//	offline     nothing is read either
//	delete      the same: the store is about to go
//	unmount     the same
//	s3-refresh  the same
package stores

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Operation is what a store is opened for.
type Operation int

// The operations.
const (
	Lookup Operation = iota // to see that it is there
	Read
	Write
)

// Store is what a server asks of a datastore, whatever holds it.
type Store interface {
	repo.Repository
	repo.Mender
	repo.Refiller
	repo.Mover
	// Owner returns who owns a group; the zero value if nobody does: then nobody
	// but an administrator can do anything with it.
	Owner(ctx context.Context, ns names.Namespace, g names.Group) (names.AuthID, error)
	// Protected reports whether a snapshot is protected.
	Protected(ctx context.Context, n names.Snapshot) (bool, error)
	// StoredFiles lists what is stored with a snapshot, finished or not, by name:
	// the manifest and what the manifest does not list, too.
	StoredFiles(ctx context.Context, n names.Snapshot) ([]repo.StoredFile, error)
}

// Set is the datastores of a server. It is safe for concurrent use.
type Set struct {
	conf confdir.Dir

	mu     sync.Mutex
	stamp  confdir.Stamp
	loaded bool
	file   *sectionconfig.File
	open   map[string]*shared
}

// New returns the datastores of a configuration.
func New(conf confdir.Dir) *Set { return &Set{conf: conf, open: map[string]*shared{}} }

// List returns the datastores in the order of the file.
func (s *Set) List() ([]Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return nil, err
	}
	var list []Config
	for sec := range s.file.Of(sectionType) {
		list = append(list, configOf(sec))
	}
	return list, nil
}

// Find returns one of them.
func (s *Set) Find(name string) (Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(name)
}

func (s *Set) find(name string) (Config, error) {
	if err := s.load(); err != nil {
		return Config{}, err
	}
	for sec := range s.file.Of(sectionType) {
		if sec.ID == name {
			return configOf(sec), nil
		}
	}
	return Config{}, fmt.Errorf("no such datastore '%s': %w", name, repo.ErrNotFound)
}

// load reads the file anew if it has changed. s.mu is held.
func (s *Set) load() error {
	stamp, err := s.conf.Stamp(confdir.Datastores)
	if err != nil {
		return err
	}
	if s.loaded && stamp.Same(s.stamp) {
		return nil
	}
	text, err := s.conf.Load(confdir.Datastores)
	if err != nil {
		return err
	}
	f, err := sectionconfig.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", confdir.Datastores.Name, err)
	}
	s.stamp, s.file, s.loaded = stamp, f, true
	return nil
}

// Handle is a store in use. Close it.
type Handle struct {
	Store
	Config Config

	set    *Set
	shared *shared
	op     Operation
	once   sync.Once
}

// Open opens a store for an operation, which its maintenance must allow.
func (s *Set) Open(name string, op Operation) (*Handle, error) {
	h, err := s.take(name, op)
	if err != nil {
		return nil, err
	}
	// Others need not wait: a bucket may take long to answer.
	if h.Store, err = h.shared.get(); err != nil {
		return nil, errors.Join(fmt.Errorf("datastore '%s': %w", name, err), s.drop(h))
	}
	return h, nil
}

// take counts a user of a store, which need not be open yet.
func (s *Set) take(name string, op Operation) (*Handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.find(name)
	if err != nil {
		return nil, err
	}
	if err := c.allows(op); err != nil {
		return nil, err
	}
	sh, err := s.share(c)
	if err != nil {
		return nil, fmt.Errorf("datastore '%s': %w", name, err)
	}
	h := &Handle{Config: c, set: s, shared: sh, op: op}
	*h.counter()++
	return h, nil
}

// drop gives up a store that could not be opened; the next user tries it again.
func (s *Set) drop(h *Handle) error {
	s.mu.Lock()
	if s.open[h.Config.Name] == h.shared {
		delete(s.open, h.Config.Name)
	}
	h.shared.old = true
	s.mu.Unlock()
	return h.Close()
}

// share returns the store of a configuration as it is now. s.mu is held.
func (s *Set) share(c Config) (*shared, error) {
	at, err := s.place(c)
	if err != nil {
		return nil, err
	}
	if sh := s.open[c.Name]; sh != nil {
		if sh.at.same(at) {
			return sh, nil
		}
		if err := s.retire(c.Name); err != nil {
			return nil, err
		}
	}
	sh := newShared(at)
	s.open[c.Name] = sh
	return sh, nil
}

// retire closes a store, or lets its last user do it. s.mu is held.
func (s *Set) retire(name string) error {
	sh := s.open[name]
	if sh == nil {
		return nil
	}
	delete(s.open, name)
	sh.old = true
	return sh.closeIfUnused()
}

// Close ends the use.
func (h *Handle) Close() (err error) {
	h.once.Do(func() {
		h.set.mu.Lock()
		defer h.set.mu.Unlock()
		*h.counter()--
		err = h.shared.closeIfUnused()
	})
	return err
}

// counter is where the store counts users like this one.
func (h *Handle) counter() *int {
	if h.op == Write {
		return &h.shared.writers
	}
	return &h.shared.readers
}

// Active returns how many use a store, to read and to write.
func (s *Set) Active(name string) (reading, writing int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh := s.open[name]; sh != nil {
		return sh.readers, sh.writers
	}
	return 0, 0
}

// Ready reports whether a store is open, so that whoever opens it does not wait.
func (s *Set) Ready(name string) bool {
	s.mu.Lock()
	sh := s.open[name]
	s.mu.Unlock()
	return sh != nil && sh.ready.Load()
}

// Close closes all stores; those in use when their users are done.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for name := range s.open {
		errs = append(errs, s.retire(name))
	}
	return errors.Join(errs...)
}

// Names lists the names of the datastores, sorted.
func (s *Set) Names() ([]string, error) {
	list, err := s.List()
	var all []string
	for _, c := range list {
		all = append(all, c.Name)
	}
	slices.Sort(all)
	return all, err
}

// Change changes the file under its lock, if digest, as the caller was shown it, is
// still that of the file; "" is of any.
func (s *Set) Change(ctx context.Context, digest string, edit func(*sectionconfig.File) error) error {
	return s.conf.ChangeSections(ctx, confdir.Datastores, digest, edit)
}

// Digest is that of the file.
func (s *Set) Digest() (string, error) {
	text, err := s.conf.Load(confdir.Datastores)
	return confdir.DigestOf(text).String(), err
}
