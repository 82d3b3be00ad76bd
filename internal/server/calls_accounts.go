package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/server/api"
)

// accountCalls are the calls about users and API tokens.
func (s *Server) accountCalls() []api.Call {
	const at, tokens = "/access/users/{userid}", "/access/users/{userid}/token"
	see := api.Themselves(params.user, api.Where("/access/users", access.SysAudit))
	change := api.Themselves(params.user, api.Where("/access/users", access.PermissionsModify))
	manage := api.Where("/access/users", access.PermissionsModify)
	return []api.Call{
		{
			Method: "GET", Path: "/access/users", Doc: "List users.",
			Guard:  api.LoggedIn("Without Sys.Audit on /access/users only oneself."),
			Params: []api.AnyParam{includeTokens}, Do: api.Data(s.users),
		},
		{
			Method: "POST", Path: "/access/users", Doc: "Add a user.",
			Guard: manage, Params: append([]api.AnyParam{params.user, firstPassword}, accountParams(true)...), Do: api.Nothing(s.addUser),
		},
		{Method: "GET", Path: at, Doc: "Show a user.", Guard: see, Params: []api.AnyParam{params.user}, Do: api.Data(s.user)},
		{
			Method: "PUT", Path: at, Doc: "Change a user.",
			Guard: change, Params: append([]api.AnyParam{params.user, deleteProps, params.digest}, accountParams(true)...), Do: api.Nothing(s.changeUser),
		},
		{
			Method: "DELETE", Path: at, Doc: "Remove a user with the API tokens, rights and second factors that the user has.",
			Guard: change, Params: []api.AnyParam{params.user, params.digest}, Do: api.Nothing(s.removeUser),
		},
		{
			Method: "PUT", Path: at + "/unlock-tfa", Doc: "Let a user in again who is shut out for wrong second factors.",
			Guard: manage, Params: []api.AnyParam{params.user}, Do: api.Data(s.unlock),
		},
		{Method: "GET", Path: tokens, Doc: "List the API tokens of a user.", Guard: see, Params: []api.AnyParam{params.user}, Do: api.Data(s.tokens)},
		{
			Method: "GET", Path: tokens + "/{token-name}", Doc: "Show an API token.",
			Guard: see, Params: []api.AnyParam{params.user, tokenName}, Do: api.Data(s.token),
		},
		{
			Method: "POST", Path: tokens + "/{token-name}", Doc: "Make an API token. Its secret is shown once.",
			Guard: change, Params: append([]api.AnyParam{params.user, tokenName, params.digest}, accountParams(false)...), Do: api.Data(s.addToken),
		},
		{
			Method: "PUT", Path: tokens + "/{token-name}", Doc: "Change an API token, or give it another secret.",
			Guard: change, Params: append([]api.AnyParam{params.user, tokenName, regenerate, deleteProps, params.digest}, accountParams(false)...), Do: api.Data(s.changeToken),
		},
		{
			Method: "DELETE", Path: tokens + "/{token-name}", Doc: "Remove an API token.",
			Guard: change, Params: []api.AnyParam{params.user, tokenName, params.digest}, Do: api.Nothing(s.removeToken),
		},
	}
}

var (
	includeTokens = api.Bool("include_tokens", "With the API tokens.").Default(false)
	firstPassword = passwordParam("password", "The password, for realm pbs.").Optional()
	tokenName     = api.Parsed("token-name", "The name of the API token.", safeID, 64, parseName)
	regenerate    = api.Bool("regenerate", "Give it another secret.").Default(false)
	enable        = api.Bool("enable", "Whether it can be used.").Optional()
	expire        = api.Int("expire", "When it cannot be used any more, seconds since 1970; 0: never.", 0, 1<<40).Optional()
	firstName     = api.Line("firstname", "First name.", 64).Optional()
	lastName      = api.Line("lastname", "Last name.", 64).Optional()
	email         = api.Line("email", "E-mail address.", 64).Optional()
	deleteProps   = api.List(api.Choice("delete", "Properties that are removed.", "comment", "firstname", "lastname", "email"))
)

