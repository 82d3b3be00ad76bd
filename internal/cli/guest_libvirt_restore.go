package cli

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/restore"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

// domainRestoreFlags say what becomes of a restored domain.
type domainRestoreFlags struct {
	libvirt  libvirtFlags
	name     string
	newIDs   bool
	format   string
	start    bool
	live     bool
	resume   bool
	patience time.Duration
	cache    string
}

func (o *domainRestoreFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	o.libvirt.reach(f)
	f.StringVar(&o.name, "name", "", "with --libvirt: name of the domain (default: as it was)")
	f.BoolVar(&o.newIDs, "new-ids", false, "with --libvirt: a new UUID and new network addresses, for a domain beside the old one")
	f.StringVar(&o.format, "format", "", "with --libvirt: format of disk files, raw or qcow2 (default: as it was)")
	f.BoolVar(&o.start, "start", false, "with --libvirt: start the domain when it is complete")
	f.BoolVar(&o.live, "live", false, "with --libvirt: start the domain at once and restore its disks behind it")
	f.BoolVar(&o.resume, "resume", false, "with --live: go on with a restore that was interrupted")
	f.DurationVar(&o.patience, "patience", 10*time.Minute, "with --live: how long reads of the guest wait when this program is gone, before it is stopped")
	f.StringVar(&o.cache, "cache", "128M", "with --live: memory for decoded chunks")
	complete(cmd, "format", cobra.FixedCompletions([]string{"qcow2", "raw"}, noFiles))
}

// check refuses flags that contradict each other.
func (o guestRestoreOptions) checkDomain() error {
	d := o.domain
	switch {
	case o.inPlace:
		return usagef("--in-place is not for domains: a block device that --disk names is changed in place, and --overwrite replaces files")
	case len(o.skip) > 0:
		return usagef("--skip-disk is not for domains, which are restored in whole")
	case d.format != "" && d.format != "raw" && d.format != "qcow2":
		return usagef("--format %q: want raw or qcow2", d.format)
	case d.live && (o.overwrite || d.start):
		return usagef("--live starts the domain, and replaces nothing: leave --start and --overwrite out")
	case d.resume && !d.live:
		return usagef("--resume goes with --live")
	case d.patience < time.Second:
		return usagef("--patience %v is less than a second", d.patience)
	}
	return nil
}

