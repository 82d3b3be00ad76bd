package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/config"
	"github.com/holdfast-backup/holdfast/internal/tape/device"
	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// tapeOptions are what all commands of tapes share.
type tapeOptions struct {
	config, state, drive string
}

// dirs are the directories of the configuration and of what is known of media.
func (o *tapeOptions) dirs(a *app) (conf confdir.Dir, state string, err error) {
	path := o.config
	if path == "" {
		path = a.getenv("HOLDFAST_SERVER_CONFIG")
	}
	state = o.state
	if state == "" {
		state = a.getenv("HOLDFAST_TAPE_STATE")
	}
	switch {
	case path != "":
	case isDir(pbsDir):
		path = pbsDir
	case os.Geteuid() == 0:
		path = unitConfig
	default:
		dirs := a.configDirs()
		if dirs == nil {
			return conf, "", hint(usagef("no configuration is named"), "pass --config DIR or set HOLDFAST_SERVER_CONFIG")
		}
		path = dirs[0]
		if state == "" {
			if state, err = a.stateDir("tape"); err != nil {
				return conf, "", err
			}
		}
	}
	if state == "" {
		state = tapeState(path)
	}
	if path, err = filepath.Abs(path); err != nil {
		return conf, "", err
	}
	state, err = filepath.Abs(state)
	return confdir.New(path), state, err
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// configured is what is configured. make says that it may be made.
func (o *tapeOptions) configured(a *app, make bool) (config.Config, error) {
	d, _, err := o.dirs(a)
	if err != nil {
		return config.Config{}, err
	}
	if make {
		if err := d.Make(); err != nil {
			return config.Config{}, err
		}
	}
	return config.New(d), nil
}

// driveNames are the drives for completion.
func (o *tapeOptions) driveNames(a *app) []string {
	c, err := o.configured(a, false)
	if err != nil {
		return nil
	}
	list, err := c.Drives()
	if err != nil {
		return nil
	}
	var all []string
	for _, d := range list {
		all = append(all, d.Name)
	}
	return all
}

// driveName is the drive that is meant.
func (o *tapeOptions) driveName(a *app, c config.Config) (string, error) {
	name := o.drive
	if name == "" {
		name = a.getenv("PROXMOX_TAPE_DRIVE")
	}
	if name != "" {
		return name, nil
	}
	list, err := c.Drives()
	if err != nil {
		return "", err
	}
	switch len(list) {
	case 0:
		return "", hint(usagef("there is no drive"), "'holdfast tape drive create' makes one, 'holdfast tape library create' a virtual one to try")
	case 1:
		return list[0].Name, nil
	}
	return "", hint(usagef("there are %d drives", len(list)), "name one with --drive or PROXMOX_TAPE_DRIVE")
}

// tapeSite is where a command works with media.
type tapeSite struct {
	*app
	dir    confdir.Dir
	config config.Config
	state  *media.State
	opener *device.Opener
	keys   tapeKeys
	close  []func() error
}

// site opens what all commands need that work with media.
func (o *tapeOptions) site(a *app) (*tapeSite, error) {
	d, dir, err := o.dirs(a)
	if err != nil {
		return nil, err
	}
	s := &tapeSite{app: a, dir: d, config: config.New(d)}
	if s.state, err = media.Open(dir, a.Location); err != nil {
		return nil, err
	}
	s.keys = openTapeKeys(d)
	s.opener = o.opener(a, s.config)
	s.opener.Encrypter = s.keys.encrypter()
	s.close = append(s.close, s.opener.Close)
	return s, nil
}

// opener opens devices.
func (o *tapeOptions) opener(a *app, c config.Config) *device.Opener {
	return &device.Opener{Config: c, Locks: filepath.Join(a.runDir(), "drive-lock"), Version: a.Version}
}

func (s *tapeSite) Close() error {
	var errs []error
	for i := len(s.close) - 1; i >= 0; i-- {
		errs = append(errs, s.close[i]())
	}
	return errors.Join(errs...)
}

// station is the drive that the options name.
func (s *tapeSite) station(ctx context.Context, o *tapeOptions) (*job.Station, error) {
	name, err := o.driveName(s.app, s.config)
	if err != nil {
		return nil, err
	}
	st, done, err := s.opener.Station(ctx, name)
	if err != nil {
		return nil, tapeError(err)
	}
	s.close = append(s.close, done)
	st.Logf = s.say
	return st, nil
}

// world is the drive with what is known of media.
func (s *tapeSite) world(ctx context.Context, o *tapeOptions) (*job.World, error) {
	st, err := s.station(ctx, o)
	if err != nil {
		return nil, err
	}
	return &job.World{State: s.state, Station: st, KeyFile: s.keys.keyFile, Now: s.Now, Logf: s.say, Warnf: s.warn}, nil
}

// withWorld opens everything, works, and closes it.
func (o *tapeOptions) withWorld(ctx context.Context, a *app, work func(*tapeSite, *job.World) error) (err error) {
	s, err := o.site(a)
	if err != nil {
		return err
	}
	defer func() { err = tapeError(errors.Join(err, s.Close())) }()
	w, err := s.world(ctx, o)
	if err != nil {
		return err
	}
	return work(s, w)
}

// withState is the same without a drive.
func (o *tapeOptions) withState(a *app, work func(*tapeSite) error) (err error) {
	s, err := o.site(a)
	if err != nil {
		return err
	}
	defer func() { err = tapeError(errors.Join(err, s.Close())) }()
	return work(s)
}

// tapeError tells what to do about errors of devices and media.
func tapeError(err error) error {
	switch {
	case errors.Is(err, tape.ErrNoMedium):
		return hint(err, "'holdfast tape load-media' brings a medium into the drive")
	case errors.Is(err, config.ErrNotFound):
		return hint(err, "'holdfast tape drive list', 'changer list' and 'pool list' show what there is")
	case errors.Is(err, media.ErrUnknownMedium):
		return hint(err, "'holdfast tape media list' shows what is known, 'holdfast tape inventory --read-all-labels' reads labels")
	case errors.Is(err, tape.ErrKey):
		return hint(err, "'holdfast tape key list' shows the keys; 'holdfast tape key restore' gets that of the medium in the drive")
	case errors.Is(err, media.ErrNoMedia):
		return hint(err, "'holdfast tape label' and 'barcode-label' make media of the pool; 'holdfast tape media list' shows the others")
	}
	return err
}

// tapeStores finds datastores by name: those that a flag names, and those of the
// configuration.
type tapeStores struct {
	flags []string // NAME=DIR, or NAME=s3://BUCKET
	site  *tapeSite
	set   *stores.Set
}

// open opens a datastore. close lets go of it.
func (t *tapeStores) open(ctx context.Context, name string, op stores.Operation) (repo.Repository, func() error, error) {
	for _, f := range t.flags {
		n, dir, ok := strings.Cut(f, "=")
		if !ok || names.CheckStore(n) != nil || dir == "" {
			return nil, nil, usagef("--datastore %q: want NAME=DIR, or NAME=s3://BUCKET", f)
		}
		if n != name {
			continue
		}
		where := location{dir: dir}
		if s3.IsAddress(dir) {
			var err error
			if where, err = parseLocation(dir); err != nil {
				return nil, nil, err
			}
		}
		r, err := t.site.openLocation(ctx, where, nearEnd)
		if err != nil {
			return nil, nil, err
		}
		return r, r.Close, nil
	}
	if t.set == nil {
		t.set = stores.New(t.site.dir)
		t.site.close = append(t.site.close, t.set.Close)
	}
	h, err := t.set.Open(name, op)
	if err != nil {
		if errors.Is(err, repo.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			err = hint(err, "name it with --datastore %s=DIR, or add it with 'holdfast server datastore add'", name)
		}
		return nil, nil, err
	}
	return h, h.Close, nil
}