func accountParams(user bool) []api.AnyParam {
	list := []api.AnyParam{params.comment, enable, expire}
	if user {
		list = append(list, firstName, lastName, email)
	}
	return list
}

// apply makes of an account what a request says.
func apply(r *api.Request, a *access.Account, user bool) {
	set := func(p api.Param[string], to *string) {
		if v, ok := p.Given(r); ok {
			*to = strings.TrimSpace(v)
		}
	}
	if r.Call.Method == http.MethodPut {
		for _, name := range deleteProps.Of(r) {
			switch name {
			case "comment":
				a.Comment = ""
			case "firstname":
				a.FirstName = ""
			case "lastname":
				a.LastName = ""
			case "email":
				a.Email = ""
			}
		}
	}
	set(params.comment, &a.Comment)
	if on, ok := enable.Given(r); ok {
		a.Disabled = !on
	}
	if at, ok := expire.Given(r); ok {
		a.Expires = time.Time{}
		if at > 0 {
			a.Expires = time.Unix(at, 0)
		}
	}
	if user {
		set(firstName, &a.FirstName)
		set(lastName, &a.LastName)
		set(email, &a.Email)
	}
}

// userItem is a user.
type userItem struct {
	UserID      string      `json:"userid"`
	Comment     string      `json:"comment,omitempty"`
	Enable      *bool       `json:"enable,omitempty"`
	Expire      int64       `json:"expire,omitempty"`
	FirstName   string      `json:"firstname,omitempty"`
	LastName    string      `json:"lastname,omitempty"`
	Email       string      `json:"email,omitempty"`
	Tokens      []tokenItem `json:"tokens,omitempty"`
	TOTPLocked  bool        `json:"totp-locked,omitempty"`
	LockedUntil int64       `json:"tfa-locked-until,omitempty"`
}

// tokenItem is an API token.
type tokenItem struct {
	TokenID string `json:"tokenid"`
	Name    string `json:"token-name,omitempty"`
	Comment string `json:"comment,omitempty"`
	Enable  *bool  `json:"enable,omitempty"`
	Expire  int64  `json:"expire,omitempty"`
}

func enabled(a access.Account) *bool {
	if a.Disabled {
		return new(bool)
	}
	return nil
}

func expires(a access.Account) int64 {
	if a.Expires.IsZero() {
		return 0
	}
	return a.Expires.Unix()
}

func userOf(a access.Account) userItem {
	return userItem{
		UserID: a.ID.String(), Comment: a.Comment, Enable: enabled(a), Expire: expires(a),
		FirstName: a.FirstName, LastName: a.LastName, Email: a.Email,
	}
}

func tokenOf(a access.Account) tokenItem {
	return tokenItem{TokenID: a.ID.String(), Comment: a.Comment, Enable: enabled(a), Expire: expires(a)}
}

// known reads the users and puts their digest into the answer.
func (s *Server) known(r *api.Request) (*access.Users, error) {
	users, digest, err := s.store.Users()
	if err == nil {
		r.Set("digest", digest.String())
	}
	return users, err
}

func (s *Server) users(_ context.Context, r *api.Request) ([]userItem, error) {
	users, err := s.known(r)
	if err != nil {
		return nil, err
	}
	locks, err := s.store.TFA()
	if err != nil {
		return nil, err
	}
	// Accounts that cannot be read are not there; the policy says so in the log.
	all, _ := users.List()
	every := r.Policy.RequireAny(r.Caller, "/access/users", access.SysAudit) == nil
	self := r.Caller
	self.Token = ""
	list := []userItem{}
	for _, a := range all {
		if !every && a.ID != self {
			continue
		}
		item := userOf(a)
		totp, until := locks.Locks(a.ID.String(), s.now())
		item.TOTPLocked = totp
		if !until.IsZero() {
			item.LockedUntil = until.Unix()
		}
		if includeTokens.Of(r) {
			tokens, _ := users.Tokens(a.ID)
			for _, t := range tokens {
				item.Tokens = append(item.Tokens, tokenOf(t))
			}
		}
		list = append(list, item)
	}
	return list, nil
}

