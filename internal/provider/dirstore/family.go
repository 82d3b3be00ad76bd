package dirstore

import (
	"errors"
	"io/fs"
	"path"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// family is the archives of one guest number and who builds on whom.
type family struct {
	all  []provider.Archive                      // from old to new
	on   map[provider.Archive][]provider.Archive // what the disks of an archive have backing files in
	gone map[provider.Archive]bool               // not listed: there for others only, if at all
}

// family reads it. The caller has the lock on the chain.
func (s *Store) family(id int) (*family, error) {
	all, err := s.archives(id)
	if err != nil {
		return nil, err
	}
	f := &family{all: all, on: map[provider.Archive][]provider.Archive{}, gone: map[provider.Archive]bool{}}
	for _, a := range all {
		if f.gone[a], err = s.isRemoved(a); err != nil {
			return nil, err
		}
		if err := s.look(f, a); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// look finds out what an archive builds on now. A disk that is damaged builds
// on nothing: it cannot be restored anyway.
func (s *Store) look(f *family, a provider.Archive) error {
	devices, err := s.disks(a)
	if err != nil {
		return err
	}
	f.on[a] = nil
	for _, device := range devices {
		h, err := s.header(a, device)
		if _, damaged := errors.AsType[*repo.CorruptError](err); damaged {
			s.o.Log.Warn("a disk of a backup cannot be read", "backup", a.Name, "device", device, "error", err)
			continue
		}
		if err != nil {
			return err
		}
		if p, ok := s.parent(a, &h); ok && !slices.Contains(f.on[a], p) {
			f.on[a] = append(f.on[a], p)
		}
	}
	return nil
}

// unneeded lists what is not listed and nobody builds on who is, from new to
// old: so what is still there at any moment has all that it needs.
func (f *family) unneeded() []provider.Archive {
	needed := map[provider.Archive]bool{}
	var need func(a provider.Archive)
	need = func(a provider.Archive) {
		if !needed[a] {
			needed[a] = true
			for _, p := range f.on[a] {
				need(p)
			}
		}
	}
	for _, a := range f.all {
		if !f.gone[a] {
			need(a)
		}
	}
	var list []provider.Archive
	for _, a := range slices.Backward(f.all) {
		if !needed[a] {
			list = append(list, a)
		}
	}
	return list
}

// isRemoved reports whether an archive is there for others only.
func (s *Store) isRemoved(a provider.Archive) (bool, error) {
	_, err := s.fs.Lstat(path.Join(dirOf(a), removedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
