package buckets

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// Set adds an object store, or changes one: add says which. digest is that of the
// file, or "". A key of nil stays as it is.
func Set(ctx context.Context, conf confdir.Dir, id, digest string, add bool, v property.Values, key *secret.Secret) error {
	if err := CheckID(id); add && err != nil {
		return err
	}
	err := conf.ChangeSections(ctx, confdir.S3, digest, func(f *sectionconfig.File) error {
		sec := f.Find(id)
		switch {
		case add && sec != nil:
			return repo.ErrExists
		case !add && (sec == nil || sec.Type != sectionType):
			return ErrMissing
		case add:
			sec, _ = f.Add(sectionType, id)
		}
		if err := v.Set(sec, Properties()); err != nil {
			return err
		}
		if key != nil {
			text := string(key.Reveal())
			if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' }) {
				return errors.New("the secret key is one word")
			}
			sec.Set(secretKey, text)
		}
		_, err := clientOf(sec)
		return err
	})
	if err != nil {
		return named(id, err)
	}
	return nil
}

// Remove removes one that no datastore uses.
func Remove(ctx context.Context, conf confdir.Dir, id, digest string) error {
	text, err := conf.Load(confdir.Datastores)
	if err != nil {
		return err
	}
	f, err := sectionconfig.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", confdir.Datastores.Name, err)
	}
	for sec := range f.Of("datastore") {
		text, _ := sec.Get("backend")
		// What cannot be read may name it.
		p, err := sectionconfig.ParseProperties(text, "type")
		if used, _ := p.Get("client"); used == id || err != nil {
			return named(id, fmt.Errorf("the datastore '%s' uses it", sec.ID))
		}
	}
	return conf.ChangeSections(ctx, confdir.S3, digest, func(f *sectionconfig.File) error {
		if sec := f.Find(id); sec == nil || sec.Type != sectionType || !f.Remove(id) {
			return named(id, ErrMissing)
		}
		return nil
	})
}
