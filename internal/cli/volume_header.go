package cli

import (
	"github.com/holdfast-backup/holdfast/internal/volume"
	"github.com/spf13/cobra"
)

func newVolumeHeaderCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "header DEVICE",
		Short: "Show what a volume says that it holds",
		Long: `Shows the header of a volume, which may be mapped meanwhile. The state is

  filling      it is being filled, or that was interrupted: it is a mixture
  complete     the payload is the image
  used         the payload was the image; a guest may have written to it since
  unrecorded   a program wrote the header that records no state

A device without a header ends with exit code 10.`,
		Example: `  holdfast volume header /dev/vg0/vm-100
  holdfast volume header /dev/vg0/vm-100 --output-format json`,
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			i, err := volume.Read(args[0])
			if err != nil {
				return explainVolume(err)
			}
			out := describeVolume(i)
			return a.print(out, func() error {
				t := out.lines()
				return a.table(&t)
			})
		},
	}
}
