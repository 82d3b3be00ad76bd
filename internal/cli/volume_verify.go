package cli

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/volume"
	"github.com/spf13/cobra"
)

type volumeVerifyOptions struct {
	wait    time.Duration
	workers int
	key     keyOptions
}

func newVolumeVerifyCommand(a *app) *cobra.Command {
	var o volumeVerifyOptions
	cmd := &cobra.Command{
		Use:   "verify DEVICE [SNAPSHOT ARCHIVE]",
		Short: "Compare a volume with its snapshot",
		Long: `Reads all of a volume and compares it with the snapshot that its header names, or
with the given one, which must be of the same image. Nothing but the index is read
from the repository. The volume must not be mapped.

A difference in a complete volume is damage, and ends with exit code 4. In a used
one it is what a guest wrote: it is shown, and is no error.`,
		Example: `  holdfast volume verify /dev/vg0/vm-100
  holdfast volume verify /dev/vg0/vm-100 vm/100/2026-11-22T10:00:00Z disk.img`,
		Args: between(1, 3),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return a.completeArchives(cmd, args[1:], prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return usagef("an argument is missing: %s", cmd.UseLine())
			}
			return runVolumeVerify(cmd.Context(), a, args, o)
		},
	}
	cmd.Flags().IntVar(&o.workers, "workers", 0, "chunks worked on at a time, two each (0: by the number of CPUs)")
	cmd.Flags().DurationVar(&o.wait, "wait", volume.DefaultWait, "how long to wait for another command that works on the device")
	o.key.readFlags(cmd)
	return cmd
}

func runVolumeVerify(ctx context.Context, a *app, args []string, o volumeVerifyOptions) error {
	if o.workers < 0 || o.workers > 256 {
		return usagef("--workers %d does not lie between 0 and 256", o.workers)
	}
	device := args[0]
	if len(args) == 3 {
		return a.withSnapshot(ctx, args[1], func(_ repo.Repository, s repo.Snapshot) error {
			name, err := archiveNamed(s.Manifest(), args[2])
			if err != nil {
				return err
			}
			return a.verifyVolume(ctx, device, s, name, o)
		})
	}
	i, err := volume.Read(device)
	if err != nil {
		return explainVolume(err)
	}
	r := i.Header.Record
	if r == nil || !r.Named() {
		return usagef("the header of %s does not say from which snapshot it is: name SNAPSHOT and ARCHIVE", device)
	}
	return a.with(ctx, func(rep repo.Repository) error {
		s, err := rep.Open(ctx, r.Snapshot)
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }() // was only read
		return a.verifyVolume(ctx, device, s, r.Archive, o)
	})
}

func (a *app) verifyVolume(ctx context.Context, device string, s repo.Snapshot, name names.Archive, o volumeVerifyOptions) error {
	f, ok := s.Manifest().File(string(name))
	if !ok {
		return hint(fmt.Errorf("snapshot %s has no archive %s: %w", show(s.Name()), name.ClientName(), repo.ErrNotFound),
			"it has %s", join(archiveNames(s.Manifest().Files)))
	}
	if name.Kind() != names.Fidx {
		return usagef("%s is no disk image", name.ClientName())
	}
	key, err := a.keyFor(ctx, o.key, show(s.Name()), s.Manifest(), f.CryptMode == manifest.ModeEncrypt)
	if err != nil {
		return err
	}
	var done atomic.Int64
	stop := a.follow(a.meter("verify "+device, ui.Bytes), func() (int64, int64, string) { return done.Load(), int64(f.Size), "" })
	out, err := volume.Verify(ctx, device, volume.Source{Snapshot: s, Archive: name, Key: key},
		volume.VerifyOptions{Options: volume.Options{Wait: o.wait}, Workers: o.workers, Done: &done})
	stop(err == nil)
	if err != nil {
		return explainVolume(err)
	}
	if err := a.showVerified(out, s, name); err != nil {
		return err
	}
	if h := out.Header.Record; out.Differs > 0 && (h == nil || h.State != volumeheader.Used) {
		return hint(mark(errDamaged, "%s of %s are not what the snapshot has", ui.Size(out.Differs), device),
			"'holdfast restore %s %s --volume %s --refill' writes what differs", show(s.Name()), name.ClientName(), device)
	}
	return nil
}

func (a *app) showVerified(out volume.Verified, s repo.Snapshot, name names.Archive) error {
	ranges := []rangeJSON{}
	for _, r := range out.Ranges {
		ranges = append(ranges, rangeJSON{r.Offset, r.Length})
	}
	all := map[string]any{
		"device": out.Device, "snapshot": show(s.Name()), "archive": name.ClientName(), "state": volumeState(out.Header),
		"size": out.Bytes, "differs": out.Differs, "ranges": ranges, "more": out.More,
	}
	return a.print(all, func() error {
		what := fmt.Sprintf("%s of %s", name.ClientName(), show(s.Name()))
		if out.Differs == 0 {
			return a.printf("%s holds %s: %s compared, all equal\n", out.Device, what, ui.Size(out.Bytes))
		}
		for _, r := range ranges {
			if err := a.printf("offset %d: %s differ\n", r.Offset, ui.Size(r.Length)); err != nil {
				return err
			}
		}
		if out.More {
			if err := a.printf("and more\n"); err != nil {
				return err
			}
		}
		why := ""
		if volumeState(out.Header) == "used" {
			why = "; a guest may have written to it"
		}
		return a.printf("%s differs from %s in %s of %s%s\n", out.Device, what, ui.Size(out.Differs), ui.Size(out.Bytes), why)
	})
}
