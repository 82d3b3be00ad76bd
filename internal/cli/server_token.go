package cli

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newServerTokenCommand(a *app, o *serverOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Add, list, change and remove API tokens",
		Long: `An API token is what a program uses in place of a user's password: USER!NAME and a
secret, which is shown once. It may do what it was given rights to, and its user
has, too.`,
		Example: `  holdfast server token add ann@pbs!nas
  holdfast server acl grant /datastore/tank 'ann@pbs!nas' DatastoreBackup`,
	}
	simple := func(use, short, long, example string, run func(context.Context, names.AuthID) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Long: long, Example: example, Args: exactly(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				id, err := parseTokenArg(args[0])
				if err != nil {
					return err
				}
				return run(cmd.Context(), id)
			},
		}
	}
	cmd.AddCommand(newServerTokenAddCommand(a, o), newServerTokenUpdateCommand(a, o), &cobra.Command{
		Use:               "list [USER]",
		Short:             "List API tokens",
		Long:              `Lists the API tokens of a user, or of all.`,
		Example:           `  holdfast server token list ann@pbs`,
		Args:              between(0, 1),
		ValidArgsFunction: a.completeUsers(o),
		RunE: func(_ *cobra.Command, args []string) (err error) {
			var id names.AuthID
			if len(args) == 1 {
				if id, err = parseUserArg(args[0]); err != nil {
					return err
				}
			}
			return runServerTokenList(a, o, id)
		},
	}, simple("renew TOKEN", "Give an API token another secret", `Gives an API token another secret, and prints it. The old one is good for nothing
from then on.`, `  holdfast server token renew 'ann@pbs!nas'`,
		func(ctx context.Context, id names.AuthID) error {
			store, err := o.accounts(a)
			if err != nil {
				return err
			}
			key, err := store.RenewToken(ctx, "", id)
			if err != nil {
				return err
			}
			return a.printToken(id, key)
		},
	), simple("remove TOKEN", "Remove an API token", `Removes an API token with the rights that it has.`, `  holdfast server token remove 'ann@pbs!nas'`,
		func(ctx context.Context, id names.AuthID) error { return runServerAccountRemove(ctx, a, o, id) },
	))
	return cmd
}

// parseTokenArg reads the id of an API token.
func parseTokenArg(s string) (names.AuthID, error) {
	id, err := names.ParseAuthID(s)
	if err != nil {
		return id, usage(err)
	}
	if !id.IsToken() {
		return id, usagef("%q is a user, want an API token such as %s!nas", s, s)
	}
	return id, nil
}

func newServerTokenAddCommand(a *app, o *serverOptions) *cobra.Command {
	var f accountFlags
	cmd := &cobra.Command{
		Use:     "add TOKEN",
		Short:   "Add an API token",
		Long:    `Adds an API token and prints its secret, which nobody can see again.`,
		Example: `  holdfast server token add 'ann@pbs!nas' --comment "the NAS in the cellar"`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseTokenArg(args[0])
			if err != nil {
				return err
			}
			x := access.Account{ID: id}
			if err := f.apply(cmd, &x, a.Location); err != nil {
				return err
			}
			if err := x.Check(); err != nil {
				return usage(err)
			}
			store, err := o.accounts(a)
			if err != nil {
				return err
			}
			key, err := store.AddToken(cmd.Context(), "", x)
			if err != nil {
				return err
			}
			return a.printToken(id, key)
		},
	}
	f.add(cmd, false)
	return cmd
}

func newServerTokenUpdateCommand(a *app, o *serverOptions) *cobra.Command {
	var f accountFlags
	cmd := &cobra.Command{
		Use:     "update TOKEN",
		Short:   "Change what is known of an API token",
		Long:    `Changes what is given, and leaves the rest as it is.`,
		Example: `  holdfast server token update 'ann@pbs!nas' --enable=false`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseTokenArg(args[0])
			if err != nil {
				return err
			}
			return runServerAccountUpdate(cmd.Context(), a, o, id, func(x *access.Account) error { return f.apply(cmd, x, a.Location) })
		},
	}
	f.add(cmd, false)
	return cmd
}

// printToken shows the secret of a token.
func (a *app) printToken(id names.AuthID, key secret.Secret) error {
	value := string(key.Reveal())
	return a.print(map[string]string{"tokenid": id.String(), "value": value}, func() error {
		return a.printf("token:  %s\nsecret, shown this once: %s\n", id, value)
	})
}

func runServerTokenList(a *app, o *serverOptions, id names.AuthID) error {
	store, err := o.accounts(a)
	if err != nil {
		return err
	}
	users, _, err := store.Users()
	if err != nil {
		return err
	}
	list, bad := users.Tokens(id)
	if bad != nil {
		a.warn("%v", bad)
	}
	out := []accountJSON{}
	t := ui.Table{Columns: []ui.Column{{Title: "TOKEN"}, {Title: "STATE"}, {Title: "COMMENT"}}}
	for _, x := range list {
		out = append(out, accountOf(x))
		t.Add(x.ID.String(), accountState(x, a.Now()), x.Comment)
	}
	return a.print(out, func() error { return a.table(&t) })
}
