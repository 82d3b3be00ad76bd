package cli

import (
	"github.com/spf13/cobra"
)

// tapeProgram is the name under which this program is the one for tapes.
const tapeProgram = "proxmox-tape"

func newTapeCommand(a *app) *cobra.Command {
	o := new(tapeOptions)
	cmd := &cobra.Command{
		Use:   "tape",
		Short: "Write backups to tape and get them back",
		Long: `Writes snapshots to LTO tapes, and brings them back. Media are interchangeable
with those of Proxmox Backup Server, and so are the files with what is
configured and what is known of media.

A medium gets a label, and belongs to a pool. A backup writes what its media set
does not have yet, and adds media of the pool as it needs them; when a pool begins
a new set, and when old media may be overwritten, is set for the pool.

The configuration is in --config or HOLDFAST_SERVER_CONFIG, else in
/etc/proxmox-backup if that is there, else in /etc/holdfast/server, or for users
in ~/.config/holdfast. What is known of media is in --state or
HOLDFAST_TAPE_STATE, else at the place that belongs to the configuration. The
drive is named by --drive or PROXMOX_TAPE_DRIVE; one alone needs no name.

Without a drive 'holdfast tape library' makes a virtual library of files.

Called by the name proxmox-tape, as through a symbolic link, the program is this
command.`,
		Example: `  holdfast tape library create /srv/vtl
  holdfast tape library add /srv/vtl TAPE01L8 TAPE02L8 --capacity 10G
  holdfast tape changer create lib0 --path /srv/vtl/changer
  holdfast tape drive create drive0 --path /srv/vtl/drive0 --changer lib0
  holdfast tape pool create daily
  holdfast tape barcode-label --pool daily
  holdfast tape backup tank daily --datastore tank=/mnt/tank
  holdfast tape media content`,
	}
	o.flags(a, cmd)
	cmd.AddCommand(
		newTapeBackupCommand(a, o), newTapeRestoreCommand(a, o), newTapeExtractCommand(a, o),
		newTapeLabelCommand(a, o), newTapeBarcodeLabelCommand(a, o), newTapeReadLabelCommand(a, o),
		newTapeInventoryCommand(a, o), newTapeCatalogCommand(a, o), newTapeFormatCommand(a, o),
		newTapeDriveCommand(a, o), newTapeChangerCommand(a, o), newTapePoolCommand(a, o), newTapeMediaCommand(a, o), newTapeKeyCommand(a, o),
		newTapeJobCommand(a, o), newTapeLibraryCommand(a), newMtCommand(a, o), newMtxCommand(a, o),
	)
	cmd.AddCommand(newTapeMoves(a, o)...)
	cmd.AddCommand(newTapeQuestions(a, o)...)
	return cmd
}

// newTapeRootCommand is the program proxmox-tape.
func newTapeRootCommand(a *app) *cobra.Command {
	root := newTapeCommand(a)
	root.Use = tapeProgram
	a.setUp(root)
	root.AddCommand(newVersionCommand(a), newCompletionCommand(a))
	root.InitDefaultHelpCmd()
	parents(root)
	return root
}

// flags gives a program the flags of all commands of tapes.
func (o *tapeOptions) flags(a *app, cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&o.config, "config", "", "directory with the configuration")
	f.StringVar(&o.state, "state", "", "directory with what is known of media")
	f.StringVar(&o.drive, "drive", "", "the drive")
	for _, flag := range []string{"config", "state"} {
		complete(cmd, flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		})
	}
	complete(cmd, "drive", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return o.driveNames(a), cobra.ShellCompDirectiveNoFileComp
	})
}
