package cli

import (
	"context"
	"encoding/base32"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/accounts/pam"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/server/cert"
	"github.com/spf13/cobra"
)

func newServerInitCommand(a *app, o *serverOptions) *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a configuration, with an administrator",
		Long: `Makes the directory with the configuration of a server, its keys and certificate,
and an administrator, whose password is made up and printed once: it is kept
nowhere but as a hash. Whoever logs in with it should change it. Clients need the
fingerprint, which is printed too.

What is there already stays as it is. If somebody else is an administrator and
can log in, none is made.`,
		Example: `  holdfast server init --config /etc/holdfast/server
  holdfast server init --config /etc/holdfast/server --user ann@pbs`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, err := parseUserArg(user)
			if err != nil {
				return err
			}
			return runServerInit(cmd.Context(), a, o, id)
		},
	}
	cmd.Flags().StringVar(&user, "user", "admin@pbs", "the administrator to be, of realm pbs")
	return cmd
}

// parseUserArg reads the id of a user.
func parseUserArg(s string) (names.AuthID, error) {
	id, err := names.ParseAuthID(s)
	if err != nil {
		return id, usage(err)
	}
	if id.IsToken() {
		return id, usagef("%q is an API token, want a user", s)
	}
	return id, nil
}

func runServerInit(ctx context.Context, a *app, o *serverOptions, id names.AuthID) error {
	d, err := o.dir(a)
	if err != nil {
		return err
	}
	if id.Realm != accounts.RealmPBS {
		return usagef("%s is not of realm pbs, the only one whose passwords are kept here", id)
	}
	if err := d.Make(); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.Stderr, nil))
	store := accounts.NewStore(d, log)
	if _, err := accounts.OpenGate(store, nil); err != nil { // makes the keys
		return err
	}
	c, err := cert.Open(d, log)
	if err != nil {
		return err
	}
	out := map[string]string{"config": d.Path(), "fingerprint": c.Fingerprint()}
	admin, err := administrator(store, a.Now(), map[string]bool{pam.Name: pamWorks(false)})
	if err != nil {
		return err
	}
	if admin == "" {
		pw, err := a.makeAdministrator(ctx, store, id)
		if err != nil {
			return err
		}
		out["user"], out["password"] = id.String(), string(pw.Reveal())
	}
	return a.print(out, func() error {
		if err := a.printf("configuration in %s\nfingerprint: %s\n", d.Path(), c.Fingerprint()); err != nil {
			return err
		}
		if admin != "" {
			return a.printf("administrator: %s, as before\n", admin)
		}
		return a.printf("administrator: %s\npassword, shown this once: %s\n", id, out["password"])
	})
}

// administrator finds somebody who may do everything and can log in by a password;
// "" if there is nobody. asked says which realms passwords can be checked of, besides
// pbs.
func administrator(store *accounts.Store, now time.Time, asked map[string]bool) (string, error) {
	users, _, err := store.Users()
	if err != nil {
		return "", err
	}
	policy, err := store.Policy()
	if policy == nil {
		return "", err
	}
	all, _ := users.List() // what cannot be read is nobody who logs in
	for _, u := range all {
		may := policy.RequireAll(u.ID, access.Everything, access.Admin.Privs()) == nil
		if may && (u.ID.Realm == accounts.RealmPBS || asked[u.ID.Realm]) && policy.Active(u.ID, now) == nil {
			return u.ID.String(), nil
		}
	}
	return "", nil
}

func (a *app) makeAdministrator(ctx context.Context, store *accounts.Store, id names.AuthID) (pw secret.Secret, err error) {
	if pw, err = a.newPassword(); err != nil {
		return pw, err
	}
	err = store.ChangeUsers(ctx, "", func(u *access.Users) error {
		if _, err := u.Find(id); err == nil {
			return nil // an init that was interrupted
		}
		return u.Add(access.Account{ID: id, Comment: "administrator"})
	})
	if err == nil {
		err = store.SetPassword(ctx, id, pw)
	}
	if err == nil {
		err = store.ChangeACL(ctx, "", func(acl *access.ACL) error {
			acl.Grant(access.Entry{Path: access.Everything, Who: access.Who{ID: id}, Role: access.Admin, Propagate: true})
			return nil
		})
	}
	return pw, err
}

// newPassword makes one of 100 random bits: "k7w2p-...".
func (a *app) newPassword() (secret.Secret, error) {
	var b [15]byte
	if _, err := io.ReadFull(a.Rand, b[:]); err != nil {
		return secret.Secret{}, fmt.Errorf("make a password: %w", err)
	}
	text := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))[:20]
	return secret.New([]byte(text[:5] + "-" + text[5:10] + "-" + text[10:15] + "-" + text[15:])), nil
}
