// Package keystore keeps key files and the like: small files that must not be
// lost, not be seen by others, and never be there by half.
//
// # Promises
//
// [Store.Save] makes a file that must not exist yet, [Store.Replace] gives a
// file that exists another content, [Store.Put] does what of the two is
// needed. After a crash at any moment, and after any
// error, the name holds what it held before (nothing, or the old content in
// full) or the new content in full. Once one of them has returned nil, it is the
// new content, also after a power failure. Two that run at a time do not mix:
// one Save wins, the other gets fs.ErrExist; of Replaces and Puts the last wins.
//
// # Steps
//
//  1. A file with a random name, ".holdfast-key-" and 16 hex digits and ".tmp",
//     is made beside the name, with mode 0600 from its first moment on.
//  2. Replace gives it the old file's owner, group and their permissions; what
//     others were allowed is not kept. If the group cannot be kept, the mode
//     stays 0600; if the owner cannot, Replace fails. A new file that is to be
//     shared gets the directory's group, and mode 0640; if it cannot get the
//     group, the mode stays 0600.
//  3. It is written and synced.
//  4. Replace and Put rename it over the old file, in one step. Save gives it the name
//     only if that is free, in one step where the disk has hard links.
//  5. The directory is synced.
//
// A crash may leave the file of step 1 behind. It is never read, and a later
// Save or Replace in that directory removes those older than an hour.
//
// # Symbolic links
//
// [Load] follows them, as do the functions [Save] and [Replace] in the directory
// part of a path. Replace also follows a link at the end of it, and replaces
// the file that it leads to, in that file's directory: the link stays. For Save
// a link counts as a file that exists, even if it leads nowhere.
//
// # Errors
//
// Errors wrap fs.ErrExist from Save, fs.ErrNotExist from Replace and Load,
// vfs.ErrNotRegular, [ErrTooLarge], or the system's own. [ErrUnsure] says that
// the new content is or may be in place and the disk did not confirm it; after
// every other error the name holds what it held before.
package keystore

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// MaxSize is the largest content, in bytes, of a store that was not told another.
const MaxSize = keyfile.MaxSize

var (
	// ErrTooLarge is wrapped when a file or content is larger than MaxSize.
	ErrTooLarge = errors.New("too large for a key file")
	// ErrUnsure is wrapped when the outcome is not known to be durable.
	ErrUnsure = errors.New("not confirmed by the disk")
)

const (
	tempPrefix = ".holdfast-key-"
	tempSuffix = ".tmp"
	tempAge    = time.Hour // after that a temporary file is a leftover
	private    = 0o600
)

// Disk is what a store needs: a part of [vfs.FS], and two calls that only key
// files need.
type Disk interface {
	Open(name string) (vfs.File, error)
	Create(name string, perm fs.FileMode) (vfs.File, error)
	Mkdir(name string, perm fs.FileMode) error
	Rename(oldName, newName string) error
	Remove(name string) error
	ReadDir(name string) ([]vfs.DirEntry, error)
	Lstat(name string) (vfs.Info, error)
	SyncDir(name string) error
	Now() time.Time
	// Claim renames to a name that must be free; if not, its error wraps
	// fs.ErrExist and nothing has happened. It may leave the old name as well.
	Claim(oldName, newName string) error
	// Inherit gives a file the owner, group and permissions of another, and
	// never lets anybody in who may not read that one.
	Inherit(name, model string) error
	// Share lets the group of a file's directory read the file.
	Share(name string) error
}

// Store keeps key files on one disk. It has no state and may be used
// concurrently as far as the random source may.
type Store struct {
	disk Disk
	rand io.Reader
	max  int
}

// New returns a store. rand makes names, no secrets.
func New(d Disk, rand io.Reader) Store { return Store{d, rand, MaxSize} }

// Limited returns the same store for contents of up to max bytes.
func (s Store) Limited(max int) Store {
	s.max = max
	return s
}

// MakeDir makes a directory that only its owner may enter, and those above it,
// durable. One that exists stays as it is.
func (s Store) MakeDir(name string) error {
	if _, err := s.disk.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	above, _ := vfs.Split(name)
	if err := s.MakeDir(above); err != nil {
		return err
	}
	if err := s.disk.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.disk.SyncDir(above); err != nil {
		_ = s.disk.Remove(name) // so that the next attempt does not take it for durable
		return err
	}
	return nil
}

// Save makes a file that does not exist.
func (s Store) Save(name string, content []byte) error { return s.save(name, content, nil) }

// SaveShared is the same for a file that the group of its directory may read.
func (s Store) SaveShared(name string, content []byte) error {
	return s.save(name, content, s.disk.Share)
}

