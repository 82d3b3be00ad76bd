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
		Short: "Say how people hear of jobs",
		Long: `How jobs ended is told by mail, Gotify and webhooks. Targets are where messages
go, matchers choose which. They are in notifications.cfg in the configuration,
and passwords in notifications-priv.cfg, both those of Proxmox Backup Server.

A password, token or secret is asked for on a terminal, or comes from
HOLDFAST_NOTIFICATION_SECRET, or that with _FILE, _FD or _CMD behind it.`,
		Example: `  holdfast server notification add smtp mail --server mail.example.org --mailto admin@example.org
  holdfast server notification add matcher failures --match-severity warning,error --target mail
  holdfast server notification test mail`,
	}
	cmd.AddCommand(newServerNoticeCommand(a, o, true), newServerNoticeCommand(a, o, false), &cobra.Command{
		Use:               "list",
		Short:             "List targets and matchers",
		Long:              `Lists where messages go, and what chooses them, without secrets.`,
		Example:           `  holdfast server notification list`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runServerNoticeList(a, o) },
	}, &cobra.Command{
		Use:   "remove TYPE NAME",
		Short: "Remove a target or a matcher",
		Long: `Removes a target with its secrets, or a matcher. A target that a matcher names
stays.`,
		Example: `  holdfast server notification remove matcher failures`,
		Args:    exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := o.existing(a)
			if err != nil {
				return err
			}
			if err := notify.Remove(cmd.Context(), d, args[0], args[1], ""); err != nil {
				return noticeError(err)
			}
			return a.print(map[string]string{"name": args[1], "type": args[0]}, func() error { return a.printf("%s %s removed\n", args[0], args[1]) })
		},
	}, &cobra.Command{
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
	if err != nil {
		return noticeError(err)
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
