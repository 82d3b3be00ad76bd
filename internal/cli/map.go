package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/daemon"
	"github.com/holdfast-backup/holdfast/internal/mapping"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/spf13/cobra"
)

type mapOptions struct {
	nbd         string
	socket      string
	file        string
	foreground  bool
	noPartscan  bool
	deadTimeout time.Duration
	disk        diskOptions
}

// anyDevice is the value of --nbd without one.
const anyDevice = "any"

func newMapCommand(a *app) *cobra.Command {
	var o mapOptions
	cmd := &cobra.Command{
		Use:   "map [SNAPSHOT ARCHIVE]",
		Short: "Make a block device of a disk image in a backup",
		Long: `Makes a disk image of a snapshot readable as a disk, at once and whatever its
size, and goes to the background; 'holdfast unmap' ends it. Without arguments
the mappings are listed.

  (nothing)        a loop device with its partitions, as root; for others a unix
                   socket as with --socket
  --nbd [DEVICE]   a device of the kernel's NBD client, as root; the first free
                   one unless it is named
  --socket PATH    an NBD export on a unix socket, which needs no privilege and
                   which QEMU, nbdcopy and guestfish can open
  --file PATH      a file, through FUSE

Devices are read-only, so 'mount' needs no options except those that a journal
which was not clean asks for: ro,noload for ext4, ro,norecovery,nouuid for xfs,
ro,norecovery for btrfs. With --writable they can be written to: the changes go
to an overlay file, see 'holdfast overlay'.

Map only backups that you trust: the kernel reads their partition tables, and
what you mount. Programs of the system may do so too: a volume group in the
image may be activated under its name. --no-partscan leaves the partitions out.

A snapshot cannot be removed while it is mapped.`,
		Example: `  holdfast map vm/100 drive-scsi0.img
  mount -o ro,noload /dev/loop0p1 /mnt
  holdfast map vm/100/2026-11-22T10:00:00Z drive-scsi0.img --nbd
  holdfast map vm/100 drive-scsi0.img --writable --trace /var/lib/vm-100.trace
  holdfast map vm/100 drive-scsi0.img --socket vm-100.sock
  holdfast map`,
		Args:              between(0, 3),
		ValidArgsFunction: a.completeArchives,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return runMapList(cmd.Context(), a)
			}
			args, err := o.device(args)
			if err != nil {
				return err
			}
			if len(args) != 2 {
				return usagef("an archive is missing, or there is an argument too many: %s", cmd.UseLine())
			}
			return runMap(cmd.Context(), a, args[0], args[1], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.nbd, "nbd", "", "a device of the kernel's NBD client, this one or the first free one")
	f.Lookup("nbd").NoOptDefVal = anyDevice
	f.StringVar(&o.socket, "socket", "", "an NBD export on this unix socket")
	f.StringVar(&o.file, "file", "", "a file at this path, through FUSE")
	f.BoolVar(&o.foreground, "foreground", false, "stay in the foreground until interrupted")
	f.BoolVar(&o.foreground, "verbose", false, "the same, as the existing client calls it")
	_ = f.MarkHidden("verbose") // it exists
	f.BoolVar(&o.noPartscan, "no-partscan", false, "do not let the kernel look for partitions")
	f.DurationVar(&o.deadTimeout, "dead-timeout", mapping.DefaultDeadTimeout, "with --nbd: how long requests wait when this process dies")
	o.disk.flags(cmd)
	return cmd
}

// device takes the device of "--nbd DEVICE" out of the arguments: a flag with
// a value that may be left out has it behind a "=" only.
func (o *mapOptions) device(args []string) ([]string, error) {
	if o.nbd != anyDevice || len(args) != 3 {
		return args, nil
	}
	for i, s := range args {
		if strings.HasPrefix(s, "/dev/") {
			o.nbd = s
			return append(args[:i:i], args[i+1:]...), nil
		}
	}
	return nil, hint(usagef("none of %s is a device", strings.Join(args, ", ")), "write --nbd /dev/nbd0, or --nbd alone for the first free one")
}

// place is the mode, and the device or path if it is named.
func (o mapOptions) place() (mode mapping.Mode, where string, err error) {
	mode = mapping.Loop
	if os.Geteuid() != 0 {
		mode = mapping.Socket
	}
	n := 0
	for _, c := range []struct {
		mode  mapping.Mode
		value string
	}{{mapping.NBD, o.nbd}, {mapping.Socket, o.socket}, {mapping.File, o.file}} {
		if c.value != "" {
			mode, where = c.mode, c.value
			n++
		}
	}
	switch {
	case n > 1:
		return "", "", usagef("--nbd, --socket and --file exclude each other")
	case mode == mapping.NBD && where == anyDevice:
		where = ""
	case mode == mapping.NBD:
		if number, err := strconv.ParseUint(where, 10, 20); err == nil {
			where = "/dev/nbd" + strconv.FormatUint(number, 10)
		}
	case where != "":
		where, err = filepath.Abs(where)
	}
	return mode, where, err
}

