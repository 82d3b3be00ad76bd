package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/access/ticket"
	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/server/api"
)

// loginCalls are the calls about who one is.
func (s *Server) loginCalls() []api.Call {
	return []api.Call{
		{
			Method: "POST", Path: "/access/ticket", Doc: "Log in with a password, or renew a ticket.",
			Guard: api.Everybody(), Params: []api.AnyParam{loginUser, loginPassword, loginFactor, loginHTTPOnly, loginRealm}, Do: api.Data(s.login),
		},
		{
			Method: "DELETE", Path: "/access/ticket", Doc: "Log out: the cookie is taken back.",
			Guard: api.Everybody(), Do: api.Nothing(s.logout),
		},
		{
			Method: "PUT", Path: "/access/password", Doc: "Change a password.",
			Guard:  api.Users(api.LoggedIn("Users may change their own password, and with Permissions.Modify on / that of all users of realm pbs.")),
			Params: []api.AnyParam{params.user, newPassword, confirmation}, Do: api.Nothing(s.changePassword),
		},
		{
			Method: "GET", Path: "/access/permissions", Doc: "Show who may do what where, by path and privilege, and whether it holds below too.",
			Guard:  api.LoggedIn("Of others only with Sys.Audit on /access, but users always those of their API tokens."),
			Params: []api.AnyParam{params.auth.Optional(), params.path.Optional()}, Do: api.Data(s.permissions),
		},
		{
			Method: "GET", Path: "/access/domains", Doc: "List the realms in which one can log in.",
			Guard: api.Everybody(), Do: api.Data(s.domains),
		},
	}
}

var (
	loginUser     = params.user.As("username", "The user, name@realm.")
	loginPassword = passwordParam("password", "The password, a ticket of the user, or the answer to the challenge.")
	loginFactor   = api.Line("tfa-challenge", "The ticket with the challenge for the second factor.", 8<<10).Optional()
	loginHTTPOnly = api.Bool("http-only", "Give the ticket as a cookie that scripts cannot read.").Default(false)
	loginRealm    = api.Line("realm", "The realm, if the user is without.", 32).Optional()
	newPassword   = passwordParam("password", "The new password.")
	confirmation  = passwordParam("confirmation-password", "The password of the caller, whom everybody but root@pam has to prove to be.").Optional()
)

// passwordParam is a text that is not shown.
func passwordParam(name, doc string) api.Param[secret.Secret] {
	return api.Parsed(name, doc, "", 8<<10, func(s string) (secret.Secret, error) {
		if s == "" {
			return secret.Secret{}, errors.New("it is empty")
		}
		return secret.New([]byte(s)), nil
	})
}

// login answers with a ticket.
func (s *Server) login(ctx context.Context, r *api.Request) (items.Login, error) {
	user := loginUser.Of(r)
	g, err := s.gate.Login(ctx, accounts.Login{
		User: user, Password: loginPassword.Of(r), Challenge: loginFactor.Of(r), Peer: r.Peer,
	})
	if err != nil {
		s.log.Warn("login failed", "user", user.String(), "peer", r.Peer, "error", err)
		return items.Login{}, refused(r, err)
	}
	if !g.Factor {
		s.log.Info("login", "user", user.String(), "peer", r.Peer)
	}
	r.Set("status", http.StatusOK)
	r.Set("success", true)
	out := items.Login{Username: g.User.String(), CSRFToken: g.CSRF, Ticket: g.Ticket}
	if loginHTTPOnly.Of(r) && !g.Factor {
		r.Header.Set("Set-Cookie", cookie(g.Ticket))
		out.Ticket, out.TicketInfo = "", ticket.Info(g.Ticket)
	}
	return out, nil
}

// refused tells somebody who was not let in nothing but that, and when to come
// again.
func refused(r *api.Request, err error) error {
	if wait, ok := errors.AsType[*accounts.WaitError](err); ok {
		seconds := int((wait.For + time.Second - 1) / time.Second)
		r.Header.Set("Retry-After", strconv.Itoa(seconds))
	}
	if errors.Is(err, accounts.ErrRefused) || errors.Is(err, accounts.ErrNoCredentials) {
		return rest.Errorf(http.StatusUnauthorized, "authentication failed")
	}
	return err
}