func (s *Server) user(_ context.Context, r *api.Request) (userItem, error) {
	users, err := s.known(r)
	if err != nil {
		return userItem{}, err
	}
	a, err := users.Find(params.user.Of(r))
	return userOf(a), err
}

func (s *Server) addUser(ctx context.Context, r *api.Request) error {
	a := access.Account{ID: params.user.Of(r)}
	apply(r, &a, true)
	password, has := firstPassword.Given(r)
	if has && a.ID.Realm != "pbs" {
		return fmt.Errorf("passwords of realm '%s' are not kept here", a.ID.Realm)
	}
	if err := s.store.ChangeUsers(ctx, "", func(u *access.Users) error { return u.Add(a) }); err != nil {
		return err
	}
	if !has {
		return nil
	}
	return s.store.SetPassword(ctx, a.ID, password)
}

func (s *Server) changeUser(ctx context.Context, r *api.Request) error {
	return s.changeAccount(ctx, r, params.user.Of(r), true)
}

func (s *Server) changeAccount(ctx context.Context, r *api.Request, id names.AuthID, user bool) error {
	return s.store.ChangeUsers(ctx, params.digest.Of(r), func(u *access.Users) error {
		a, err := u.Find(id)
		if err != nil {
			return err
		}
		apply(r, &a, user)
		return u.Change(a)
	})
}

func (s *Server) removeUser(ctx context.Context, r *api.Request) error {
	return s.store.Remove(ctx, params.digest.Of(r), params.user.Of(r))
}

// unlock answers whether the user was shut out.
func (s *Server) unlock(ctx context.Context, r *api.Request) (bool, error) {
	id := params.user.Of(r)
	c, err := s.store.TFA()
	if err != nil {
		return false, err
	}
	totp, until := c.Locks(id.String(), s.now())
	if !totp && until.IsZero() {
		return false, nil
	}
	return true, s.gate.Unlock(ctx, id)
}

func (s *Server) tokens(_ context.Context, r *api.Request) ([]tokenItem, error) {
	users, err := s.known(r)
	if err != nil {
		return nil, err
	}
	all, _ := users.Tokens(params.user.Of(r))
	list := []tokenItem{}
	for _, a := range all {
		item := tokenOf(a)
		item.Name = a.ID.Token
		list = append(list, item)
	}
	return list, nil
}

func tokenID(r *api.Request) names.AuthID {
	id := params.user.Of(r)
	id.Token = tokenName.Of(r)
	return id
}

func (s *Server) token(_ context.Context, r *api.Request) (tokenItem, error) {
	users, err := s.known(r)
	if err != nil {
		return tokenItem{}, err
	}
	a, err := users.Find(tokenID(r))
	return tokenOf(a), err
}

// newToken is an API token and its secret.
type newToken struct {
	TokenID string `json:"tokenid"`
	Value   string `json:"value"`
}

func (s *Server) addToken(ctx context.Context, r *api.Request) (newToken, error) {
	a := access.Account{ID: tokenID(r)}
	apply(r, &a, false)
	key, err := s.store.AddToken(ctx, params.digest.Of(r), a)
	if err != nil {
		return newToken{}, err
	}
	return newToken{a.ID.String(), string(key.Reveal())}, nil
}

// otherSecret is the new secret of a token.
type otherSecret struct {
	Secret string `json:"secret"`
}

func (s *Server) changeToken(ctx context.Context, r *api.Request) (*otherSecret, error) {
	if err := s.changeAccount(ctx, r, tokenID(r), false); err != nil || !regenerate.Of(r) {
		return nil, err
	}
	key, err := s.store.RenewToken(ctx, "", tokenID(r))
	if err != nil {
		return nil, err
	}
	return &otherSecret{string(key.Reveal())}, nil
}

func (s *Server) removeToken(ctx context.Context, r *api.Request) error {
	return s.store.Remove(ctx, params.digest.Of(r), tokenID(r))
}

