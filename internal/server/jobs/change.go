package jobs

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
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
type Values = property.Values

// Changer changes jobs on behalf of somebody.
type Changer struct {
	Conf   confdir.Dir
	Digest string // that the file has to have; "": any
	// Allow is asked, under the lock of the file, of the job as it is and as it is to
	// be; nil allows everything.
	Allow func(Job) error
}

// Add adds a job. Of GC and OldPrune there is one for each datastore: Change.
func (c Changer) Add(ctx context.Context, k Kind, id string, v Values) error {
	file, typ, _ := k.section()
	return c.Conf.ChangeSections(ctx, file, c.Digest, func(f *sectionconfig.File) error {
		sec, ok := f.Add(typ, id)
		if !ok {
			return fmt.Errorf("%s job %q: %w", k.Word(), id, ErrExists)
		}
		return c.settle(k, sec, v)
	})
}

// Change changes a job.
func (c Changer) Change(ctx context.Context, k Kind, id string, v Values) error {
	return c.at(ctx, k, id, func(_ *sectionconfig.File, sec *sectionconfig.Section) error { return c.settle(k, sec, v) })
}

// Remove removes a job, or the schedule of a datastore.
func (c Changer) Remove(ctx context.Context, k Kind, id string) error {
	if _, typ, key := k.section(); typ == "datastore" {
		return c.Change(ctx, k, id, Values{key: nil})
	}
	return c.at(ctx, k, id, func(f *sectionconfig.File, _ *sectionconfig.Section) error {
		f.Remove(id)
		return nil
	})
}

// at edits a job that is there, and may be changed.
func (c Changer) at(ctx context.Context, k Kind, id string, change func(*sectionconfig.File, *sectionconfig.Section) error) error {
	file, typ, _ := k.section()
	return c.Conf.ChangeSections(ctx, file, c.Digest, func(f *sectionconfig.File) error {
		sec := f.Find(id)
		if sec == nil || sec.Type != typ {
			return fmt.Errorf("%s job %q: %w in %s", k.Word(), id, ErrNotFound, file.Name)
		}
		if err := c.allow(k, sec); err != nil {
			return err
		}
		return change(f, sec)
	})
}

func (c Changer) allow(k Kind, sec *sectionconfig.Section) error {
	if c.Allow == nil {
		return nil
	}
	return c.Allow(jobOf(k, sec))
}

// settle gives a job its new values, which have to make sense together.
func (c Changer) settle(k Kind, sec *sectionconfig.Section, v Values) error {
	err := v.Set(sec, Properties(k))
	if err == nil {
		err = check(k, sec)
	}
	if err != nil {
		return fmt.Errorf("%s job %q: %w", k.Word(), sec.ID, err)
	}
	return c.allow(k, sec)
}

// Add adds a job on behalf of the administrator, as the other two do.
func Add(ctx context.Context, conf confdir.Dir, k Kind, id string, v Values) error {
	return Changer{Conf: conf}.Add(ctx, k, id, v)
}

// Change changes a job, if digest is still that of its file; "" is of any.
func Change(ctx context.Context, conf confdir.Dir, k Kind, id, digest string, v Values) error {
	return Changer{Conf: conf, Digest: digest}.Change(ctx, k, id, v)
}

// Remove removes a job, or the schedule of a datastore.
func Remove(ctx context.Context, conf confdir.Dir, k Kind, id, digest string) error {
	return Changer{Conf: conf, Digest: digest}.Remove(ctx, k, id)
}

// SetRemote adds a server, or changes one: add says which. digest is that of the file,
// or "". A password of nil stays as it is.
func SetRemote(ctx context.Context, conf confdir.Dir, name, digest string, add bool, v Values, password *secret.Secret) error {
	return conf.ChangeSections(ctx, confdir.Remotes, digest, func(f *sectionconfig.File) error {
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
			err = v.Set(sec, RemoteProperties())
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
func RemoveRemote(ctx context.Context, conf confdir.Dir, name, digest string) error {
	all, err := Load(conf)
	if err != nil {
		return err
	}
	for _, j := range all {
		if j.Kind == Sync && j.text("remote") == name {
			return fmt.Errorf("remote %q: %s uses it", name, j)
		}
	}
	return conf.ChangeSections(ctx, confdir.Remotes, digest, func(f *sectionconfig.File) error {
		if sec := f.Find(name); sec == nil || sec.Type != "remote" || !f.Remove(name) {
			return fmt.Errorf("remote %q: %w in %s", name, ErrNotFound, confdir.Remotes.Name)
		}
		return nil
	})
}
