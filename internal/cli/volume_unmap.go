package cli

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/volume"
	"github.com/spf13/cobra"
)

func newVolumeUnmapCommand(a *app) *cobra.Command {
	var o volume.UnmapOptions
	cmd := &cobra.Command{
		Use:   "unmap NAME-OR-DEVICE...",
		Short: "Take mapped volumes away again",
		Long: `Takes mappings away: each is named by its name, its node below /dev/mapper, or
the device that the volume lies on. The volume stays as it is; what was written to
a throw-away mapping is gone.

One that is mounted or open stays, and it is said who uses it. What is no volume
is refused.`,
		Example: `  holdfast volume unmap virtlet-dm-vm-100
  holdfast volume unmap /dev/vg0/vm-100`,
		Args:              between(1, -1),
		ValidArgsFunction: a.completeVolumes,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Prefix = a.volumePrefix(o.Prefix)
			return runVolumeUnmap(cmd.Context(), a, args, o)
		},
	}
	cmd.Flags().DurationVar(&o.Wait, "wait", volume.DefaultWait, "how long to wait for another command that works on the device")
	a.prefixFlag(cmd, &o.Prefix)
	return cmd
}

func runVolumeUnmap(ctx context.Context, a *app, args []string, o volume.UnmapOptions) error {
	done := []mappingJSON{}
	var errs []error
	for _, which := range args {
		m, err := volume.Unmap(ctx, which, o)
		if err != nil {
			errs = append(errs, explainVolume(err))
			continue
		}
		done = append(done, describeMapping(m))
	}
	err := a.print(done, func() error {
		for _, m := range done {
			if err := a.printf("unmapped %s (%s)\n", m.Name, m.Device); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}
