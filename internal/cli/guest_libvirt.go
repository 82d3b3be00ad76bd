package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/pflag"
)

// libvirtFlags say how to reach a libvirt daemon.
type libvirtFlags struct {
	uri      string
	abortJob bool
}

func (o *libvirtFlags) reach(f *pflag.FlagSet) {
	f.StringVar(&o.uri, "libvirt", "", "libvirt daemon of this host: qemu:///system, qemu:///session or qemu+unix:///system?socket=PATH")
}

func (o *libvirtFlags) abort(f *pflag.FlagSet) {
	f.BoolVar(&o.abortJob, "abort-job", false, "with --libvirt: abort a backup job of another program that is in the way")
}

// connect reaches the daemon.
func (o libvirtFlags) connect(ctx context.Context, a *app) (*libvirt.Conn, libvirt.Address, error) {
	addr, err := libvirt.ParseAddress(o.uri, a.getenv("XDG_RUNTIME_DIR"))
	if err != nil {
		return nil, addr, usage(fmt.Errorf("--libvirt: %w", err))
	}
	c, err := libvirt.Open(ctx, addr)
	return c, addr, err
}

// options are those of a domain's points. The flags of a monitor that fit a
// domain count for it too.
func (o libvirtFlags) options(a *app, q qmpFlags, addr libvirt.Address) (opts libvirt.Options, err error) {
	opts = libvirt.Options{
		AbortJob: o.abortJob, MustFreeze: q.mustFreeze, ScratchDir: q.scratchDir,
		Disks: targets(q.disks), Skip: targets(q.skip), Log: a.log(),
	}
	if q.scratchLimit != "" {
		if opts.Limit, err = ui.ParseSize(q.scratchLimit); err != nil || opts.Limit <= 0 {
			return opts, usagef("--scratch-limit: %q is no size: write bytes, as 20G", q.scratchLimit)
		}
	}
	switch {
	case opts.ScratchDir != "":
	case addr.Session():
		if opts.ScratchDir, err = a.stateDir("scratch"); err != nil {
			return opts, hint(err, "name a directory with --scratch-dir")
		}
	default:
		opts.ScratchDir = libvirt.SystemScratchDir
	}
	opts.RunDir, err = libvirt.RunDir()
	return opts, err
}

// targets are disks as libvirt names them; as the archives are called they are
// understood too.
func targets(disks []string) (all []string) {
	for _, d := range disks {
		all = append(all, strings.TrimPrefix(d, "drive-"))
	}
	return all
}

// domainID is what the group of a domain is called.
func domainID(g *libvirt.Guest) string {
	if names.IsSafeID(g.Name()) {
		return g.Name()
	}
	return g.UUID()
}

// explainLibvirt adds what to do.
func explainLibvirt(err error) error {
	switch {
	case errors.Is(err, libvirt.ErrJob):
		return hint(err, "--abort-job aborts it")
	case errors.Is(err, libvirt.ErrNoDomain):
		return hint(err, "'holdfast guest list --libvirt URI' lists all")
	case errors.Is(err, libvirt.ErrScratch):
		return hint(err, "--scratch-dir names another directory")
	case errors.Is(err, libvirt.ErrExists):
		return hint(err, "--name and --new-ids make a domain beside it, --target puts its files elsewhere, --overwrite replaces")
	case errors.Is(err, libvirt.ErrLive):
		return hint(err, "'holdfast guest restore SNAPSHOT --libvirt URI --live' begins one")
	}
	return explainBackup(err)
}

// listDomains shows what can be backed up.
func (a *app) listDomains(ctx context.Context, o libvirtFlags) (err error) {
	c, _, err := o.connect(ctx, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	all, err := c.List(ctx)
	if err != nil {
		return err
	}
	t := ui.Table{Columns: []ui.Column{
		{Title: "DOMAIN"},
		{Title: "STATE"},
		{Title: "DISK"},
		{Title: "SIZE", Align: ui.Right},
		{Title: "FORMAT"},
		{Title: "SOURCE"},
	}}
	out := []domainJSON{}
	for _, d := range all {
		j := domainJSON{d.Name, d.UUID, d.State, d.Persistent, []domainDiskJSON{}}
		for _, k := range d.Disks {
			if !k.Holds() {
				continue
			}
			j.Disks = append(j.Disks, domainDiskJSON{k.Target, k.Kind, k.Format, k.Path, k.Size})
			source := k.Path
			if source == "" {
				source = k.Kind
			}
			size := ""
			if k.Size > 0 {
				size = ui.Size(k.Size)
			}
			t.Add(d.Name, d.State, k.Target, size, k.Format, source)
		}
		out = append(out, j)
	}
	return a.print(out, func() error { return a.table(&t) })
}

// domainJSON is a domain of the list.
type domainJSON struct {
	Name       string           `json:"name"`
	UUID       string           `json:"uuid"`
	State      string           `json:"state"`
	Persistent bool             `json:"persistent"`
	Disks      []domainDiskJSON `json:"disks"`
}

type domainDiskJSON struct {
	Target string `json:"target"`
	Kind   string `json:"kind"`
	Format string `json:"format"`
	Path   string `json:"path,omitempty"`
	Size   int64  `json:"size,omitempty"`
}

// backupDomains backs up domains one after the other. One that fails does not
// keep the others from it.
func (a *app) backupDomains(ctx context.Context, o guestBackupOptions, ids []string) (err error) {
	if len(ids) == 0 {
		return hint(usagef("no domain is named"), "pass names or UUIDs, as 'holdfast guest list --libvirt %s' shows them", o.libvirt.uri)
	}
	if len(ids) > 1 && o.backupID != "" {
		return usagef("--backup-id is for one domain, and %d are named", len(ids))
	}
	c, addr, err := o.libvirt.connect(ctx, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	opts, err := o.libvirt.options(a, o.qemu, addr)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		one := o
		g, err := c.Guest(id, opts)
		if err == nil {
			if one.backupID == "" {
				one.backupID = domainID(g)
			}
			err = a.backupOne(ctx, g, one)
		}
		if err != nil {
			errs = append(errs, explainLibvirt(err))
		}
	}
	return errors.Join(errs...)
}

// cleanupDomain removes what killed backups left.
func (a *app) cleanupDomain(ctx context.Context, o guestCleanupOptions, id string) (did []string, err error) {
	c, addr, err := o.libvirt.connect(ctx, a)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	opts, err := o.libvirt.options(a, o.qemu, addr)
	if err != nil {
		return nil, err
	}
	g, err := c.Guest(id, opts)
	if err != nil {
		return nil, explainLibvirt(err)
	}
	did, err = g.Cleanup(ctx, o.bitmaps)
	return did, explainLibvirt(err)
}