// restoreDomain makes a domain of a snapshot.
func (a *app) restoreDomain(ctx context.Context, o guestRestoreOptions) (err error) {
	if err := o.checkDomain(); err != nil {
		return err
	}
	c, _, err := o.domain.libvirt.connect(ctx, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	image := restore.Options{Workers: o.workers, Counters: new(restore.Counters)}
	if o.rate != "" {
		if image.Rate, err = ui.ParseSize(o.rate); err != nil || image.Rate <= 0 {
			return usagef("--rate: %q is no speed: write bytes a second, as 50M", o.rate)
		}
	}
	places := map[string]string{}
	for _, d := range o.disks {
		name, to, ok := strings.Cut(d, "=")
		if !ok || name == "" || to == "" {
			return usagef("--disk %q: write NAME=TARGET", d)
		}
		places[strings.TrimPrefix(name, "drive-")] = to
	}
	return a.withSnapshot(ctx, o.snapshot, func(_ repo.Repository, s repo.Snapshot) error {
		opts := libvirt.RestoreOptions{
			Name: o.domain.name, NewIDs: o.domain.newIDs, Dir: o.dir, Places: places, Format: o.domain.format,
			Replace: o.overwrite, Start: o.domain.start, Image: image, Log: a.log(),
		}
		encrypted := false
		var total int64
		for _, f := range s.Manifest().Files {
			encrypted = encrypted || f.CryptMode == manifest.ModeEncrypt && names.Archive(f.Filename) != names.RSAEncryptedKey
			if f.Archive().Kind() == names.Fidx {
				total += int64(f.Size)
			}
		}
		var err error
		if opts.Key, err = a.keyFor(ctx, o.key, show(s.Name()), s.Manifest(), encrypted); err != nil {
			return err
		}
		var r libvirt.Restored
		if o.domain.live {
			r, err = a.restoreLive(ctx, c, s, o, opts)
		} else {
			m := a.meter("restore "+show(s.Name()), ui.Bytes)
			stop := a.follow(m, func() (int64, int64, string) {
				n := image.Counters.Load()
				return n.Done(), total, amounts(amount{n.Written, "written"})
			})
			r, err = c.Restore(ctx, s, opts)
			stop(err == nil)
		}
		if err != nil {
			return explainLibvirt(err)
		}
		return a.showRestoredDomain(s, r)
	})
}

// restoreLive begins a live restore, or goes on with one.
func (a *app) restoreLive(ctx context.Context, c *libvirt.Conn, s repo.Snapshot, o guestRestoreOptions, opts libvirt.RestoreOptions) (r libvirt.Restored, err error) {
	live := libvirt.LiveOptions{RestoreOptions: opts, Patience: o.domain.patience, Rate: opts.Image.Rate}
	if live.Format == "" {
		live.Format = "qcow2"
	}
	if live.Cache, err = cacheSize(o.domain.cache); err != nil {
		return r, err
	}
	if live.StateDir, err = a.stateDir("live"); err != nil {
		return r, err
	}
	if live.RunDir, err = libvirt.RunDir(); err != nil {
		return r, err
	}
	if live.Repository, err = a.identity(); err != nil {
		return r, err
	}
	var done, total atomic.Int64
	live.Progress = func(d, t int64) {
		done.Store(d)
		total.Store(t)
	}
	begin := func() (libvirt.Restored, error) { return c.RestoreLive(ctx, s, live) }
	if o.domain.resume {
		st, err := a.interrupted(live, s, o.domain.name)
		if err != nil {
			return r, err
		}
		begin = func() (libvirt.Restored, error) { return c.ResumeLive(ctx, s, st, live) }
	}
	m := a.meter("restore "+show(s.Name()), ui.Bytes)
	stop := a.follow(m, func() (int64, int64, string) { return done.Load(), total.Load(), "" })
	r, err = begin()
	stop(err == nil)
	if err != nil && r.Name != "" {
		err = hint(err, "holdfast guest restore %s --libvirt %s --live --resume --name %s", show(s.Name()), o.domain.libvirt.uri, r.Name)
	}
	return r, err
}

// interrupted finds the live restore of a snapshot that is to go on.
func (a *app) interrupted(live libvirt.LiveOptions, s repo.Snapshot, name string) (libvirt.LiveState, error) {
	if name != "" {
		return libvirt.FindLive(live.StateDir, name)
	}
	all, err := libvirt.LiveRestores(live.StateDir)
	if err != nil {
		return libvirt.LiveState{}, err
	}
	var found []libvirt.LiveState
	for _, st := range all {
		if st.Repository == live.Repository && st.Snapshot == s.Name().Path() {
			found = append(found, st)
		}
	}
	switch len(found) {
	case 0:
		return libvirt.LiveState{}, mark(libvirt.ErrLive, "snapshot %s is not being restored live", show(s.Name()))
	case 1:
		return found[0], nil
	}
	return libvirt.LiveState{}, usagef("%d domains are being restored from snapshot %s: say which with --name", len(found), show(s.Name()))
}

// restoredDomainJSON is the outcome.
type restoredDomainJSON struct {
	Snapshot string            `json:"snapshot"`
	Name     string            `json:"name"`
	UUID     string            `json:"uuid"`
	Disks    map[string]string `json:"disks"` // paths by target
}

func (a *app) showRestoredDomain(s repo.Snapshot, r libvirt.Restored) error {
	out := restoredDomainJSON{show(s.Name()), r.Name, r.UUID, map[string]string{}}
	for _, d := range r.Disks {
		out.Disks[d.Target] = d.Path
	}
	return a.print(out, func() error {
		for _, d := range r.Disks {
			if err := a.printf("restored %s to %s\n", d.Target, d.Path); err != nil {
				return err
			}
		}
		return a.printf("restored domain %s from %s\n", r.Name, show(s.Name()))
	})
}
