package cli

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/guest/qemu"
	"github.com/spf13/cobra"
)

type guestCleanupOptions struct {
	qemu    qmpFlags
	libvirt libvirtFlags
	bitmaps bool
}

func newGuestCleanupCommand(a *app) *cobra.Command {
	var o guestCleanupOptions
	cmd := &cobra.Command{
		Use:   "cleanup [DOMAIN]",
		Short: "Remove what a killed backup left in a virtual machine",
		Long: `Removes from a running QEMU what a backup that was killed left there: exports,
jobs, block nodes, the NBD server; a guest that was stopped or frozen goes on.
The next backup of the guest does the same.

--bitmaps also removes the dirty bitmaps of all repositories, for a guest that
will not be backed up any more. Its next backups read everything.

With --libvirt the guest is a domain, and --abort-job also aborts a backup job
that another program began there.`,
		Example: `  holdfast guest cleanup --qmp /run/vm100.qmp --agent /run/vm100.qga
  holdfast guest cleanup --qmp /run/vm100.qmp --bitmaps
  holdfast guest cleanup web --libvirt qemu:///system --abort-job`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runGuestCleanup(cmd.Context(), a, o, args)
		},
	}
	o.qemu.reach(cmd.Flags())
	o.libvirt.reach(cmd.Flags())
	o.libvirt.abort(cmd.Flags())
	cmd.Flags().BoolVar(&o.bitmaps, "bitmaps", false, "remove all dirty bitmaps of Holdfast too")
	return cmd
}

func runGuestCleanup(ctx context.Context, a *app, o guestCleanupOptions, args []string) (err error) {
	var did []string
	switch {
	case o.libvirt.uri == "" && len(args) > 0:
		return usagef("a domain is named, and no daemon of libvirt: pass --libvirt URI")
	case o.libvirt.uri == "":
		did, err = a.cleanupQEMU(ctx, o)
	case len(args) == 0:
		return usagef("no domain is named")
	default:
		did, err = a.cleanupDomain(ctx, o, args[0])
	}
	if did == nil {
		did = []string{}
	}
	return errors.Join(err, a.print(map[string]any{"removed": did}, func() error {
		for _, d := range did {
			if err := a.printf("%s\n", d); err != nil {
				return err
			}
		}
		if len(did) == 0 && err == nil {
			return a.printf("nothing was left\n")
		}
		return nil
	}))
}

func (a *app) cleanupQEMU(ctx context.Context, o guestCleanupOptions) (did []string, err error) {
	opts, err := o.qemu.options(a)
	if err != nil {
		return nil, err
	}
	g, err := qemu.Open(ctx, opts)
	if err != nil {
		return nil, explainGuest(err)
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	did, err = g.Sweep(ctx)
	if o.bitmaps && err == nil {
		var dropped []string
		dropped, err = g.DropBitmaps(ctx)
		for _, b := range dropped {
			did = append(did, "bitmap of "+b)
		}
	}
	return did, err
}