// aclCalls are the calls about rights.
func (s *Server) aclCalls() []api.Call {
	return []api.Call{
		{Method: "GET", Path: "/access/roles", Doc: "List roles.", Guard: api.LoggedIn(""), Do: api.Data(s.roles)},
		{
			Method: "GET", Path: "/access/acl", Doc: "List who has which role where.",
			Guard:  api.LoggedIn("Without Sys.Audit on /access/acl only that of one's API tokens."),
			Params: []api.AnyParam{params.path.Optional(), exact}, Do: api.Data(s.acl),
		},
		{
			Method: "PUT", Path: "/access/acl", Doc: "Give somebody a role, or take it away.",
			Guard:  api.LoggedIn("Needs Permissions.Modify on /access/acl; users may always change the roles of their API tokens."),
			Params: []api.AnyParam{params.path, role, propagate, params.auth, deleteRole, params.digest}, Do: api.Nothing(s.changeACL),
		},
	}
}

var (
	exact      = api.Bool("exact", "Not what is below the path.").Default(false)
	role       = api.Parsed("role", "The role.", "", 64, access.ParseRole)
	propagate  = api.Bool("propagate", "Whether it holds for everything below too.").Default(true)
	deleteRole = api.Bool("delete", "Take it away.").Default(false)
)

// roleItem is a role.
type roleItem struct {
	ID      string   `json:"roleid"`
	Privs   []string `json:"privs"`
	Comment string   `json:"comment,omitempty"`
}

func (s *Server) roles(context.Context, *api.Request) ([]roleItem, error) {
	var list []roleItem
	for _, r := range access.Roles() {
		item := roleItem{string(r), r.Privs().Names(), r.Comment()}
		if item.Privs == nil {
			item.Privs = []string{}
		}
		list = append(list, item)
	}
	return list, nil
}

// aclItem is one role of one at one path.
type aclItem struct {
	Path      string `json:"path"`
	Who       string `json:"ugid"`
	Kind      string `json:"ugid_type" doc:"user or group"`
	Role      string `json:"roleid"`
	Propagate bool   `json:"propagate"`
}

func (s *Server) acl(_ context.Context, r *api.Request) ([]aclItem, error) {
	acl, digest, err := s.store.ACL()
	if err != nil {
		return nil, err
	}
	r.Set("digest", digest.String())
	every := r.Policy.RequireAny(r.Caller, "/access/acl", access.SysAudit) == nil
	path, limited := params.path.Given(r)
	list := []aclItem{}
	for e := range acl.Entries() {
		own := !r.Caller.IsToken() && e.Who.ID.IsToken() && r.Caller.MayUse(e.Who.ID)
		if !every && !own || limited && e.Path != path && (exact.Of(r) || !below(e.Path, path)) {
			continue
		}
		item := aclItem{string(e.Path), e.Who.String(), "user", string(e.Role), e.Propagate}
		if e.Who.Group != "" {
			item.Who, item.Kind = e.Who.Group, "group"
		}
		list = append(list, item)
	}
	return list, nil
}

func below(path, above access.Path) bool {
	return above == access.Everything || strings.HasPrefix(string(path), string(above)+"/")
}

func (s *Server) changeACL(ctx context.Context, r *api.Request) error {
	who := params.auth.Of(r)
	own := !r.Caller.IsToken() && who.IsToken() && r.Caller.MayUse(who)
	if !own {
		if err := r.Policy.RequireAny(r.Caller, "/access/acl", access.PermissionsModify); err != nil {
			return err
		}
	}
	e := access.Entry{Path: params.path.Of(r), Who: access.Who{ID: who}, Role: role.Of(r), Propagate: propagate.Of(r)}
	if !deleteRole.Of(r) {
		users, _, err := s.store.Users()
		if err != nil {
			return err
		}
		if _, err := users.Find(who); err != nil {
			return err
		}
	}
	return s.store.ChangeACL(ctx, params.digest.Of(r), func(acl *access.ACL) error {
		if !deleteRole.Of(r) {
			acl.Grant(e)
		} else if !acl.Revoke(e.Path, e.Who, e.Role) {
			return rest.Errorf(http.StatusBadRequest, "%s has no role %s at %s", who, e.Role, e.Path)
		}
		return nil
	})
}
