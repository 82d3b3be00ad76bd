package cli

import (
	"context"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/spf13/cobra"
)

// newTapeMoves are the commands that move media.
func newTapeMoves(a *app, o *tapeOptions) []*cobra.Command {
	simple := func(use, short, long string, work func(context.Context, *job.World) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Long: long, Example: "  holdfast tape " + use, Args: exactly(0),
			RunE: func(cmd *cobra.Command, _ []string) error {
				return o.withWorld(cmd.Context(), a, func(_ *tapeSite, w *job.World) error { return work(cmd.Context(), w) })
			},
		}
	}
	unload := &cobra.Command{
		Use: "unload", Short: "Take the medium out of the drive into a slot",
		Long: `Takes the medium out of the drive: into the slot that it came from, another free
one, or --target-slot.`,
		Example: `  holdfast tape unload --target-slot 3`, Args: exactly(0),
	}
	target := unload.Flags().Int("target-slot", 0, "the slot, from 1")
	unload.RunE = func(cmd *cobra.Command, _ []string) error {
		return o.withWorld(cmd.Context(), a, func(_ *tapeSite, w *job.World) error { return w.Station.Unload(cmd.Context(), *target) })
	}
	return []*cobra.Command{
		simple("rewind", "Wind the medium to its beginning", `Winds the medium in the drive to its beginning.`, func(ctx context.Context, w *job.World) error {
			d, err := w.Station.Open(ctx)
			if err != nil {
				return err
			}
			err = d.Rewind(ctx)
			if cerr := d.Close(); err == nil {
				err = cerr
			}
			return err
		}),
		simple("eject", "Take the medium out of the drive", `Makes the drive give its medium out.`,
			func(ctx context.Context, w *job.World) error { return w.Station.Eject(ctx) }),
		simple("clean", "Clean the drive with a cleaning cartridge of the changer",
			`Loads the first cartridge whose barcode begins with CLN, and puts it back.`,
			func(ctx context.Context, w *job.World) error { return w.Clean(ctx) }),
		unload,
		{
			Use: "load-media LABEL", Short: "Load a medium by its label",
			Long: `Has the changer load the medium with this label, or where there is none waits
for people to insert it.`,
			Example: `  holdfast tape load-media TAPE01L8`, Args: exactly(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				ctx := cmd.Context()
				return o.withWorld(ctx, a, func(s *tapeSite, w *job.World) error {
					if w.Station.Changer != nil {
						return w.Station.Bring(ctx, args[0])
					}
					m, err := s.medium(args[0])
					if err != nil {
						return err
					}
					d, _, err := w.Station.Load(ctx, m.Label.Text, m.UUID())
					if err != nil {
						return err
					}
					return d.Close()
				})
			},
		},
		{
			Use: "load-media-from-slot SLOT", Short: "Load the medium of a slot",
			Long:    `Has the changer load what is in a slot, whatever its label.`,
			Example: `  holdfast tape load-media-from-slot 2`, Args: exactly(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				n, err := strconv.Atoi(args[0])
				if err != nil || n < 1 {
					return usagef("%q is no slot: they are numbered from 1", args[0])
				}
				return o.withWorld(cmd.Context(), a, func(_ *tapeSite, w *job.World) error { return w.Station.BringSlot(cmd.Context(), n) })
			},
		},
		{
			Use: "export-media LABEL", Short: "Move a medium to a slot for export",
			Long:    `Moves a medium to the first free slot that people take media out of.`,
			Example: `  holdfast tape export-media TAPE01L8`, Args: exactly(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return o.withWorld(cmd.Context(), a, func(_ *tapeSite, w *job.World) error {
					slot, err := w.Station.Export(cmd.Context(), args[0])
					if err != nil {
						return err
					}
					if err := w.UpdateOnline(cmd.Context()); err != nil {
						return err
					}
					return a.print(map[string]int{"slot": slot}, func() error { return a.printf("%s is in slot %d\n", args[0], slot) })
				})
			},
		},
	}
}