// cookie carries a ticket, or takes it back.
func cookie(ticket string) string {
	const how = "; Secure; SameSite=Lax; HttpOnly; Path=/;"
	if ticket == "" {
		return accounts.HostCookie + "=; Expires=Thu, 01 Jan 1970 00:00:00 GMT" + how
	}
	return accounts.HostCookie + "=" + ticket + how
}

func (s *Server) logout(_ context.Context, r *api.Request) error {
	r.Header.Set("Set-Cookie", cookie(""))
	return nil
}

func (s *Server) changePassword(ctx context.Context, r *api.Request) error {
	id := params.user.Of(r)
	if err := s.confirm(ctx, r, confirmation); err != nil {
		return err
	}
	if id != r.Caller && r.Policy.RequireAny(r.Caller, access.Everything, access.PermissionsModify) != nil {
		return rest.Errorf(http.StatusForbidden, "you are not authorized to change the password")
	}
	users, _, err := s.store.Users()
	if err != nil {
		return err
	}
	if _, err := users.Find(id); err != nil {
		return err
	}
	return s.store.SetPassword(ctx, id, newPassword.Of(r))
}

// confirm makes sure that it is the caller who changes something about accounts,
// and not somebody who has found a browser: everybody but root@pam says the
// password again.
func (s *Server) confirm(ctx context.Context, r *api.Request, by api.Param[secret.Secret]) error {
	if r.Caller == access.Root() {
		return nil
	}
	password, ok := by.Given(r)
	if !ok || ticket.Looks(password.Reveal()) {
		return rest.Errorf(http.StatusUnauthorized, "missing password")
	}
	g, err := s.gate.Login(ctx, accounts.Login{User: r.Caller, Password: password, Peer: r.Peer})
	if err != nil {
		return refused(r, err)
	}
	_ = g // right, whether or not a second factor would be asked for
	return nil
}

func (s *Server) permissions(_ context.Context, r *api.Request) (map[string]map[string]bool, error) {
	id := r.Caller
	if asked, ok := params.auth.Given(r); ok && asked != id {
		if !id.MayUse(asked) && r.Policy.RequireAny(id, "/access", access.SysAudit) != nil {
			return nil, rest.Errorf(http.StatusForbidden, "not allowed to list permissions of %s", asked)
		}
		id = asked
	}
	paths := map[access.Path]bool{}
	if path, ok := params.path.Given(r); ok {
		paths[path] = true
	} else {
		for _, p := range []access.Path{access.Everything, "/access", "/datastore", "/remote", "/system"} {
			paths[p] = true
		}
		acl, _, err := s.store.ACL()
		if err != nil {
			return nil, err
		}
		for e := range acl.Entries() {
			paths[e.Path] = true
		}
	}
	out := map[string]map[string]bool{}
	for path := range paths {
		here, below := r.Policy.Privs(id, path)
		if here == 0 {
			continue // nobody learns of paths where one has nothing to do
		}
		out[string(path)] = map[string]bool{}
		for _, name := range here.Names() {
			p, err := access.ParsePriv(name)
			out[string(path)][name] = err == nil && below&p != 0
		}
	}
	return out, nil
}

// domainItem is a realm.
type domainItem struct {
	Realm   string `json:"realm"`
	Type    string `json:"type"`
	Comment string `json:"comment,omitempty"`
	Default bool   `json:"default,omitempty"`
}

func (s *Server) domains(context.Context, *api.Request) ([]domainItem, error) {
	list := []domainItem{{Realm: accounts.RealmPBS, Type: "pbs", Comment: "Users of this server"}}
	if _, ok := s.opt.Realms["pam"]; ok {
		list = append(list, domainItem{Realm: "pam", Type: "pam", Comment: "Users of this machine", Default: true})
	}
	return list, nil
}

// parseName reads the name of an API token.
func parseName(s string) (string, error) {
	if !names.IsSafeID(s) || len(s) < 3 || len(s) > 64 {
		return "", errors.New("want 3 to 64 of A-Z a-z 0-9 _ . -, and not '.' or '-' at the start")
	}
	return s, nil
}
