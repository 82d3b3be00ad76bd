package cli

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access/tfa"
	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newServerTFACommand(a *app, o *serverOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tfa",
		Short: "List, add and remove second factors",
		Long: `A second factor is what users need besides their password: the one-time password
of an authenticator, a program on a phone, or one of ten recovery codes. API
tokens need none.`,
		Example: `  holdfast server user tfa add totp ann@pbs --description phone
  holdfast server user tfa add recovery ann@pbs
  holdfast server user tfa list ann@pbs`,
	}
	simple := func(use, short, long, example string, args cobra.PositionalArgs, run func(context.Context, names.AuthID, []string) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Long: long, Example: example, Args: args,
			ValidArgsFunction: a.completeUsers(o),
			RunE: func(cmd *cobra.Command, args []string) error {
				id, err := parseUserArg(args[0])
				if err != nil {
					return err
				}
				return run(cmd.Context(), id, args[1:])
			},
		}
	}
	add := &cobra.Command{
		Use: "add", Short: "Add a second factor", Long: `Adds a second factor: an authenticator, or recovery codes.`,
		Example: `  holdfast server user tfa add totp ann@pbs`,
	}
	var description string
	totp := simple("totp USER", "Add an authenticator", `Makes an authenticator and prints its URI, from which a program on a phone is set
up, for most as a QR code: 'qrencode -t ansiutf8' shows one. On a terminal a
one-time password is asked for, to see that it works; before that nothing is
changed.`, `  holdfast server user tfa add totp ann@pbs --description phone`, exactly(1),
		func(ctx context.Context, id names.AuthID, _ []string) error {
			return runServerTFAAddTOTP(ctx, a, o, id, description)
		})
	totp.Flags().StringVar(&description, "description", "", "what it is, as phone")
	add.AddCommand(totp, simple("recovery USER", "Add recovery codes", `Makes ten recovery codes, each good once, and prints them. Older ones are good no
more.`, `  holdfast server user tfa add recovery ann@pbs`, exactly(1),
		func(ctx context.Context, id names.AuthID, _ []string) error {
			return runServerTFAAddRecovery(ctx, a, o, id)
		}))
	cmd.AddCommand(
		add,
		simple("list USER", "List second factors", `Lists the second factors of a user, and what the user is shut out of.`, `  holdfast server user tfa list ann@pbs`, exactly(1),
			func(_ context.Context, id names.AuthID, _ []string) error { return runServerTFAList(a, o, id) }),
		simple("remove USER ID", "Remove a second factor", `Removes a second factor, which 'list' shows with its id.`, `  holdfast server user tfa remove ann@pbs recovery`, exactly(2),
			func(ctx context.Context, id names.AuthID, rest []string) error {
				return runServerTFARemove(ctx, a, o, id, rest[0])
			}),
		simple("unlock USER", "Let a user in again", `Lets a user in again who is shut out for wrong second factors.`, `  holdfast server user tfa unlock ann@pbs`, exactly(1),
			func(ctx context.Context, id names.AuthID, _ []string) error {
				return runServerUserUnlock(ctx, a, o, id)
			}),
	)
	return cmd
}

// knownUser is the store of accounts, which must have a user.
func (o *serverOptions) knownUser(a *app, id names.AuthID) (*accounts.Store, error) {
	store, err := o.accounts(a)
	if err != nil {
		return nil, err
	}
	users, _, err := store.Users()
	if err != nil {
		return nil, err
	}
	_, err = users.Find(id)
	return store, err
}

