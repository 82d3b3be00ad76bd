package config

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
)

var (
	ErrNotFound = errors.New("not configured")
	ErrExists   = errors.New("there is one of this name already")
	ErrInUse    = errors.New("in use")
)

// Kind is what a section is about.
type Kind int

// The kinds.
const (
	LTO     Kind = iota // a drive
	Virtual             // a directory that is a drive and its changer
	Changer
	Pool
	Job
)

// kinds says how the kinds are called, in files and in messages, and in which file
// they are.
var kinds = []struct {
	section, says string
	file          confdir.File
	shortest      int // name
}{
	{"lto", "drive", confdir.Tape, 3},
	{"virtual", "drive", confdir.Tape, 3},
	{"changer", "changer", confdir.Tape, 3},
	{"pool", "pool", confdir.MediaPools, 2},
	{"backup", "tape job", confdir.TapeJobs, 3},
}

// String says what it is in a few words.
func (k Kind) String() string { return kinds[k].says }

// Config is the directory with the files. It has no state and is safe for
// concurrent use.
type Config struct{ dir confdir.Dir }

// New returns what is configured in a directory.
func New(dir confdir.Dir) Config { return Config{dir} }

// Section returns one section as it is in its file, and the digest of that.
func (c Config) Section(k Kind, name string) (*sectionconfig.Section, confdir.Digest, error) {
	f, digest, err := c.load(kinds[k].file)
	if err != nil {
		return nil, digest, err
	}
	sec, err := find(f, k, name)
	return sec, digest, err
}

// Sections returns the sections of a kind in the order of the file, and the digest
// of that.
func (c Config) Sections(k Kind) ([]*sectionconfig.Section, confdir.Digest, error) {
	f, digest, err := c.load(kinds[k].file)
	if err != nil {
		return nil, digest, err
	}
	var list []*sectionconfig.Section
	for sec := range f.Of(kinds[k].section) {
		list = append(list, sec)
	}
	return list, digest, nil
}

func find(f *sectionconfig.File, k Kind, name string) (*sectionconfig.Section, error) {
	sec := f.Find(name)
	if sec == nil || sec.Type != kinds[k].section {
		return nil, fmt.Errorf("%s %.40q: %w", k, name, ErrNotFound)
	}
	return sec, nil
}

func (c Config) load(file confdir.File) (*sectionconfig.File, confdir.Digest, error) {
	text, err := c.dir.Load(file)
	if err != nil {
		return nil, confdir.Digest{}, err
	}
	f, err := sectionconfig.Parse(text)
	if err != nil {
		return nil, confdir.Digest{}, fmt.Errorf("%s: %w", file.Name, err)
	}
	return f, confdir.DigestOf(text), nil
}

// Create adds a section.
func (c Config) Create(ctx context.Context, k Kind, name string, v property.Values) error {
	return c.dir.ChangeSections(ctx, kinds[k].file, "", func(f *sectionconfig.File) error {
		if err := checkName(k, name); err != nil {
			return err
		}
		sec, added := f.Add(kinds[k].section, name)
		if !added {
			return fmt.Errorf("%s %q: %w", k, name, ErrExists)
		}
		return c.set(f, sec, k, v)
	})
}

// Update changes a section if digest is still that of its file; "" is of any.
func (c Config) Update(ctx context.Context, k Kind, name, digest string, v property.Values) error {
	return c.dir.ChangeSections(ctx, kinds[k].file, digest, func(f *sectionconfig.File) error {
		sec, err := find(f, k, name)
		if err != nil {
			return err
		}
		return c.set(f, sec, k, v)
	})
}

func (c Config) set(f *sectionconfig.File, sec *sectionconfig.Section, k Kind, v property.Values) error {
	err := v.Set(sec, Properties(k))
	if err == nil {
		err = check(f, sec, k)
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w", k, sec.ID, err)
	}
	return nil
}

// Remove removes a section that nothing else names.
func (c Config) Remove(ctx context.Context, k Kind, name, digest string) error {
	if err := c.unused(k, name); err != nil {
		return err
	}
	return c.dir.ChangeSections(ctx, kinds[k].file, digest, func(f *sectionconfig.File) error {
		if _, err := find(f, k, name); err != nil {
			return err
		}
		f.Remove(name)
		return nil
	})
}

// unused reports who names a section.
func (c Config) unused(k Kind, name string) error {
	kind, key := Job, ""
	switch k {
	case Changer:
		kind, key = LTO, "changer"
	case LTO, Virtual:
		key = "drive"
	case Pool:
		key = "pool"
	case Job:
		return nil
	}
	users, _, err := c.Sections(kind)
	if err != nil {
		return err
	}
	for _, sec := range users {
		if used, _ := sec.Get(key); used == name {
			return fmt.Errorf("%s %q: %w by the %s %q", k, name, ErrInUse, kind, sec.ID)
		}
	}
	return nil
}

func checkName(k Kind, name string) error {
	if n := kinds[k].shortest; !names.IsSafeID(name) || len(name) < n || len(name) > 32 {
		return fmt.Errorf("%s %.40q: want %d to 32 letters, digits, '-', '_' or '.'", k, name, n)
	}
	return nil
}
