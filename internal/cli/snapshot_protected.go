package cli

import (
	"context"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/spf13/cobra"
)

func newSnapshotProtectedCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "protected",
		Short: "Show and change the protection of a snapshot",
		Long:  `A protected snapshot is removed neither by forget nor by prune.`,
		Example: `  holdfast snapshot protected show vm/100/latest
  holdfast snapshot protected update vm/100/latest true`,
	}
	cmd.AddCommand(&cobra.Command{
		Use:               "show SNAPSHOT",
		Short:             "Print whether a snapshot is protected",
		Long:              `Prints whether a snapshot is protected from removal: true or false.`,
		Example:           `  holdfast snapshot protected show vm/100/2026-11-22T10:00:00Z`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runProtectedShow(cmd.Context(), a, args[0])
		},
	}, &cobra.Command{
		Use:               "update SNAPSHOT true|false",
		Short:             "Protect a snapshot, or stop doing so",
		Long:              `Protects a snapshot from removal (true), or takes the protection away (false).`,
		Example:           `  holdfast snapshot protected update vm/100/2026-11-22T10:00:00Z true`,
		Args:              exactly(2),
		ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			on, err := strconv.ParseBool(args[1])
			if err != nil {
				return usagef("%q is neither true nor false", args[1])
			}
			return runProtectedUpdate(cmd.Context(), a, args[0], on)
		},
	})
	return cmd
}

func runProtectedShow(ctx context.Context, a *app, arg string) error {
	p, err := a.parsePlace(arg)
	if err != nil {
		return err
	}
	return a.with(ctx, func(r repo.Repository) error {
		s, err := p.resolve(ctx, r)
		if err != nil {
			return err
		}
		info, err := findSnapshot(ctx, r, s)
		if err != nil {
			return err
		}
		return a.print(map[string]bool{"protected": info.Protected}, func() error {
			return a.printf("%t\n", info.Protected)
		})
	})
}

func runProtectedUpdate(ctx context.Context, a *app, arg string, on bool) error {
	p, err := a.parsePlace(arg)
	if err != nil {
		return err
	}
	return a.with(ctx, func(r repo.Repository) error {
		s, err := p.resolve(ctx, r)
		if err != nil {
			return err
		}
		if err := r.SetProtected(ctx, s, on); err != nil {
			return err
		}
		word := "protected"
		if !on {
			word = "no longer protected"
		}
		return a.print(map[string]bool{"protected": on}, func() error {
			return a.printf("%s is %s\n", show(s), word)
		})
	})
}
