package cli

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/server"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
	"github.com/spf13/cobra"
)

// serverOptions are what all commands of a server share.
type serverOptions struct{ config string }

func newServerCommand(a *app) *cobra.Command {
	o := new(serverOptions)
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Serve datastores to clients of Proxmox Backup Server",
		Long: `A server holds datastores for other machines, and its clients are those of Proxmox
Backup Server: proxmox-backup-client, the backup jobs of Proxmox VE, other
backup servers that synchronise, and Holdfast itself.

Its configuration is a directory with the files of /etc/proxmox-backup, named by
--config or HOLDFAST_SERVER_CONFIG. All commands but run change these files
only: a server that runs takes notice by itself.`,
		Example: `  holdfast server init --config /etc/holdfast/server
  export HOLDFAST_SERVER_CONFIG=/etc/holdfast/server
  holdfast server datastore add tank /mnt/tank
  holdfast server run`,
	}
	cmd.PersistentFlags().StringVar(&o.config, "config", "", "directory with the configuration of the server")
	complete(cmd, "config", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	})
	cmd.AddCommand(
		newServerInitCommand(a, o), newServerRunCommand(a, o), newServerDatastoreCommand(a, o), newServerUserCommand(a, o),
		newServerTokenCommand(a, o), newServerACLCommand(a, o), newServerCertCommand(a, o), newServerJobCommand(a, o), newServerRemoteCommand(a, o), newServerS3Command(a, o), newServerNotificationCommand(a, o), newServerAPICommand(a),
	)
	return cmd
}

// dir is the directory that flags and environment name.
func (o *serverOptions) dir(a *app) (confdir.Dir, error) {
	path := o.config
	if path == "" {
		path = a.getenv("HOLDFAST_SERVER_CONFIG")
	}
	if path == "" {
		return confdir.Dir{}, hint(usagef("no configuration is named"), "pass --config DIR or set HOLDFAST_SERVER_CONFIG; 'holdfast server init' makes one")
	}
	return confdir.New(path), nil
}

// existing is the directory, which must be there.
func (o *serverOptions) existing(a *app) (confdir.Dir, error) {
	d, err := o.dir(a)
	if err != nil {
		return d, err
	}
	if _, err := os.Stat(d.Path()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = hint(err, "'holdfast server init --config %s' makes it", d.Path())
		}
		return d, err
	}
	return d, nil
}

// accounts are those of the configuration.
func (o *serverOptions) accounts(a *app) (*accounts.Store, error) {
	d, err := o.existing(a)
	if err != nil {
		return nil, err
	}
	return accounts.NewStore(d, slog.New(slog.NewTextHandler(a.Stderr, nil))), nil
}

// stores are the datastores of the configuration.
func (o *serverOptions) stores(a *app) (*stores.Set, error) {
	d, err := o.existing(a)
	if err != nil {
		return nil, err
	}
	return stores.New(d), nil
}

func newServerAPICommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "api",
		Short: "Describe the calls of the server",
		Long: `Prints the description of all calls of the server's API, a document of OpenAPI
3.1, as /api2/json/openapi.json of a server that runs has it.`,
		Example:           `  holdfast server api > openapi.json`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			b, err := server.Describe(a.Version)
			if err == nil {
				_, err = a.Stdout.Write(b)
			}
			return err
		},
	}
}
