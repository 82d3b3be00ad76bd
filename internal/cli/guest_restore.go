package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest/qemu"
	"github.com/holdfast-backup/holdfast/internal/image/target"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/restore"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type guestRestoreOptions struct {
	restoreOptions // of these only what fits a guest
	dir            string
	disks          []string
	skip           []string
	domain         domainRestoreFlags
}

func newGuestRestoreCommand(a *app) *cobra.Command {
	var o guestRestoreOptions
	cmd := &cobra.Command{
		Use:   "restore SNAPSHOT",
		Short: "Restore a virtual machine",
		Long: `Restores all disks of a snapshot, and the small files beside them, into a
directory: disks as raw images NAME.img, with holes where nothing was. --disk
NAME=TARGET restores a disk elsewhere: to a new file, or with --in-place onto an
existing file, a block device or an NBD export.

At the end the arguments are shown with which QEMU starts a machine like the one
that was backed up, around the restored disks. Networks and displays are not
among them; what else the machine was is in machine.json.

With --libvirt a domain is made of the snapshot of a domain. Its files go to where
they were, or into the directory of --target, or where --disk TARGET=PATH says;
the domain is defined when all is there. --name and --new-ids make one beside
the old one.

--live starts the domain at once: its disks are empty qcow2 files over exports of
the snapshot, and QEMU copies the rest behind the running guest. The command ends
when that is done. If it is interrupted the guest waits for its disks, and
--live --resume goes on.`,
		Example: `  holdfast guest restore vm/100 --target /srv/restored
  holdfast guest restore vm/100/2026-11-22T10:00:00Z --target /srv/restored --disk drive-root=/dev/vg0/vm-100 --in-place
  holdfast guest restore vm/web --libvirt qemu:///system --name web-test --new-ids --target /srv/test --start
  holdfast guest restore vm/web --libvirt qemu:///system --live
  holdfast guest restore vm/web --libvirt qemu:///system --live --resume`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.snapshot = args[0]
			if o.domain.libvirt.uri != "" {
				return a.restoreDomain(cmd.Context(), o)
			}
			return runGuestRestore(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "target", "", "directory for the disks and files; made if it is missing")
	f.StringArrayVar(&o.disks, "disk", nil, "NAME=TARGET: restore this disk to TARGET (repeatable)")
	f.StringArrayVar(&o.skip, "skip-disk", nil, "leave this disk out (repeatable)")
	f.BoolVar(&o.inPlace, "in-place", false, "write only what differs onto the targets that --disk names, which exist")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace files that exist")
	f.StringVar(&o.rate, "rate", "", "read at most so many bytes a second from the repository, as 50M")
	f.IntVar(&o.workers, "workers", 0, "chunks worked on at a time (0: by the number of CPUs)")
	o.nbd.add(f)
	o.domain.add(cmd)
	o.key.readFlags(cmd)
	return cmd
}

// restoredGuest is the outcome.
type restoredGuest struct {
	Snapshot string            `json:"snapshot"`
	Disks    map[string]string `json:"disks"` // targets by name
	Files    []string          `json:"files"`
	QEMU     []string          `json:"qemu,omitempty"` // arguments
}

// places maps disks to targets: those that are named, the others in the
// directory.
func (o guestRestoreOptions) places(disks []string) (map[string]string, error) {
	named := map[string]string{}
	for _, d := range o.disks {
		name, to, ok := strings.Cut(d, "=")
		if !ok || name == "" || to == "" {
			return nil, usagef("--disk %q: write NAME=TARGET", d)
		}
		if _, twice := named[name]; twice {
			return nil, usagef("--disk %s is given twice", name)
		}
		named[name] = to
	}
	if o.inPlace && len(named) == 0 {
		return nil, usagef("--in-place goes with --disk NAME=TARGET")
	}
	all := map[string]string{}
	known := map[string]bool{}
	for _, name := range disks {
		known[name] = true
		if to, ok := named[name]; ok {
			all[name] = to
		} else {
			all[name] = filepath.Join(o.dir, name+".img")
		}
	}
	for name := range named {
		if !known[name] {
			return nil, fmt.Errorf("the snapshot has no disk %s: it has %s: %w", name, join(disks), repo.ErrNotFound)
		}
	}
	for _, name := range o.skip {
		if !known[name] {
			return nil, fmt.Errorf("the snapshot has no disk %s: it has %s: %w", name, join(disks), repo.ErrNotFound)
		}
		delete(all, name)
	}
	return all, nil
}

// isNamed reports whether --disk has a target for an archive's disk.
func (o guestRestoreOptions) isNamed(archive names.Archive) bool {
	name := strings.TrimSuffix(string(archive), ".img.fidx")
	return slices.ContainsFunc(o.disks, func(d string) bool { return strings.HasPrefix(d, name+"=") })
}

func runGuestRestore(ctx context.Context, a *app, o guestRestoreOptions) error {
	if o.dir == "" {
		return usagef("--target names no directory")
	}
	opts, err := restoreOptions{target: o.dir, rate: o.rate, workers: o.workers}.check()
	if err != nil {
		return err
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil { // QEMU may start elsewhere
		return err
	}
	return a.withSnapshot(ctx, o.snapshot, func(_ repo.Repository, s repo.Snapshot) error {
		m := s.Manifest()
		var disks []string
		encrypted := false
		for _, f := range m.Files {
			if name, ok := strings.CutSuffix(f.Filename, ".img.fidx"); ok {
				disks = append(disks, name)
			}
			encrypted = encrypted || f.CryptMode == manifest.ModeEncrypt
		}
		if len(disks) == 0 {
			return fmt.Errorf("snapshot %s has no disks: %w", show(s.Name()), repo.ErrNotFound)
		}
		places, err := o.places(disks)
		if err != nil {
			return err
		}
		key, err := a.keyFor(ctx, o.key, show(s.Name()), m, encrypted)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(o.dir, 0o755); err != nil { //nolint:gosec // as mkdir does
			return err
		}
		out := restoredGuest{Snapshot: show(s.Name()), Disks: places}
		if out.Files, out.QEMU, err = a.restoreConfigs(o, s, key, places); err != nil {
			return err
		}
		for _, name := range disks {
			if to, ok := places[name]; ok {
				if err := a.restoreDisk(ctx, o, s, names.Archive(name+".img.fidx"), key, to, opts); err != nil {
					return fmt.Errorf("disk %s: %w", name, err)
				}
			}
		}
		return a.showRestoredGuest(out, disks)
	})
}

// restoreConfigs writes the small files, and reads the description of the
// machine.
func (a *app) restoreConfigs(o guestRestoreOptions, s repo.Snapshot, key *chunkcrypt.Key, places map[string]string) (files, args []string, err error) {
	for _, f := range s.Manifest().Files {
		name := f.Archive()
		if name.Kind() != names.Blob || name == names.RSAEncryptedKey {
			continue
		}
		text, err := restore.Blob(s, name, key)
		if err != nil {
			return nil, nil, err
		}
		base := strings.TrimSuffix(string(name), ".blob")
		path := filepath.Join(o.dir, base)
		if err := writeSmall(path, text, o.overwrite); err != nil {
			return nil, nil, err
		}
		files = append(files, path)
		if base == qemu.MachineFile {
			m, err := qemu.ParseMachine(text)
			if err != nil {
				a.warn("%v", err)
				continue
			}
			args = m.Arguments(places)
		}
	}
	return files, args, nil
}

func writeSmall(path string, text []byte, overwrite bool) error {
	to, err := target.Create(path, int64(len(text)), target.Options{Overwrite: overwrite})
	if err != nil {
		return explainTarget(err, path)
	}
	defer func() { _ = to.Close() }() // after Finish it does nothing
	if _, err := to.WriteAt(text, 0); err != nil {
		return err
	}
	return explainTarget(to.Finish(), path)
}

func (a *app) restoreDisk(ctx context.Context, o guestRestoreOptions, s repo.Snapshot, name names.Archive, key *chunkcrypt.Key, path string, opts restore.Options) error {
	f, _ := s.Manifest().File(string(name))
	one := o.restoreOptions
	one.target = path
	one.inPlace = o.inPlace && o.isNamed(name)
	to, err := a.openTarget(ctx, one, int64(f.Size))
	if err != nil {
		return explainTarget(err, path)
	}
	opts.Counters = new(restore.Counters)
	m := a.meter("restore "+name.ClientName(), ui.Bytes)
	stop := a.follow(m, func() (int64, int64, string) {
		n := opts.Counters.Load()
		return n.Done(), int64(f.Size), amounts(amount{n.Written, "written"}, amount{n.Same.Bytes, "there already"})
	})
	_, err = restore.Image(ctx, s, name, key, to, opts)
	err = errors.Join(err, to.Close())
	stop(err == nil)
	if err != nil {
		return explainRestore(err, one)
	}
	return nil
}

func (a *app) showRestoredGuest(out restoredGuest, disks []string) error {
	return a.print(out, func() error {
		for _, f := range out.Files {
			if err := a.printf("restored %s\n", f); err != nil {
				return err
			}
		}
		for _, d := range disks {
			if to, ok := out.Disks[d]; ok {
				if err := a.printf("restored %s to %s\n", d, to); err != nil {
					return err
				}
			}
		}
		if len(out.QEMU) == 0 {
			return nil
		}
		if err := a.printf("a machine like it:\n  qemu-system-x86_64"); err != nil {
			return err
		}
		for i := 0; i+1 < len(out.QEMU); i += 2 {
			if err := a.printf(" \\\n    %s %s", out.QEMU[i], shellWord(out.QEMU[i+1])); err != nil {
				return err
			}
		}
		return a.printf("\n")
	})
}

// shellWord quotes a word for a shell if it needs that.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,/:@%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
