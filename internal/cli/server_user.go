package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

// accountFlags are what is known of users and API tokens.
type accountFlags struct {
	comment, firstName, lastName, email, expire string
	enable                                      bool
}

func (f *accountFlags) add(cmd *cobra.Command, user bool) {
	fs := cmd.Flags()
	fs.StringVar(&f.comment, "comment", "", "a comment of one line")
	fs.BoolVar(&f.enable, "enable", true, "whether it can be used")
	fs.StringVar(&f.expire, "expire", "", "the day from which it cannot be used, as 2027-01-31, or never")
	if user {
		fs.StringVar(&f.firstName, "firstname", "", "first name")
		fs.StringVar(&f.lastName, "lastname", "", "last name")
		fs.StringVar(&f.email, "email", "", "e-mail address")
	}
}

// apply changes what was given.
func (f *accountFlags) apply(cmd *cobra.Command, x *access.Account, loc *time.Location) error {
	given := cmd.Flags().Changed
	for name, to := range map[string]*string{"comment": &x.Comment, "firstname": &x.FirstName, "lastname": &x.LastName, "email": &x.Email} {
		if given(name) {
			*to = map[string]string{"comment": f.comment, "firstname": f.firstName, "lastname": f.lastName, "email": f.email}[name]
		}
	}
	if given("enable") {
		x.Disabled = !f.enable
	}
	if !given("expire") {
		return nil
	}
	if f.expire == "never" {
		x.Expires = time.Time{}
		return nil
	}
	t, err := time.ParseInLocation(time.DateOnly, f.expire, loc)
	if err != nil {
		return usagef("--expire %q is not a day such as 2027-01-31, nor never", f.expire)
	}
	x.Expires = t
	return nil
}

func newServerUserCommand(a *app, o *serverOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Add, list, change and remove users",
		Long: `Users of realm pbs, as ann@pbs, log in with a password that the server keeps as a
hash. What a user may do is said by 'holdfast server acl'.

A new password is asked for on a terminal, or comes from
PBS_NEW_USER_PASSWORD, or that with _FILE, _FD or _CMD behind it.`,
		Example: `  holdfast server user add ann@pbs --comment "Ann of the office"
  holdfast server acl grant /datastore/tank ann@pbs DatastoreBackup`,
	}
	simple := func(use, short, long, example string, run func(context.Context, names.AuthID) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Long: long, Example: example, Args: exactly(1),
			ValidArgsFunction: a.completeUsers(o),
			RunE: func(cmd *cobra.Command, args []string) error {
				id, err := parseUserArg(args[0])
				if err != nil {
					return err
				}
				return run(cmd.Context(), id)
			},
		}
	}
	cmd.AddCommand(newServerUserAddCommand(a, o), newServerUserUpdateCommand(a, o), newServerTFACommand(a, o), &cobra.Command{
		Use:               "list",
		Short:             "List users",
		Long:              `Lists the users, and with JSON their API tokens.`,
		Example:           `  holdfast server user list`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runServerUserList(a, o) },
	}, simple("password USER", "Change a password", `Gives a user of realm pbs another password.`, `  holdfast server user password ann@pbs`,
		func(ctx context.Context, id names.AuthID) error { return runServerUserPassword(ctx, a, o, id) },
	), simple("remove USER", "Remove a user", `Removes a user with the API tokens, rights and second factors that the user has.
Backups of the user stay.`, `  holdfast server user remove ann@pbs`,
		func(ctx context.Context, id names.AuthID) error { return runServerAccountRemove(ctx, a, o, id) },
	), simple("unlock USER", "Let a user in again", `Lets a user in again who is shut out for wrong second factors.`, `  holdfast server user unlock ann@pbs`,
		func(ctx context.Context, id names.AuthID) error { return runServerUserUnlock(ctx, a, o, id) },
	))
	return cmd
}

func newServerUserAddCommand(a *app, o *serverOptions) *cobra.Command {
	var f accountFlags
	cmd := &cobra.Command{
		Use:     "add USER",
		Short:   "Add a user",
		Long:    `Adds a user with a password. The user may do nothing until rights are given.`,
		Example: `  holdfast server user add ann@pbs --email ann@example.com --expire 2027-01-31`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseUserArg(args[0])
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
			return runServerUserAdd(cmd.Context(), a, o, x)
		},
	}
	f.add(cmd, true)
	return cmd
}

func newServerUserUpdateCommand(a *app, o *serverOptions) *cobra.Command {
	var f accountFlags
	cmd := &cobra.Command{
		Use:               "update USER",
		Short:             "Change what is known of a user",
		Long:              `Changes what is given, and leaves the rest as it is.`,
		Example:           `  holdfast server user update ann@pbs --enable=false`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeUsers(o),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseUserArg(args[0])
			if err != nil {
				return err
			}
			return runServerAccountUpdate(cmd.Context(), a, o, id, func(x *access.Account) error { return f.apply(cmd, x, a.Location) })
		},
	}
	f.add(cmd, true)
	return cmd
}

