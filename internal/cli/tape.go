package cli

import "github.com/spf13/cobra"

func newTapeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tape",
		Short: "Tape drives and libraries",
		Long: `Works with tapes. 'holdfast tape library' makes a library of virtual drives and
cartridges out of a directory.`,
		Example: `  holdfast tape library create /srv/vtl --generation 8`,
	}
	cmd.AddCommand(newTapeLibraryCommand(a))
	return cmd
}