func runServerTFAAddTOTP(ctx context.Context, a *app, o *serverOptions, user names.AuthID, description string) error {
	store, err := o.knownUser(a, user)
	if err != nil {
		return err
	}
	host, err := a.Hostname()
	if err != nil {
		host = "localhost"
	}
	totp, err := tfa.New("Holdfast "+host, user.String(), a.Rand)
	if err != nil {
		return err
	}
	id, err := tfa.NewID(a.Rand)
	if err != nil {
		return err
	}
	if a.Asker != nil {
		a.say("%s", totp.URI())
	}
	code := totp.Code(a.Now().Unix() / totp.Period)
	if a.Asker != nil {
		s, err := a.Asker.Ask("one-time password that the authenticator shows now: ")
		if err != nil {
			return err
		}
		code = string(s.Reveal())
	}
	err = store.ChangeTFA(ctx, func(c *tfa.Config) error {
		return c.AddTOTP(user.String(), id, description, totp, code, a.Now())
	})
	if errors.Is(err, tfa.ErrWrong) {
		return hint(err, "nothing was changed; the clocks of the authenticator and of this machine must agree")
	}
	if err != nil {
		return err
	}
	return a.print(map[string]string{"userid": user.String(), "id": id, "totp": totp.URI()}, func() error {
		if a.Asker != nil {
			return a.printf("%s has the authenticator %s\n", user, id)
		}
		return a.printf("authenticator: %s\nURI, shown this once: %s\n", id, totp.URI())
	})
}

func runServerTFAAddRecovery(ctx context.Context, a *app, o *serverOptions, user names.AuthID) error {
	store, err := o.knownUser(a, user)
	if err != nil {
		return err
	}
	var codes []string
	err = store.ChangeTFA(ctx, func(c *tfa.Config) (err error) {
		codes, err = c.AddRecovery(user.String(), a.Now(), a.Rand)
		return err
	})
	if err != nil {
		return err
	}
	return a.print(map[string]any{"userid": user.String(), "recovery": codes}, func() error {
		a.say("recovery codes of %s, each good once, shown this once:", user)
		for _, code := range codes {
			if err := a.printf("%s\n", code); err != nil {
				return err
			}
		}
		return nil
	})
}

// factorJSON is a second factor in results.
type factorJSON struct {
	ID          string `json:"id"`
	Type        string `json:"type"`
	Description string `json:"description"`
	Created     int64  `json:"created"`
	Enable      bool   `json:"enable"`
}

// factorsJSON is what is known of a user's second factors.
type factorsJSON struct {
	UserID      string       `json:"userid"`
	Factors     []factorJSON `json:"factors"`
	TOTPLocked  bool         `json:"totp-locked"`
	LockedUntil int64        `json:"tfa-locked-until,omitempty"`
}

func runServerTFAList(a *app, o *serverOptions, user names.AuthID) error {
	store, err := o.knownUser(a, user)
	if err != nil {
		return err
	}
	c, err := store.TFA()
	if err != nil {
		return err
	}
	out := factorsJSON{UserID: user.String(), Factors: []factorJSON{}}
	t := ui.Table{Columns: []ui.Column{{Title: "ID"}, {Title: "TYPE"}, {Title: "CREATED"}, {Title: "STATE"}, {Title: "DESCRIPTION"}}}
	for _, f := range c.List(user.String()) {
		out.Factors = append(out.Factors, factorJSON{f.ID, f.Type, f.Description, f.Created.Unix(), f.Enabled})
		state := "enabled"
		if !f.Enabled {
			state = "disabled"
		}
		t.Add(f.ID, f.Type, f.Created.In(a.Location).Format(time.DateOnly), state, f.Description)
	}
	locked, until := c.Locks(user.String(), a.Now())
	out.TOTPLocked = locked
	if !until.IsZero() {
		out.LockedUntil = until.Unix()
	}
	return a.print(out, func() error {
		if err := a.table(&t); err != nil {
			return err
		}
		switch {
		case !until.IsZero():
			return a.printf("%s is shut out until %s\n", user, until.In(a.Location).Format(time.DateTime))
		case locked:
			return a.printf("one-time passwords of %s do not count until a recovery code is used\n", user)
		}
		return nil
	})
}

func runServerTFARemove(ctx context.Context, a *app, o *serverOptions, user names.AuthID, id string) error {
	store, err := o.knownUser(a, user)
	if err != nil {
		return err
	}
	if err := store.ChangeTFA(ctx, func(c *tfa.Config) error { return c.Remove(user.String(), id) }); err != nil {
		return err
	}
	return a.print(map[string]string{"userid": user.String(), "id": id}, func() error {
		return a.printf("%s has the second factor %s no more\n", user, id)
	})
}
