package cli

import (
	"context"
	"errors"
	"log/slog"

	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/server"
	"github.com/spf13/cobra"
)

func newServerNotificationCommand(a *app, o *serverOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notification",
		Short: "Try out how people hear of jobs",
		Long: `How jobs ended is told by mail and webhooks, as notifications.cfg in the
configuration says. That file and notifications-priv.cfg, with the passwords, are
those of Proxmox Backup Server, and are written by hand.`,
		Example: `  holdfast server notification test mail-to-admin`,
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "test TARGET",
		Short: "Send a message to a target",
		Long: `Sends a message to one target of the configuration, whatever its matchers say, and
tells what went wrong. It is tried once.`,
		Example: `  holdfast server notification test mail-to-admin`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runServerNotificationTest(cmd.Context(), a, o, args[0])
		},
	})
	return cmd
}

func runServerNotificationTest(ctx context.Context, a *app, o *serverOptions, name string) (err error) {
	srv, err := o.quiet(a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Close(context.WithoutCancel(ctx))) }()
	err = srv.TestNotification(ctx, name)
	if errors.Is(err, notify.ErrNotFound) {
		return hint(err, "targets are sections of notifications.cfg")
	}
	if err != nil {
		return err
	}
	return a.printf("%s has taken the message\n", name)
}

// quiet is the server of the configuration, for a command: it serves nobody, and
// people are not notified.
func (o *serverOptions) quiet(a *app) (*server.Server, error) {
	d, err := o.existing(a)
	if err != nil {
		return nil, err
	}
	node, err := a.Hostname()
	if err != nil {
		node = "localhost"
	}
	return server.New(placed(d, server.Options{
		Config: d, Version: a.Version, Node: node, Location: a.Location, Remotes: a.remotes(), Silent: true, Log: slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}))
}
