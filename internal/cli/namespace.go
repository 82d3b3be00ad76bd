package cli

import (
	"context"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/spf13/cobra"
)

func newNamespaceCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "namespace",
		Short: "List, create, move and delete namespaces",
		Long: `Namespaces divide a repository, so that machines of the same name do not meet.
Chunks are shared between all of them. There may be 7 levels. A namespace is
named by the argument or by --ns.`,
		Example: `  holdfast namespace create prod
  holdfast namespace list
  holdfast namespace delete prod`,
	}
	var withGroups bool
	remove := &cobra.Command{
		Use:   "delete [NAMESPACE]",
		Short: "Delete a namespace and those below it",
		Long: `Deletes a namespace and those below it. If they hold groups nothing happens,
unless --delete-groups asks to remove these too.`,
		Example: `  holdfast namespace delete prod
  holdfast namespace delete test --delete-groups`,
		Args:              between(0, 1),
		ValidArgsFunction: a.completeNamespaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			ns, err := a.namespaceArg(args)
			if err != nil {
				return err
			}
			return runNamespaceDelete(cmd.Context(), a, ns, withGroups)
		},
	}
	remove.Flags().BoolVar(&withGroups, "delete-groups", false, "remove the groups inside too")
	cmd.AddCommand(&cobra.Command{
		Use:               "list",
		Short:             "List namespaces",
		Long:              `Lists the namespaces below --ns, of all levels; without --ns all of them.`,
		Example:           `  holdfast namespace list`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runNamespaceList(cmd.Context(), a)
		},
	}, &cobra.Command{
		Use:               "create [NAMESPACE]",
		Short:             "Create a namespace",
		Long:              `Creates a namespace. The one above it must exist.`,
		Example:           `  holdfast namespace create prod/web`,
		Args:              between(0, 1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			ns, err := a.namespaceArg(args)
			if err != nil {
				return err
			}
			return runNamespaceCreate(cmd.Context(), a, ns)
		},
	}, newNamespaceMoveCommand(a), remove)
	return cmd
}

// namespaceArg is the argument, or --ns; not the root.
func (a *app) namespaceArg(args []string) (names.Namespace, error) {
	ns := a.ns
	if len(args) == 1 {
		var err error
		if ns, err = names.ParseNamespace(strings.Trim(args[0], "/")); err != nil {
			return "", usage(err)
		}
	}
	if ns.IsRoot() {
		return "", usagef("no namespace is named")
	}
	return ns, nil
}

func runNamespaceList(ctx context.Context, a *app) error {
	return a.with(ctx, func(r repo.Repository) error {
		list, err := r.Namespaces(ctx, a.ns)
		if err != nil {
			return err
		}
		out := []map[string]string{}
		for _, ns := range list {
			out = append(out, map[string]string{"ns": ns.String()})
		}
		return a.print(out, func() error {
			for _, ns := range list {
				if err := a.printf("%s\n", ns); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func runNamespaceCreate(ctx context.Context, a *app, ns names.Namespace) error {
	return a.with(ctx, func(r repo.Repository) error {
		if err := r.CreateNamespace(ctx, ns); err != nil {
			return err
		}
		return a.print(map[string]string{"ns": ns.String()}, func() error {
			return a.printf("namespace %s created\n", ns)
		})
	})
}

func runNamespaceDelete(ctx context.Context, a *app, ns names.Namespace, withGroups bool) error {
	return a.with(ctx, func(r repo.Repository) error {
		if err := r.DeleteNamespace(ctx, ns, withGroups); err != nil {
			return err
		}
		return a.print(map[string]string{"ns": ns.String()}, func() error {
			return a.printf("namespace %s deleted\n", ns)
		})
	})
}
