package cli

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/spf13/cobra"
)

func newSnapshotForgetCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "forget SNAPSHOT...",
		Short: "Remove snapshots",
		Long: `Removes snapshots for good. Each must be named with its time. Protected ones and
those that are being read stay, and the command fails.

The space becomes free by the 'holdfast gc' that runs a day later or after
that.`,
		Example: `  holdfast snapshot forget vm/100/2026-11-22T10:00:00Z`,
		Args:    between(1, -1),
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
			return a.completeSnapshots(cmd, nil, prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSnapshotForget(cmd.Context(), a, args)
		},
	}
}

func runSnapshotForget(ctx context.Context, a *app, args []string) error {
	for _, arg := range args { // all of them before the first is removed
		if _, err := a.exactSnapshot(arg); err != nil {
			return err
		}
	}
	return a.with(ctx, func(r repo.Repository) error {
		removed := []string{}
		for _, arg := range args {
			s, err := a.exactSnapshot(arg)
			if err != nil {
				return err
			}
			if err := r.Forget(ctx, s); err != nil {
				return err
			}
			removed = append(removed, show(s))
		}
		return a.print(map[string]any{"removed": removed}, func() error {
			for _, s := range removed {
				if err := a.printf("removed %s\n", s); err != nil {
					return err
				}
			}
			return nil
		})
	})
}
