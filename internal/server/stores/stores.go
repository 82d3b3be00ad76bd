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
// What is not known here stays in the file and does not matter, but for what
// could not be served rightly: a backend other than filesystem makes opening fail.
// A store with backing-device is on a removable disk, and lies below
// /mnt/datastore while that is there.
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
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
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

var _ Store = (*datastore.Store)(nil)

// Set is the datastores of a server. It is safe for concurrent use.
type Set struct {
	conf confdir.Dir

	mu     sync.Mutex
	stamp  confdir.Stamp
	loaded bool
	file   *sectionconfig.File
	open   map[string]*shared
}

// shared is one open store.
type shared struct {
	store   Store
	path    string
	dir     os.FileInfo // of the directory when it was opened
	sync    datastore.SyncLevel
	readers int
	writers int
	old     bool // to be closed when nobody uses it any more
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
	if op == Write {
		sh.writers++
	} else {
		sh.readers++
	}
	return &Handle{Store: sh.store, Config: c, set: s, shared: sh, op: op}, nil
}

// share returns the open store of a configuration, and opens it if need be. s.mu
// is held.
func (s *Set) share(c Config) (*shared, error) {
	path, err := c.location()
	if err != nil {
		return nil, err
	}
	level, err := c.syncLevel()
	if err != nil {
		return nil, err
	}
	// Looked at before it is opened: if it is replaced in between, the next one sees
	// that it is another.
	info, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if sh := s.open[c.Name]; sh != nil {
		if sh.path == path && sh.sync == level && err == nil && os.SameFile(sh.dir, info) {
			return sh, nil
		}
		if err := s.retire(c.Name); err != nil {
			return nil, err
		}
	}
	st, err := dir.Open(path, dir.Options{Sync: level})
	if err != nil {
		return nil, err
	}
	sh := &shared{store: st, path: path, dir: info, sync: level}
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

func (sh *shared) closeIfUnused() error {
	if !sh.old || sh.readers+sh.writers > 0 {
		return nil
	}
	return sh.store.Close()
}

// Close ends the use.
func (h *Handle) Close() (err error) {
	h.once.Do(func() {
		h.set.mu.Lock()
		defer h.set.mu.Unlock()
		if h.op == Write {
			h.shared.writers--
		} else {
			h.shared.readers--
		}
		err = h.shared.closeIfUnused()
	})
	return err
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

// CheckName reports whether a name can be that of a datastore.
func CheckName(name string) error { return names.CheckStore(name) }