func (s Store) save(name string, content []byte, prepare func(temp string) error) error {
	switch _, err := s.disk.Lstat(name); {
	case err == nil:
		return fmt.Errorf("%s: %w", name, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return s.put(name, content, prepare, s.disk.Claim)
}

// Replace gives a file another content.
func (s Store) Replace(name string, content []byte) error {
	info, err := s.disk.Lstat(name)
	if err != nil {
		return err
	}
	if !info.Mode.IsRegular() {
		return fmt.Errorf("%s: %w", name, vfs.ErrNotRegular)
	}
	return s.put(name, content, func(temp string) error { return s.disk.Inherit(temp, name) }, s.disk.Rename)
}

// Put gives a name a content, whether there is a file or not. shared counts for a
// new file: the group of its directory may read it.
func (s Store) Put(name string, content []byte, shared bool) error {
	_, err := s.disk.Lstat(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return s.Replace(name, content)
	}
	var prepare func(string) error
	if shared {
		prepare = s.disk.Share
	}
	return s.put(name, content, prepare, s.disk.Rename)
}

// put writes a temporary file and moves it to its name. prepare may be nil.
func (s Store) put(name string, content []byte, prepare func(temp string) error, move func(from, to string) error) error {
	if len(content) > s.max {
		return fmt.Errorf("%s: %w: %d bytes, at most %d", name, ErrTooLarge, len(content), s.max)
	}
	dir, _ := vfs.Split(name)
	s.sweep(dir)
	temp, f, err := s.create(dir)
	if err != nil {
		return err
	}
	if err := s.write(temp, f, content, prepare); err != nil {
		_ = s.disk.Remove(temp)
		return err
	}
	if err := move(temp, name); err != nil {
		// A network may lose the answer to a call that was done.
		done, cause := s.holds(name, content)
		if !done {
			_ = s.disk.Remove(temp)
		}
		switch {
		case cause != nil:
			return fmt.Errorf("%w: %w", ErrUnsure, err)
		case !done:
			return err
		}
	}
	if err := s.disk.SyncDir(dir); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsure, err)
	}
	return nil
}

// create makes an empty temporary file.
func (s Store) create(dir string) (name string, f vfs.File, err error) {
	for range 8 { // a name that is taken is no error of the caller's
		var b [8]byte
		if _, err := io.ReadFull(s.rand, b[:]); err != nil {
			return "", nil, fmt.Errorf("random bytes: %w", err)
		}
		name = join(dir, tempPrefix+hex.EncodeToString(b[:])+tempSuffix)
		f, err = s.disk.Create(name, private)
		if err == nil {
			return name, f, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			_ = s.disk.Remove(name) // if it was made after all, and the answer lost
			return "", nil, err
		}
	}
	return "", nil, fmt.Errorf("no free name for a temporary file: %v", err) // not fs.ErrExist
}

// write fills a file and makes it durable but for its name.
func (s Store) write(name string, f vfs.File, content []byte, prepare func(temp string) error) (err error) {
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if prepare != nil { // while it is empty
		if err := prepare(name); err != nil {
			return err
		}
	}
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

// holds reports whether a name has this content. Its error says that nobody
// can tell.
func (s Store) holds(name string, content []byte) (bool, error) {
	have, err := s.Load(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, vfs.ErrNotRegular) || errors.Is(err, ErrTooLarge) {
		return false, nil
	}
	return err == nil && bytes.Equal(have, content), err
}

// Load reads a file of at most the store's limit.
func (s Store) Load(name string) ([]byte, error) {
	f, err := s.disk.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readAll(name, io.NewSectionReader(f, 0, int64(s.max)+1), s.max)
}

func readAll(name string, r io.Reader, max int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(max)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > max {
		clear(b)
		return nil, fmt.Errorf("%s: %w: more than %d bytes", name, ErrTooLarge, max)
	}
	return b, nil
}

// sweep removes what crashes left behind. What it cannot remove does no harm.
func (s Store) sweep(dir string) {
	list, _ := s.disk.ReadDir(dir)
	for _, e := range list {
		if !e.IsRegular() || !strings.HasPrefix(e.Name, tempPrefix) || !strings.HasSuffix(e.Name, tempSuffix) {
			continue
		}
		name := join(dir, e.Name)
		if info, err := s.disk.Lstat(name); err == nil && s.disk.Now().Sub(info.Mtime) > tempAge {
			_ = s.disk.Remove(name)
		}
	}
}

func join(dir, base string) string {
	if dir == "." {
		return base
	}
	return dir + "/" + base
}
