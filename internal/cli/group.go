package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newGroupCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "Remove, describe, move and hand over backup groups",
		Long:  `A group is all snapshots of one machine, as vm/100.`,
		Example: `  holdfast group forget vm/100
  holdfast group notes update vm/100 "web server"
  holdfast group change-owner vm/100 backup@pbs`,
	}
	notes := &cobra.Command{
		Use:   "notes",
		Short: "Show and change the notes of a group",
		Long:  `Notes are text of any number of lines; 'holdfast list' shows the first one.`,
		Example: `  holdfast group notes show vm/100
  holdfast group notes update vm/100 "web server"`,
	}
	notes.AddCommand(&cobra.Command{
		Use:               "show GROUP",
		Short:             "Print the notes of a group",
		Long:              `Prints the notes of a group; nothing when there are none.`,
		Example:           `  holdfast group notes show vm/100`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runGroupNotesShow(cmd.Context(), a, args[0])
		},
	}, &cobra.Command{
		Use:               "update GROUP TEXT",
		Short:             "Replace the notes of a group",
		Long:              `Replaces the notes by TEXT, or by standard input if TEXT is '-'.`,
		Example:           `  holdfast group notes update vm/100 "web server"`,
		Args:              exactly(2),
		ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runGroupNotesUpdate(cmd.Context(), a, args[0], args[1])
		},
	})
	cmd.AddCommand(&cobra.Command{
		Use:   "forget GROUP",
		Short: "Remove all snapshots of a group",
		Long: `Removes all snapshots of a group and the group itself. Protected snapshots stay,
and the group with them; the command ends with exit code 3 then.`,
		Example:           `  holdfast group forget vm/100`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runGroupForget(cmd.Context(), a, args[0])
		},
	}, &cobra.Command{
		Use:   "change-owner GROUP OWNER",
		Short: "Give a group to another owner",
		Long: `Changes the owner of a group, a user such as root@pam or an API token such as
root@pam!backup. A backup that says
who it is for (--owner) is refused in a group of somebody else.`,
		Example:           `  holdfast group change-owner vm/100 backup@pbs`,
		Args:              exactly(2),
		ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runChangeOwner(cmd.Context(), a, args[0], args[1])
		},
	}, newGroupMoveCommand(a), notes)
	return cmd
}

func runGroupForget(ctx context.Context, a *app, arg string) error {
	ns, g, err := a.parseGroup(arg)
	if err != nil {
		return err
	}
	return a.with(ctx, func(r repo.Repository) error {
		res, err := r.ForgetGroup(ctx, ns, g)
		if err != nil {
			return err
		}
		err = a.print(map[string]int{"removed-snapshots": res.Removed, "protected-snapshots": res.Protected}, func() error {
			return a.printf("removed %s of %s\n", plural(res.Removed, "snapshot"), arg)
		})
		if err == nil && res.Protected > 0 {
			err = hint(
				fmt.Errorf("%w: %s of %s kept, and the group with them", errSkipped, plural(res.Protected, "protected snapshot"), arg),
				"take the protection away with 'holdfast snapshot protected update SNAPSHOT false'",
			)
		}
		return err
	})
}

func runGroupNotesShow(ctx context.Context, a *app, arg string) error {
	ns, g, err := a.parseGroup(arg)
	if err != nil {
		return err
	}
	return a.with(ctx, func(r repo.Repository) error {
		notes, err := r.GroupNotes(ctx, ns, g)
		if err != nil {
			return err
		}
		return a.print(map[string]string{"notes": notes}, func() error {
			if notes == "" {
				return nil
			}
			return a.printf("%s\n", strings.TrimSuffix(notes, "\n"))
		})
	})
}

func runGroupNotesUpdate(ctx context.Context, a *app, arg, text string) error {
	ns, g, err := a.parseGroup(arg)
	if err != nil {
		return err
	}
	if text, err = a.notesText(text); err != nil {
		return err
	}
	return a.with(ctx, func(r repo.Repository) error {
		if err := r.SetGroupNotes(ctx, ns, g, text); err != nil {
			return err
		}
		return a.print(map[string]string{"notes": text}, func() error {
			return a.printf("notes of %s: %s\n", arg, ui.FirstLine(text))
		})
	})
}

func runChangeOwner(ctx context.Context, a *app, arg, owner string) error {
	ns, g, err := a.parseGroup(arg)
	if err != nil {
		return err
	}
	if err := checkOwner(owner); err != nil {
		return err
	}
	return a.with(ctx, func(r repo.Repository) error {
		if err := r.SetOwner(ctx, ns, g, owner); err != nil {
			return err
		}
		return a.print(map[string]string{"owner": owner}, func() error {
			return a.printf("%s belongs to %s now\n", arg, owner)
		})
	})
}
