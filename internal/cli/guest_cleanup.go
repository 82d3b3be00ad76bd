package cli

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/guest/qemu"
	"github.com/spf13/cobra"
)

type guestCleanupOptions struct {
	qemu    qmpFlags
	bitmaps bool
}

func newGuestCleanupCommand(a *app) *cobra.Command {
	var o guestCleanupOptions
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove what a killed backup left in a virtual machine",
		Long: `Removes from a running QEMU what a backup that was killed left there: exports,
jobs, block nodes, the NBD server; a guest that was stopped or frozen goes on.
The next backup of the guest does the same.

--bitmaps also removes the dirty bitmaps of all repositories, for a guest that
will not be backed up any more. Its next backups read everything.`,
		Example: `  holdfast guest cleanup --qmp /run/vm100.qmp --agent /run/vm100.qga
  holdfast guest cleanup --qmp /run/vm100.qmp --bitmaps`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runGuestCleanup(cmd.Context(), a, o)
		},
	}
	o.qemu.reach(cmd.Flags())
	cmd.Flags().BoolVar(&o.bitmaps, "bitmaps", false, "remove all dirty bitmaps of Holdfast too")
	return cmd
}

func runGuestCleanup(ctx context.Context, a *app, o guestCleanupOptions) (err error) {
	opts, err := o.qemu.options(a)
	if err != nil {
		return err
	}
	g, err := qemu.Open(ctx, opts)
	if err != nil {
		return explainGuest(err)
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	did, err := g.Sweep(ctx)
	if o.bitmaps && err == nil {
		var dropped []string
		dropped, err = g.DropBitmaps(ctx)
		for _, b := range dropped {
			did = append(did, "bitmap of "+b)
		}
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