func runServerUserAdd(ctx context.Context, a *app, o *serverOptions, x access.Account) error {
	store, err := o.accounts(a)
	if err != nil {
		return err
	}
	var pw secret.Secret
	own := x.ID.Realm == accounts.RealmPBS
	if own {
		if pw, err = a.newUserPassword(ctx, x.ID); err != nil {
			return err
		}
	}
	if err := store.ChangeUsers(ctx, "", func(u *access.Users) error { return u.Add(x) }); err != nil {
		return err
	}
	if own {
		if err := store.SetPassword(ctx, x.ID, pw); err != nil {
			return fmt.Errorf("the user was added, without a password: %w", err)
		}
	}
	return a.printAccount(x.ID, "added")
}

func (a *app) newUserPassword(ctx context.Context, id names.AuthID) (secret.Secret, error) {
	return a.secrets().GetNew(ctx, "NEW_USER_PASSWORD", "new password of "+id.String())
}

func (a *app) printAccount(id names.AuthID, what string) error {
	kind := "user"
	if id.IsToken() {
		kind = "token"
	}
	return a.print(map[string]string{kind + "id": id.String()}, func() error { return a.printf("%s %s\n", id, what) })
}

func runServerUserPassword(ctx context.Context, a *app, o *serverOptions, id names.AuthID) error {
	store, err := o.accounts(a)
	if err != nil {
		return err
	}
	users, _, err := store.Users()
	if err != nil {
		return err
	}
	if _, err := users.Find(id); err != nil {
		return err
	}
	pw, err := a.newUserPassword(ctx, id)
	if err != nil {
		return err
	}
	if err := store.SetPassword(ctx, id, pw); err != nil {
		return err
	}
	return a.printAccount(id, "has another password")
}

func runServerAccountUpdate(ctx context.Context, a *app, o *serverOptions, id names.AuthID, change func(*access.Account) error) error {
	store, err := o.accounts(a)
	if err != nil {
		return err
	}
	err = store.ChangeUsers(ctx, "", func(u *access.Users) error {
		x, err := u.Find(id)
		if err != nil {
			return err
		}
		if err := change(&x); err != nil {
			return err
		}
		return u.Change(x)
	})
	if err != nil {
		return err
	}
	return a.printAccount(id, "changed")
}

func runServerAccountRemove(ctx context.Context, a *app, o *serverOptions, id names.AuthID) error {
	store, err := o.accounts(a)
	if err != nil {
		return err
	}
	if err := store.Remove(ctx, "", id); err != nil {
		return err
	}
	return a.printAccount(id, "removed")
}

func runServerUserUnlock(ctx context.Context, a *app, o *serverOptions, id names.AuthID) error {
	store, err := o.accounts(a)
	if err != nil {
		return err
	}
	gate, err := accounts.OpenGate(store, nil)
	if err != nil {
		return err
	}
	if err := gate.Unlock(ctx, id); err != nil {
		return err
	}
	return a.printAccount(id, "can use second factors again")
}

// accountJSON is a user or an API token in results.
type accountJSON struct {
	UserID  string        `json:"userid,omitempty"`
	TokenID string        `json:"tokenid,omitempty"`
	Comment string        `json:"comment,omitempty"`
	Enable  bool          `json:"enable"`
	Expire  int64         `json:"expire"` // seconds since 1970; 0: never
	Email   string        `json:"email,omitempty"`
	Tokens  []accountJSON `json:"tokens,omitempty"`
}

func accountOf(x access.Account) accountJSON {
	j := accountJSON{Comment: x.Comment, Enable: !x.Disabled, Email: x.Email}
	if x.ID.IsToken() {
		j.TokenID = x.ID.String()
	} else {
		j.UserID = x.ID.String()
	}
	if !x.Expires.IsZero() {
		j.Expire = x.Expires.Unix()
	}
	return j
}

// state says whether an account can be used.
func accountState(x access.Account, now time.Time) string {
	switch {
	case x.Disabled:
		return "disabled"
	case !x.Expires.IsZero() && !now.Before(x.Expires):
		return "expired"
	}
	return "enabled"
}

func runServerUserList(a *app, o *serverOptions) error {
	store, err := o.accounts(a)
	if err != nil {
		return err
	}
	users, _, err := store.Users()
	if err != nil {
		return err
	}
	list, bad := users.List()
	if bad != nil {
		a.warn("%v", bad)
	}
	out := []accountJSON{}
	t := ui.Table{Columns: []ui.Column{{Title: "USER"}, {Title: "STATE"}, {Title: "TOKENS", Align: ui.Right}, {Title: "COMMENT"}}}
	for _, u := range list {
		j := accountOf(u)
		tokens, _ := users.Tokens(u.ID) // those that cannot be read were told above
		for _, x := range tokens {
			j.Tokens = append(j.Tokens, accountOf(x))
		}
		out = append(out, j)
		t.Add(u.ID.String(), accountState(u, a.Now()), fmt.Sprint(len(tokens)), u.Comment)
	}
	return a.print(out, func() error { return a.table(&t) })
}

// completeUsers completes the ids of users.
func (a *app) completeUsers(o *serverOptions) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		store, err := o.accounts(a)
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		users, _, err := store.Users()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var all []string
		list, _ := users.List()
		for _, u := range list {
			all = append(all, u.ID.String())
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}
