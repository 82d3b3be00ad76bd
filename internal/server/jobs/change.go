package jobs

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

var (
	// ErrNotFound is wrapped for a job or remote that is not there.
	ErrNotFound = repo.ErrNotFound
	// ErrExists is wrapped for one that is.
	ErrExists = repo.ErrExists
)

// Values are new values of properties; no value removes one.
type Values map[string][]string

// set changes a section.
func (v Values) set(sec *sectionconfig.Section, known []Property) error {
	for key, values := range v {
		i := slices.IndexFunc(known, func(p Property) bool { return p.Key == key })
		switch {
		case i < 0:
			return fmt.Errorf("there is no property %q", key)
		case len(values) > 1 && !known[i].Many:
			return fmt.Errorf("%s has one value", key)
		}
		for _, s := range values {
			if err := known[i].Check(s); err != nil {
				return err
			}
		}
		sec.Set(key, values...)
	}
	return nil
}

// Add adds a job. Of GC and OldPrune there is one for each datastore: Change.
func Add(ctx context.Context, conf confdir.Dir, k Kind, id string, v Values) error {
	file, typ, _ := k.section()
	return edit(ctx, conf, file, "", func(f *sectionconfig.File) error {
		sec, ok := f.Add(typ, id)
		if !ok {
			return fmt.Errorf("%s job %q: %w", k.Word(), id, ErrExists)
		}
		return settle(k, sec, v)
	})
}

// Change changes a job, if digest is still that of its file; "" is of any.
func Change(ctx context.Context, conf confdir.Dir, k Kind, id, digest string, v Values) error {
	file, typ, _ := k.section()
	return edit(ctx, conf, file, digest, func(f *sectionconfig.File) error {
		sec := f.Find(id)
		if sec == nil || sec.Type != typ {
			return fmt.Errorf("%s job %q: %w in %s", k.Word(), id, ErrNotFound, file.Name)
		}
		return settle(k, sec, v)
	})
}

func settle(k Kind, sec *sectionconfig.Section, v Values) error {
	err := v.set(sec, Properties(k))
	if err == nil {
		err = check(k, sec)
	}
	if err != nil {
		return fmt.Errorf("%s job %q: %w", k.Word(), sec.ID, err)
	}
	return nil
}

// Remove removes a job, or the schedule of a datastore.
func Remove(ctx context.Context, conf confdir.Dir, k Kind, id, digest string) error {
	file, typ, key := k.section()
	if typ == "datastore" {
		return Change(ctx, conf, k, id, digest, Values{key: nil})
	}
	return edit(ctx, conf, file, digest, func(f *sectionconfig.File) error {
		if sec := f.Find(id); sec == nil || sec.Type != typ || !f.Remove(id) {
			return fmt.Errorf("%s job %q: %w in %s", k.Word(), id, ErrNotFound, file.Name)
		}
		return nil
	})
}

// SetRemote adds a server, or changes one: add says which. A password of nil stays
// as it is.
func SetRemote(ctx context.Context, conf confdir.Dir, name string, add bool, v Values, password *secret.Secret) error {
	return edit(ctx, conf, confdir.Remotes, "", func(f *sectionconfig.File) error {
		sec := f.Find(name)
		switch {
		case add && sec != nil:
			return fmt.Errorf("remote %q: %w", name, ErrExists)
		case !add && (sec == nil || sec.Type != "remote"):
			return fmt.Errorf("remote %q: %w in %s", name, ErrNotFound, confdir.Remotes.Name)
		case add:
			sec, _ = f.Add("remote", name)
		}
		err := isID(name)
		if err == nil {
			err = v.set(sec, RemoteProperties())
		}
		if password != nil {
			sec.Set("password", base64.StdEncoding.EncodeToString(password.Reveal()))
		}
		if err == nil {
			_, err = remoteOf(sec)
		}
		if err != nil {
			return fmt.Errorf("remote %q: %w", name, err)
		}
		return nil
	})
}

// RemoveRemote removes a server that no job names.
func RemoveRemote(ctx context.Context, conf confdir.Dir, name string) error {
	all, err := Load(conf)
	if err != nil {
		return err
	}
	for _, j := range all {
		if j.Kind == Sync && j.text("remote") == name {
			return fmt.Errorf("remote %q: %s uses it", name, j)
		}
	}
	return edit(ctx, conf, confdir.Remotes, "", func(f *sectionconfig.File) error {
		if sec := f.Find(name); sec == nil || sec.Type != "remote" || !f.Remove(name) {
			return fmt.Errorf("remote %q: %w in %s", name, ErrNotFound, confdir.Remotes.Name)
		}
		return nil
	})
}

// edit changes a file under its lock.
func edit(ctx context.Context, conf confdir.Dir, file confdir.File, digest string, change func(*sectionconfig.File) error) error {
	return conf.Change(ctx, file, func(old []byte) ([]byte, error) {
		if err := confdir.DigestOf(old).Check(digest); err != nil {
			return nil, err
		}
		f, err := sectionconfig.Parse(old)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name, err)
		}
		if err := change(f); err != nil {
			return nil, err
		}
		return f.Append(nil)
	})
}
