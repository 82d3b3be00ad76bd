package cli

import (
	"context"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type initOptions struct {
	path string
	lazy bool
}

func newInitCommand(a *app) *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Create a repository",
		Long: `Creates a repository in DIR, or in the directory that --repository names. The
directory is made if need be; one that exists must be empty, apart from names
that begin with a dot, and lost+found.

The layout is that of a Proxmox Backup Server datastore, with its 65,536 chunk
directories, so that such a server can adopt it later (give it to user and
group "backup" then). These directories take 256 MiB on ext4; --lazy makes them
only as they are needed, which that server does not accept.

An init that was interrupted is completed by calling it again.`,
		Example: `  holdfast init /mnt/backup
  holdfast init --lazy ~/backups`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if len(args) == 1 {
				o.path = strings.TrimPrefix(args[0], "dir:")
			} else if o.path, err = a.directory("init"); err != nil {
				return err
			}
			if o.path == "" {
				return usagef("the directory's name is empty")
			}
			return runInit(cmd.Context(), a, o)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	cmd.Flags().BoolVar(&o.lazy, "lazy", false, "make chunk directories only as they are needed")
	return cmd
}

func runInit(ctx context.Context, a *app, o initOptions) error {
	create := datastore.CreateOptions{Lazy: o.lazy}
	if ui.IsTerminal(a.Stderr) || a.progress { // it takes a second: nothing for a log
		m := a.meter("init", ui.Items)
		create.Progress = func(done, total int) { m.Update(int64(done), int64(total), "") }
		defer m.Done(true)
	}
	if err := a.Create(ctx, o.path, create); err != nil {
		return err
	}
	return a.print(map[string]string{"repository": o.path}, func() error {
		return a.printf("repository created in %s\n", o.path)
	})
}
