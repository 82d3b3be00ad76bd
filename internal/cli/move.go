package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/spf13/cobra"
)

// moveOptions say where something goes.
type moveOptions struct {
	target string
	given  bool
	merge  bool
	depth  int
	keep   bool // emptied namespaces
}

func (o *moveOptions) to() (names.Namespace, error) {
	if !o.given {
		return "", hint(usagef("--target-ns is needed"), `--target-ns "" is the root namespace`)
	}
	ns, err := names.ParseNamespace(strings.Trim(o.target, "/"))
	if err != nil {
		return "", usage(err)
	}
	return ns, nil
}

func newGroupMoveCommand(a *app) *cobra.Command {
	var o moveOptions
	cmd := &cobra.Command{
		Use:   "move GROUP",
		Short: "Move a group to another namespace",
		Long: `Moves a group with its owner, notes and protected snapshots to another namespace
of the same repository; --target-ns "" is the root. No data is copied. If the
group is there already, the snapshots join it: both must be of one owner, and all
that come must be newer. The group must not be in use.`,
		Example: `  holdfast group move vm/100 --target-ns archive
  holdfast group move vm/100 --ns archive --target-ns "" --merge-group=false`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.given = cmd.Flags().Changed("target-ns")
			return runGroupMove(cmd.Context(), a, args[0], o)
		},
	}
	cmd.Flags().StringVar(&o.target, "target-ns", "", "the namespace that it goes to")
	cmd.Flags().BoolVar(&o.merge, "merge-group", true, "let the snapshots join a group that is there already")
	complete(cmd, "target-ns", a.completeNamespaces)
	return cmd
}

func newNamespaceMoveCommand(a *app) *cobra.Command {
	var o moveOptions
	cmd := &cobra.Command{
		Use:   "move [NAMESPACE]",
		Short: "Move what is in a namespace to another one",
		Long: `Moves the groups of a namespace and of those below it to another place in the same
repository, which is made if only its last part is missing. No data is copied.
Groups that are there already are joined as by 'group move'. What cannot be moved
stays and is told; a repeated command goes on.`,
		Example: `  holdfast namespace move prod --target-ns archive/2026
  holdfast namespace move prod --target-ns archive --max-depth 0`,
		Args:              between(0, 1),
		ValidArgsFunction: a.completeNamespaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			ns, err := a.namespaceArg(args)
			if err != nil {
				return err
			}
			o.given = cmd.Flags().Changed("target-ns")
			return runNamespaceMove(cmd.Context(), a, ns, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.target, "target-ns", "", "the namespace that it becomes")
	f.BoolVar(&o.merge, "merge-groups", true, "let snapshots join groups that are there already")
	f.IntVar(&o.depth, "max-depth", -1, "how many levels of namespaces below move too (-1: all)")
	f.BoolVar(&o.keep, "keep-source", false, "leave namespaces that have become empty")
	complete(cmd, "target-ns", a.completeNamespaces)
	return cmd
}

// withMover opens the repository for a move.
func (a *app) withMover(ctx context.Context, job func(repo.Mover) error) error {
	return a.with(ctx, func(r repo.Repository) error {
		m, ok := r.(repo.Mover)
		if !ok {
			return fmt.Errorf("backups cannot be moved in %s", r.Location())
		}
		return job(m)
	})
}

func runGroupMove(ctx context.Context, a *app, arg string, o moveOptions) error {
	from, g, err := a.parseGroup(arg)
	if err != nil {
		return err
	}
	to, err := o.to()
	if err != nil {
		return err
	}
	return a.withMover(ctx, func(m repo.Mover) error {
		if err := m.MoveGroup(ctx, from, g, to, o.merge); err != nil {
			return err
		}
		return a.print(map[string]string{"group": g.String(), "ns": to.String()}, func() error {
			return a.printf("%s is in %s now\n", g, namespaceText(to))
		})
	})
}

func runNamespaceMove(ctx context.Context, a *app, from names.Namespace, o moveOptions) error {
	to, err := o.to()
	if err != nil {
		return err
	}
	opt := repo.MoveNamespaceOptions{To: to, Depth: o.depth, Merge: o.merge, KeepSource: o.keep}
	return a.withMover(ctx, func(m repo.Mover) error {
		if err := m.MoveNamespace(ctx, from, opt); err != nil {
			return err
		}
		return a.print(map[string]string{"ns": to.String()}, func() error {
			return a.printf("%s is in %s now\n", from, namespaceText(to))
		})
	})
}

func namespaceText(ns names.Namespace) string {
	if ns.IsRoot() {
		return "the root namespace"
	}
	return "namespace " + ns.String()
}
