package cli

import (
	"github.com/spf13/cobra"
)

// pxarProgram is the name under which this program is the tool for archive
// files, and nothing else.
const pxarProgram = "pxar"

func newPxarCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pxar",
		Short: "Make, list, extract and mount archive files",
		Long: `Works on pxar archives that are files, without a repository: one file NAME.pxar,
or the pair NAME.mpxar with names and metadata and NAME.ppxar with the contents
of files. The archives are those inside of backups, byte for byte.

Called by the name pxar, as through a symbolic link, the program is this command.`,
		Example: `  holdfast pxar create home.pxar /home/anna
  holdfast pxar list home.pxar
  ln -s $(command -v holdfast) /usr/local/bin/pxar`,
	}
	cmd.AddCommand(newPxarCreateCommand(a), newPxarExtractCommand(a), newPxarListCommand(a), newPxarMountCommand(a))
	return cmd
}

// newPxarRootCommand is the program pxar.
func newPxarRootCommand(a *app) *cobra.Command {
	root := newPxarCommand(a)
	a.setUp(root)
	root.AddCommand(newVersionCommand(a), newCompletionCommand(a))
	root.InitDefaultHelpCmd()
	parents(root)
	return root
}
