package stores

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Addition is a datastore that is to be.
type Addition struct {
	Name, Path string
	Backend    string                // as the file has it; "": a directory
	Reuse      bool                  // it is there: only the configuration is new
	Values     property.Values       // of Properties; may be nil
	Progress   func(done, total int) // may be nil
}

// OccupiedError says that where a new datastore was to be there is a repository, which
// Reuse takes in.
type OccupiedError struct{ err error }

func (e *OccupiedError) Error() string { return e.err.Error() }
func (e *OccupiedError) Unwrap() error { return e.err }

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
	if err := s.lay(ctx, a); err != nil {
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
		a.say(sec)
		return a.Values.Set(sec, Properties())
	})
}

// say writes where the store is.
func (a Addition) say(sec *sectionconfig.Section) {
	if a.Path != "" {
		sec.Set("path", a.Path)
	}
	if a.Backend != "" {
		sec.Set("backend", a.Backend)
	}
}

// config is what the file will say.
func (a Addition) config() Config {
	sec := &sectionconfig.Section{Type: sectionType, ID: a.Name}
	a.say(sec)
	return configOf(sec)
}

func check(list []Config, a Addition) error {
	b, err := a.config().Backend()
	if err != nil {
		return err
	}
	if b.Type == Filesystem && a.Path == "" {
		return errors.New("a datastore in a directory needs a path")
	}
	if b.Cache > 0 && a.Path == "" {
		return errors.New("max-cache-size needs a path: the directory of the cache")
	}
	for _, c := range list {
		if c.Name == a.Name {
			return fmt.Errorf("datastore '%s': %w", a.Name, repo.ErrExists)
		}
		if other, err := c.Backend(); err == nil && b.overlaps(other) {
			return fmt.Errorf("it and the datastore '%s' lie in one another", c.Name)
		}
	}
	return CheckNested(list, a.Path)
}

// lay makes what is to hold the store, or looks whether it is there.
func (s *Set) lay(ctx context.Context, a Addition) error {
	at, err := s.place(a.config())
	if err != nil {
		return err
	}
	if !a.Reuse {
		err := at.create(ctx, a.Progress)
		if errors.Is(err, repo.ErrExists) {
			return &OccupiedError{err}
		}
		return err
	}
	st, err := at.open(ctx)
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