func runMap(ctx context.Context, a *app, snapshot, archive string, o mapOptions) error {
	mode, where, err := o.place()
	if err != nil {
		return err
	}
	if _, err := o.disk.check(1); err != nil {
		return err
	}
	child := daemon.Inherited()
	if child == nil && !o.foreground {
		code, err := daemon.Background(ctx, a.descriptors(o.disk.key)...)
		if err != nil {
			return err
		}
		return ended(code)
	}
	return a.withDisks(ctx, snapshot, []string{archive}, o.disk, func(s repo.Snapshot, disks []*disk) error {
		spec, err := a.mapSpec(snapshot, s, disks[0])
		if err != nil {
			return err
		}
		spec.Mode, spec.Device, spec.NoPartitions, spec.DeadTimeout = mode, where, o.noPartscan, o.deadTimeout
		return a.serveMapping(ctx, spec, child)
	})
}

// mapSpec describes a disk to the mapping; the snapshot is called what the
// user called it.
func (a *app) mapSpec(typed string, s repo.Snapshot, d *disk) (mapping.Spec, error) {
	where, err := a.identity()
	if err != nil {
		return mapping.Spec{}, err
	}
	p, err := a.parsePlace(typed)
	if err != nil {
		return mapping.Spec{}, err
	}
	called := p.group.String()
	if p.exact {
		called = s.Name().String()
	}
	return mapping.Spec{
		Name:       mapping.Name(where, called, string(d.name)),
		Repository: where, Namespace: s.Name().NS.String(), Snapshot: s.Name().String(), Archive: string(d.name),
		Image: d.image, Log: a.log(),
	}, nil
}

// serveMapping maps, says so, and serves until the mapping is to end.
func (a *app) serveMapping(ctx context.Context, spec mapping.Spec, child *daemon.Child) (err error) {
	m, err := mapping.Map(ctx, spec)
	if taken, ok := errors.AsType[*mapping.MappedError](err); ok {
		if err := a.mappedAlready(spec, taken); err != nil || child == nil {
			return err
		}
		return child.Ready(nil)
	}
	if err != nil {
		return explainMapping(err)
	}
	defer func() { err = errors.Join(err, m.Close(context.WithoutCancel(ctx))) }()
	if err := a.showMapping(m.Record()); err != nil {
		return err
	}
	if child != nil {
		done, err := a.toBackground(child, "map-"+m.Record().ID)
		if err != nil {
			return err
		}
		defer done()
	}
	if err := daemon.NotifyReady(m.Record().Name + " mapped on " + m.Record().Target()); err != nil {
		a.warn("%v", err)
	}
	if err := m.Serve(ctx); ctx.Err() == nil {
		return err
	}
	if err := daemon.NotifyStopping(); err != nil {
		a.warn("%v", err)
	}
	return a.stopMapping(context.WithoutCancel(ctx), m)
}

// stopMapping waits until nobody uses the device. Who interrupts again ends
// the process, and the kernel takes the device away.
func (a *app) stopMapping(ctx context.Context, m *mapping.Mapping) error {
	said := false
	for {
		err := m.Stop(ctx, false)
		if _, busy := errors.AsType[*mapping.BusyError](err); !busy {
			return err
		}
		if !said {
			a.warn("%v; it ends when nobody does, or when this is interrupted again", err)
			said = true
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// mappedAlready is no error if what is there is what was asked for.
func (a *app) mappedAlready(spec mapping.Spec, taken *mapping.MappedError) error {
	r := taken.Record
	switch {
	case !r.Ready:
		return hint(mark(repo.ErrLocked, "%v", taken), "try again in a moment")
	case r.Snapshot != spec.Snapshot:
		return hint(mark(repo.ErrLocked, "%v, of the snapshot %s", taken, r.Snapshot), "'holdfast unmap %s' ends it", r.Target())
	case r.Mode != spec.Mode, spec.Device != "" && spec.Device != r.Device+r.Socket+r.Path, r.ReadOnly != isReadOnly(spec):
		return hint(mark(repo.ErrLocked, "%v, in another way than asked for", taken), "'holdfast unmap %s' ends it", r.Target())
	}
	a.say("it was mapped already, by process %d", r.PID)
	return a.showMapping(r)
}

// explainMapping adds what to do.
func explainMapping(err error) error {
	switch {
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrPermission):
		return hint(err, "an NBD export needs neither privilege nor kernel modules: --socket PATH")
	}
	return err
}

func (a *app) showMapping(r mapping.Record) error {
	return a.print(r, func() error { return a.printf("Image '%s' mapped on %s\n", r.Name, r.Target()) })
}
