package stores

import (
	"context"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
)

// Addition is a datastore that is to be.
type Addition struct {
	Name, Path string
	Reuse      bool                  // it is there: only the configuration is new
	Values     property.Values       // of Properties; may be nil
	Progress   func(done, total int) // may be nil
}

// Add makes a datastore and puts it into the file, as the last step: a failure
// leaves at most a directory behind.
func (s *Set) Add(ctx context.Context, a Addition) error {
	if err := names.CheckStore(a.Name); err != nil {
		return err
	}
	list, err := s.List()
	if err != nil {
		return err
	}
	if err := check(list, a); err != nil {
		return err
	}
	if err := a.Values.Set(new(sectionconfig.Section), Properties()); err != nil {
		return fmt.Errorf("datastore '%s': %w", a.Name, err)
	}
	if a.Reuse {
		err = look(a.Path)
	} else {
		err = dir.Create(ctx, a.Path, datastore.CreateOptions{Progress: a.Progress})
	}
	if err != nil {
		return fmt.Errorf("datastore '%s': %w", a.Name, err)
	}
	return s.Change(ctx, "", func(f *sectionconfig.File) error {
		var now []Config // another may have been faster
		for sec := range f.Of(sectionType) {
			now = append(now, configOf(sec))
		}
		if err := check(now, a); err != nil {
			return err
		}
		sec, ok := f.Add(sectionType, a.Name)
		if !ok {
			return fmt.Errorf("datastore '%s': %w", a.Name, repo.ErrExists)
		}
		sec.Set("path", a.Path)
		return a.Values.Set(sec, Properties())
	})
}

func check(list []Config, a Addition) error {
	for _, c := range list {
		if c.Name == a.Name {
			return fmt.Errorf("datastore '%s': %w", a.Name, repo.ErrExists)
		}
	}
	return CheckNested(list, a.Path)
}

// look opens what is to be taken in.
func look(path string) error {
	st, err := dir.Open(path, dir.Options{})
	if err != nil {
		return err
	}
	return st.Close()
}

// Update changes what is said of a datastore.
func (s *Set) Update(ctx context.Context, digest, name string, v property.Values) error {
	return s.Change(ctx, digest, func(f *sectionconfig.File) error {
		sec := f.Find(name)
		if sec == nil || sec.Type != sectionType {
			return fmt.Errorf("no such datastore '%s': %w", name, repo.ErrNotFound)
		}
		if err := v.Set(sec, Properties()); err != nil {
			return fmt.Errorf("datastore '%s': %w", name, err)
		}
		return nil
	})
}

// Remove takes a datastore out of the file. What is in its directory stays.
func (s *Set) Remove(ctx context.Context, digest, name string) error {
	err := s.Change(ctx, digest, func(f *sectionconfig.File) error {
		sec := f.Find(name)
		if sec == nil || sec.Type != sectionType {
			return fmt.Errorf("no such datastore '%s': %w", name, repo.ErrNotFound)
		}
		f.Remove(name)
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		err = s.retire(name)
	}
	return err
}
