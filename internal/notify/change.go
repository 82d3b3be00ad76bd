package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
)

// The kinds of failure of changes.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
)

// Book is the sections of both files, as they were read.
type Book struct {
	Digest          confdir.Digest // of notifications.cfg
	public, private *sectionconfig.File
}

// Read reads the files of a configuration.
func Read(conf confdir.Dir) (*Book, error) {
	text, err := conf.Load(confdir.Notifications)
	if err != nil {
		return nil, err
	}
	secrets, err := conf.Load(confdir.NotifySecrets)
	if err != nil {
		return nil, err
	}
	return parse(text, secrets)
}

func parse(text, secrets []byte) (b *Book, err error) {
	b = &Book{Digest: confdir.DigestOf(text)}
	if b.public, err = sectionconfig.Parse(text); err != nil {
		return nil, fmt.Errorf("%s: %w", confdir.Notifications.Name, err)
	}
	if b.private, err = sectionconfig.Parse(secrets); err != nil {
		return nil, fmt.Errorf("%s: %w", confdir.NotifySecrets.Name, err)
	}
	return b, nil
}

// Of lists the sections of a type, not to be changed.
func (b *Book) Of(typ string) []*sectionconfig.Section {
	return slices.Collect(b.public.Of(typ))
}

// Find returns a section, not to be changed.
func (b *Book) Find(typ, name string) (*sectionconfig.Section, error) {
	sec := b.public.Find(name)
	if sec == nil || sec.Type != typ {
		return nil, fmt.Errorf("%s %q: %w in %s", typ, name, ErrNotFound, confdir.Notifications.Name)
	}
	return sec, nil
}

// SecretNames lists the names of the secrets of a webhook.
func (b *Book) SecretNames(name string) (list []string) {
	if sec := b.private.Find(name); sec != nil && sec.Type == "webhook" {
		for _, text := range sec.All("secret") {
			if name, _, err := keyed(text); err == nil {
				list = append(list, name)
			}
		}
	}
	return list
}

// Change is new values of a section in both files; add says that it is a new one.
type Change struct {
	Type, Name string
	Add        bool
	Values     property.Values // of Properties
	Secrets    property.Values // of SecretProperties
	Digest     string          // that notifications.cfg has to have; "": any
}

// Apply changes the files. A target that could not be used is refused, and so is a
// matcher with a target that is not there.
func (c Change) Apply(ctx context.Context, conf confdir.Dir, o Options) error {
	err := edit(ctx, conf, c.Digest, func(b *Book) error {
		sec, secrets, err := c.sections(b)
		if err != nil {
			return err
		}
		if err := c.Values.Set(sec, Properties(c.Type)); err != nil {
			return err
		}
		if err := property.Check(sec, Properties(c.Type)); err != nil {
			return err
		}
		if secrets != nil {
			if err := keep(c.Secrets, secrets).Set(secrets, SecretProperties(c.Type)); err != nil {
				return err
			}
			if len(secrets.Props) == 0 {
				b.private.Remove(c.Name)
			}
		}
		return b.usable(sec, secrets, o.orDefaults())
	})
	if err != nil {
		return fmt.Errorf("%s %q: %w", c.Type, c.Name, err)
	}
	return nil
}

// sections are the one of the public file and that of the private one; the latter is
// nil where there are no secrets.
func (c Change) sections(b *Book) (sec, secrets *sectionconfig.Section, err error) {
	if c.Add {
		if err := isName(c.Name); err != nil {
			return nil, nil, err
		}
		var ok bool
		if sec, ok = b.public.Add(c.Type, c.Name); !ok {
			return nil, nil, ErrExists
		}
		b.private.Remove(c.Name) // of an older one
	} else if sec, err = b.Find(c.Type, c.Name); err != nil {
		return nil, nil, err
	}
	if SecretProperties(c.Type) == nil {
		return sec, nil, nil
	}
	if secrets = b.private.Find(c.Name); secrets == nil {
		secrets, _ = b.private.Add(c.Type, c.Name)
	}
	return sec, secrets, nil
}

// keep gives secrets that are named without a value the one that they have.
func keep(v property.Values, old *sectionconfig.Section) property.Values {
	list, given := v["secret"]
	if !given {
		return v
	}
	had := map[string]string{}
	for _, text := range old.All("secret") {
		if name, _, err := keyed(text); err == nil {
			had[name] = text
		}
	}
	list = slices.Clone(list)
	for i, text := range list {
		p, err := sectionconfig.ParseProperties(text, "")
		if err != nil {
			continue // told when it is set
		}
		name, _ := p.Get("name")
		if _, has := p.Get("value"); !has && had[name] != "" {
			list[i] = had[name]
		}
	}
	return property.Values{"secret": list}
}

// usable reports whether a section is good for what it is.
func (b *Book) usable(sec, secrets *sectionconfig.Section, o Options) error {
	if sec.Type != Matcher {
		if secrets == nil {
			secrets = new(sectionconfig.Section)
		}
		_, err := newTarget(sec, secrets, o)
		return err
	}
	for _, name := range sec.All("target") {
		if t := b.public.Find(name); t == nil || t.Type == Matcher {
			return fmt.Errorf("target %q: %w", name, ErrNotFound)
		}
	}
	_, err := parseMatcher(sec)
	return err
}

// Remove removes a section, and its secrets. A target that a matcher names stays.
func Remove(ctx context.Context, conf confdir.Dir, typ, name, digest string) error {
	return edit(ctx, conf, digest, func(b *Book) error {
		if _, err := b.Find(typ, name); err != nil {
			return err
		}
		for m := range b.public.Of(Matcher) {
			if typ != Matcher && slices.Contains(m.All("target"), name) {
				return fmt.Errorf("%s %q: the matcher %q names it", typ, name, m.ID)
			}
		}
		b.public.Remove(name)
		b.private.Remove(name)
		return nil
	})
}

// edit changes both files under their lock.
func edit(ctx context.Context, conf confdir.Dir, digest string, change func(*Book) error) error {
	return conf.ChangeAll(ctx, []confdir.File{confdir.NotifySecrets, confdir.Notifications}, func(old [][]byte) ([][]byte, error) {
		b, err := parse(old[1], old[0])
		if err != nil {
			return nil, err
		}
		if err := b.Digest.Check(digest); err != nil {
			return nil, err
		}
		if err := change(b); err != nil {
			return nil, err
		}
		private, err := b.private.Append(nil)
		if err != nil {
			return nil, err
		}
		public, err := b.public.Append(nil)
		return [][]byte{private, public}, err
	})
}
