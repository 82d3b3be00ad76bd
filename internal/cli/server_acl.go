package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newServerACLCommand(a *app, o *serverOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "acl",
		Short: "List, give and take rights",
		Long: `A user or API token has roles at places: / is everything, /datastore/tank a
datastore, /datastore/tank/a a namespace in it. 'holdfast server acl roles' lists
the roles. DatastoreBackup is for who backs up and reads its own backups back;
DatastoreWriteOnly, which PBS does not have, cannot even read them.`,
		Example: `  holdfast server acl grant /datastore/tank ann@pbs DatastoreBackup
  holdfast server acl revoke /datastore/tank ann@pbs DatastoreBackup`,
	}
	var here bool
	grant := &cobra.Command{
		Use:   "grant PATH WHO ROLE",
		Short: "Give a role",
		Long: `Gives a user or API token a role at a place and everything below it, or there
alone with --here.`,
		Example: `  holdfast server acl grant / admin@pbs Admin
  holdfast server acl grant /datastore/tank 'ann@pbs!nas' DatastoreWriteOnly`,
		Args:              exactly(3),
		ValidArgsFunction: completeRole,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := parseEntry(args)
			if err != nil {
				return err
			}
			e.Propagate = !here
			return runServerACLGrant(cmd.Context(), a, o, e)
		},
	}
	grant.Flags().BoolVar(&here, "here", false, "not for what is below")
	cmd.AddCommand(grant, &cobra.Command{
		Use:               "revoke PATH WHO ROLE",
		Short:             "Take a role away",
		Long:              `Takes away a role that was given at this place.`,
		Example:           `  holdfast server acl revoke /datastore/tank ann@pbs DatastoreBackup`,
		Args:              exactly(3),
		ValidArgsFunction: completeRole,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := parseEntry(args)
			if err != nil {
				return err
			}
			return runServerACLRevoke(cmd.Context(), a, o, e)
		},
	}, &cobra.Command{
		Use:               "list",
		Short:             "List who has which role where",
		Long:              `Lists who has which role where.`,
		Example:           `  holdfast server acl list`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runServerACLList(a, o) },
	}, &cobra.Command{
		Use:               "roles",
		Short:             "List the roles",
		Long:              `Lists the roles with their privileges.`,
		Example:           `  holdfast server acl roles`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runServerACLRoles(a) },
	})
	return cmd
}

func completeRole(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var all []string
	if len(args) == 2 {
		for _, r := range access.Roles() {
			all = append(all, string(r))
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

func parseEntry(args []string) (e access.Entry, err error) {
	if e.Path, err = access.ParsePath(args[0]); err != nil {
		return e, usage(err)
	}
	id, err := names.ParseAuthID(args[1])
	if err != nil {
		return e, usage(err)
	}
	e.Who = access.Who{ID: id}
	if e.Role, err = access.ParseRole(args[2]); err != nil {
		return e, hint(usage(err), "'holdfast server acl roles' lists them")
	}
	return e, nil
}

// aclJSON is an entry of the list, with the names that the API has.
type aclJSON struct {
	Path      string `json:"path"`
	Who       string `json:"ugid"`
	Role      string `json:"roleid"`
	Propagate bool   `json:"propagate"`
}

func aclOf(e access.Entry) aclJSON {
	return aclJSON{string(e.Path), e.Who.String(), string(e.Role), e.Propagate}
}

func runServerACLGrant(ctx context.Context, a *app, o *serverOptions, e access.Entry) error {
	store, err := o.accounts(a)
	if err != nil {
		return err
	}
	users, _, err := store.Users()
	if err != nil {
		return err
	}
	if _, err := users.Find(e.Who.ID); err != nil {
		return err
	}
	if err := store.ChangeACL(ctx, "", func(acl *access.ACL) error { acl.Grant(e); return nil }); err != nil {
		return err
	}
	return a.print(aclOf(e), func() error { return a.printf("%s is %s at %s\n", e.Who, e.Role, e.Path) })
}

func runServerACLRevoke(ctx context.Context, a *app, o *serverOptions, e access.Entry) error {
	store, err := o.accounts(a)
	if err != nil {
		return err
	}
	err = store.ChangeACL(ctx, "", func(acl *access.ACL) error {
		if !acl.Revoke(e.Path, e.Who, e.Role) {
			return fmt.Errorf("%s has no role %s at %s: %w", e.Who, e.Role, e.Path, repo.ErrNotFound)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.print(aclOf(e), func() error { return a.printf("%s is %s at %s no more\n", e.Who, e.Role, e.Path) })
}

func runServerACLList(a *app, o *serverOptions) error {
	store, err := o.accounts(a)
	if err != nil {
		return err
	}
	acl, _, err := store.ACL()
	if err != nil {
		return err
	}
	out := []aclJSON{}
	t := ui.Table{Columns: []ui.Column{{Title: "PATH"}, {Title: "WHO"}, {Title: "ROLE"}, {Title: "BELOW"}}}
	for e := range acl.Entries() {
		out = append(out, aclOf(e))
		t.Add(string(e.Path), e.Who.String(), string(e.Role), map[bool]string{true: "yes", false: "no"}[e.Propagate])
	}
	return a.print(out, func() error { return a.table(&t) })
}

func runServerACLRoles(a *app) error {
	type roleJSON struct {
		Role    string   `json:"roleid"`
		Privs   []string `json:"privs"`
		Comment string   `json:"comment"`
	}
	out := []roleJSON{}
	t := ui.Table{Columns: []ui.Column{{Title: "ROLE"}, {Title: "MEANING"}}}
	for _, r := range access.Roles() {
		privs := r.Privs().Names()
		out = append(out, roleJSON{string(r), slices.Concat([]string{}, privs), r.Comment()})
		t.Add(string(r), r.Comment())
	}
	return a.print(out, func() error { return a.table(&t) })
}
