package cli

import (
	"context"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/remote"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/server"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newServerRemoteCommand(a *app, o *serverOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remote",
		Short: "Add, list, change and remove other servers",
		Long: `A remote is another server, with which sync jobs exchange snapshots. Its
password, or the secret of the API token, comes from HOLDFAST_REMOTE_PASSWORD
(or with _FILE, _FD or _CMD behind it), or is asked for. It is kept in the
configuration, which only the server may read.`,
		Example: `  holdfast server remote add far --host backup.example.org --auth-id sync@pbs!token --fingerprint "$FINGERPRINT"
  holdfast server remote list`,
	}
	cmd.AddCommand(newServerRemoteSetCommand(a, o, true), newServerRemoteSetCommand(a, o, false), &cobra.Command{
		Use:               "list",
		Short:             "List other servers",
		Long:              `Lists the other servers of the configuration, without their passwords.`,
		Example:           `  holdfast server remote list`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runServerRemoteList(a, o) },
	}, &cobra.Command{
		Use:     "remove NAME",
		Short:   "Forget another server",
		Long:    `Removes a server from the configuration. One that a job names stays.`,
		Example: `  holdfast server remote remove far`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := o.existing(a)
			if err != nil {
				return err
			}
			return jobError(jobs.RemoveRemote(cmd.Context(), d, args[0], ""))
		},
	})
	return cmd
}

func newServerRemoteSetCommand(a *app, o *serverOptions, add bool) *cobra.Command {
	var remove []string
	var password bool
	cmd := &cobra.Command{
		Use:     "update NAME",
		Short:   "Change another server",
		Long:    `Changes a server in the configuration; its password with --password.`,
		Example: `  holdfast server remote update far --port 8008`,
		Args:    exactly(1),
	}
	if add {
		cmd.Use = "add NAME"
		cmd.Short = "Add another server"
		cmd.Long = `Adds a server to the configuration. Who logs in there should be an API token with
rights on the datastores of the jobs only.`
		cmd.Example = `  holdfast server remote add far --host backup.example.org --auth-id sync@pbs!token`
	}
	values := propertyFlags(cmd, jobs.RemoteProperties())
	if !add {
		cmd.Flags().BoolVar(&password, "password", false, "change the password")
		cmd.Flags().StringSliceVar(&remove, "delete", nil, "properties that are removed, separated by commas")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d, err := o.existing(a)
		if err != nil {
			return err
		}
		v := values()
		for _, key := range remove {
			v[key] = nil
		}
		var p *secret.Secret
		if add || password {
			s, err := a.secrets().Get(cmd.Context(), "REMOTE_PASSWORD", "password for the server "+args[0])
			if err != nil {
				return err
			}
			p = &s
		}
		return jobError(jobs.SetRemote(cmd.Context(), d, args[0], "", add, v, p))
	}
	return cmd
}

// remoteJSON is a server in a listing.
type remoteJSON struct {
	Name        string `json:"name"`
	Host        string `json:"host"`
	Port        uint16 `json:"port"`
	Auth        string `json:"auth-id"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Comment     string `json:"comment,omitempty"`
}

func runServerRemoteList(a *app, o *serverOptions) error {
	d, err := o.existing(a)
	if err != nil {
		return err
	}
	all, _, err := jobs.Remotes(d)
	if err != nil {
		return err
	}
	out := []remoteJSON{}
	t := ui.Table{Columns: []ui.Column{{Title: "NAME"}, {Title: "HOST"}, {Title: "PORT", Align: ui.Right}, {Title: "AUTH ID"}, {Title: "COMMENT"}}}
	for _, r := range all {
		out = append(out, remoteJSON{r.Name, r.Host, r.Port, r.Auth.String(), r.Fingerprint, r.Comment})
		t.Add(r.Name, r.Host, fmt.Sprint(r.Port), r.Auth.String(), r.Comment)
	}
	return a.print(out, func() error { return a.table(&t) })
}

// remotes reaches other servers for jobs of ours.
type remotes struct{ agent string }

func (a *app) remotes() server.Remotes { return remotes{"holdfast/" + a.Version} }

// Open implements server.Remotes.
func (r remotes) Open(_ context.Context, other jobs.Remote, store string) (repo.Repository, error) {
	o, err := r.options(other)
	if err != nil {
		return nil, err
	}
	return remote.Open(addressOf(other, store), o)
}

// Stores implements server.Remotes.
func (r remotes) Stores(ctx context.Context, other jobs.Remote) ([]items.Store, error) {
	o, err := r.options(other)
	if err != nil {
		return nil, err
	}
	return remote.Stores(ctx, addressOf(other, ""), o)
}

func addressOf(r jobs.Remote, store string) address.Address {
	return address.Address{Auth: r.Auth, Host: r.Host, Port: r.Port, Store: store}
}

func (r remotes) options(other jobs.Remote) (o remote.Options, err error) {
	o.Agent = r.agent
	o.Password = func(context.Context) (secret.Secret, error) { return other.Password, nil }
	if other.Fingerprint != "" {
		o.Fingerprint, err = address.ParseFingerprint(other.Fingerprint)
	}
	return o, err
}
