package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/qemu"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type guestBackupOptions struct {
	backupOptions // of these only what fits a guest
	qemu          qmpFlags
	libvirt       libvirtFlags
	bitmaps       string
	configs       []string
}

func newGuestBackupCommand(a *app) *cobra.Command {
	var o guestBackupOptions
	cmd := &cobra.Command{
		Use:   "backup [ID|DOMAIN...]",
		Short: "Back up virtual machines",
		Long: `Makes a snapshot vm/ID of all disks of a running QEMU as they are at one moment,
with a description of the machine (machine.json). ID is the guest's name if it is
not given. Removable and read-only disks are left out unless --disk names them.

The guest runs on. What it overwrites during the backup goes to a scratch file
first; if that file is full or too slow, the backup fails and the guest's writes
do not. --agent freezes the guest's file systems for the moment, so that they
need no repair when they are restored; without it they are as after a power cut.

Dirty bitmaps in QEMU tell the next backup what to read. --bitmap-mode reuse, the
default, uses one if it was begun with the group's newest snapshot, and begins a
new one in any case; new reads everything; none neither uses nor begins one. On
qcow2 bitmaps outlive QEMU if it ends in order, on other formats they do not.

With --libvirt, domains are backed up by their names or UUIDs, running or shut
down, as vm/NAME unless --backup-id says otherwise; their disks are called by
their targets, drive-vda for vda. The definition of the domain (domain.xml),
firmware variables and the state of an emulated TPM are kept with the disks, and
the agent is asked through libvirt.

A backup that is killed leaves things behind in QEMU, which the next backup
removes, or 'holdfast guest cleanup'.`,
		Example: `  holdfast guest backup 100 --qmp /run/vm100.qmp --agent /run/vm100.qga
  holdfast guest backup web --qmp web.qmp --config web.sh --scratch-dir /var/tmp --scratch-limit 50G
  holdfast guest backup 100 --qmp /run/vm100.qmp --skip-disk drive-swap --rate 100M
  holdfast guest backup web db --libvirt qemu:///system`,
		Args: between(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.backupType = string(names.VM)
			if o.libvirt.uri != "" {
				return a.backupDomains(cmd.Context(), o, args)
			}
			if len(args) > 1 {
				return usagef("a monitor has one guest, and %d are named", len(args))
			}
			if len(args) > 0 {
				o.backupID = args[0]
			}
			return runGuestBackup(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	o.qemu.reach(f)
	o.qemu.hold(cmd)
	o.libvirt.reach(f)
	o.libvirt.abort(f)
	f.StringVar(&o.backupID, "backup-id", "", "name of the group (default: the guest's name)")
	f.StringVar(&o.bitmaps, "bitmap-mode", guest.Reuse.String(), "none, new or reuse")
	f.StringArrayVar(&o.configs, "config", nil, "small file to keep with the disks, such as the script that starts the guest (repeatable)")
	f.StringVar(&o.backupTime, "backup-time", "", "time of the snapshot, RFC 3339 or seconds since 1970 (default: now)")
	f.StringVar(&o.owner, "owner", "", "who backs up, user@realm or user@realm!token; must own the group (a new group gets root@pam by default)")
	f.StringVar(&o.notes, "notes", "", "notes on the snapshot")
	f.StringVar(&o.rate, "rate", "", "read at most so many bytes a second, as 50M")
	f.IntVar(&o.chunkKiB, "chunk-size", backup.DefaultChunkSize>>10, "chunk size in KiB, a power of two")
	f.IntVar(&o.workers, "workers", 0, "chunks worked on at a time (0: by the number of CPUs)")
	o.key.writeFlags(cmd)
	complete(cmd, "bitmap-mode", cobra.FixedCompletions([]string{"none", "new", "reuse"}, noFiles))
	return cmd
}

// guestJob is what follows from flags, files and keys.
func (a *app) guestJob(ctx context.Context, o guestBackupOptions) (job guest.Job, crypt cryptChoice, err error) {
	if job.Bitmaps, err = guest.ParseMode(o.bitmaps); err != nil || job.Bitmaps == guest.MissingRecreated {
		return job, crypt, usagef("--bitmap-mode %q: want none, new or reuse", o.bitmaps)
	}
	b, err := a.backupJob(o.backupOptions)
	if err != nil {
		return job, crypt, err
	}
	if job.Repository, err = a.identity(); err != nil {
		return job, crypt, err
	}
	for _, path := range o.configs {
		c, err := readConfig(path)
		if err != nil {
			return job, crypt, err
		}
		job.Configs = append(job.Configs, c)
	}
	if crypt, err = a.chooseCrypt(ctx, o.key); err != nil {
		return job, crypt, err
	}
	job.Snapshot, job.Owner, job.Notes, job.Options = b.Snapshot, b.Owner, b.Notes, b.Options
	job.Options.CryptMode, job.Options.Key = crypt.mode, crypt.key
	job.Master, job.KeyCreated = crypt.master, crypt.created
	return job, crypt, nil
}

// readConfig reads a file that goes beside the disks under its own name.
func readConfig(path string) (guest.Config, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return guest.Config{}, fmt.Errorf("--config: %w", err)
	}
	if !fi.Mode().IsRegular() || fi.Size() > blob.MaxChunk {
		return guest.Config{}, usagef("--config %s: want a file of at most %d bytes", path, blob.MaxChunk)
	}
	name := filepath.Base(path)
	if !names.IsSafeID(name) {
		return guest.Config{}, usagef("--config %s: the name is none for an archive: letters, digits, '_', '.' and '-'", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return guest.Config{}, fmt.Errorf("--config: %w", err)
	}
	return guest.Config{Name: name, Data: b}, nil
}

func runGuestBackup(ctx context.Context, a *app, o guestBackupOptions) (err error) {
	opts, err := o.qemu.options(a)
	if err != nil {
		return err
	}
	g, err := qemu.Open(ctx, opts)
	if err != nil {
		return explainGuest(err)
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if o.backupID == "" {
		if o.backupID, err = guestID(ctx, g); err != nil {
			return err
		}
	}
	return explainGuest(a.backupOne(ctx, g, o))
}

// backupOne backs up one guest.
func (a *app) backupOne(ctx context.Context, from guest.Backend, o guestBackupOptions) error {
	job, crypt, err := a.guestJob(ctx, o)
	if err != nil {
		return err
	}
	return a.with(ctx, func(r repo.Repository) error { return a.backupGuest(ctx, r, from, job, crypt) })
}

// guestID is what a guest calls itself.
func guestID(ctx context.Context, g *qemu.Guest) (string, error) {
	m, err := g.Machine(ctx)
	if err != nil {
		return "", explainGuest(err)
	}
	id := cmp.Or(m.Name, m.UUID)
	if !names.IsSafeID(id) {
		return "", hint(usagef("the guest has no name that a backup could have"), "pass an ID")
	}
	return id, nil
}

// backupGuest runs the job and shows what became of it.
func (a *app) backupGuest(ctx context.Context, r repo.Repository, from guest.Backend, job guest.Job, crypt cryptChoice) error {
	total := int64(-1)
	taken := make(chan int64, 1)
	job.Taken = func(p guest.Point) {
		var n int64
		for _, d := range p.Disks() {
			n += d.Image.Size()
		}
		taken <- n
	}
	m := a.meter("backup "+job.Snapshot.GroupPath(), ui.Bytes)
	stop := a.follow(m, func() (int64, int64, string) {
		select {
		case total = <-taken:
		default:
		}
		s := job.Options.Counters.Load()
		return s.Done(), total, amounts(amount{s.Stored.Bytes, "new"}, amount{s.Known.Bytes + s.Unchanged.Bytes, "known"}, amount{s.Zero.Bytes, "empty"})
	})
	rep, err := guest.Backup(ctx, r, from, job)
	stop(err == nil)
	if err != nil {
		return err
	}
	for _, d := range rep.Disks {
		why := ""
		if d.Why != "" {
			why = ": " + d.Why
		}
		a.say("%s: bitmap %s%s", d.Name, d.Mode, why)
	}
	if rep.Leftover != nil {
		a.warn("something is left in the guest, which the next backup removes: %v", rep.Leftover)
	}
	return a.showGuestBackup(rep, crypt)
}
