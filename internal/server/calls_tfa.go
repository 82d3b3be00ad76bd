package server

import (
	"context"
	"crypto/rand"
	"net/http"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/access/tfa"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/server/api"
)

// tfaCalls are the calls about second factors.
func (s *Server) tfaCalls() []api.Call {
	const at = "/access/tfa/{userid}"
	see := api.Themselves(params.user, api.Where("/access/users", access.SysAudit))
	change := api.Users(api.Themselves(params.user, api.Where("/access/users", access.PermissionsModify)))
	return []api.Call{
		{
			Method: "GET", Path: "/access/tfa", Doc: "List the second factors of all users.",
			Guard: api.LoggedIn("Without Sys.Audit on /access/users only one's own."), Do: api.Data(s.allFactors),
		},
		{Method: "GET", Path: at, Doc: "List the second factors of a user.", Guard: see, Params: []api.AnyParam{params.user}, Do: api.Data(s.factors)},
		{
			Method: "POST", Path: at, Doc: "Add a second factor: an authenticator, or recovery codes, which are shown once.",
			Guard: change, Params: []api.AnyParam{params.user, factorType, factorDoc, factorURI, factorCode, factorPassword}, Do: api.Data(s.addFactor),
		},
		{
			Method: "GET", Path: at + "/{id}", Doc: "Show a second factor.",
			Guard: see, Params: []api.AnyParam{params.user, factorID}, Do: api.Data(s.factor),
		},
		{
			Method: "PUT", Path: at + "/{id}", Doc: "Give an authenticator another description, or switch it on or off.",
			Guard: change, Params: []api.AnyParam{params.user, factorID, factorDoc, factorOn, factorPassword}, Do: api.Nothing(s.changeFactor),
		},
		{
			Method: "DELETE", Path: at + "/{id}", Doc: "Remove a second factor.",
			Guard: change, Params: []api.AnyParam{params.user, factorID, factorPassword}, Do: api.Nothing(s.removeFactor),
		},
	}
}

var (
	factorType     = api.Choice("type", "The kind of factor.", "totp", "recovery")
	factorDoc      = api.Line("description", "What it is for, as \"phone\".", 255).Optional()
	factorURI      = api.Line("totp", "The otpauth: URI of an authenticator.", 2048).Optional()
	factorCode     = api.Line("value", "A one-time password of the authenticator, to prove that it works.", 16).Optional()
	factorOn       = api.Bool("enable", "Whether it counts.").Optional()
	factorID       = api.Line("id", "The factor.", 64)
	factorPassword = passwordParam("password", "The password of the caller, whom everybody but root@pam has to prove to be.").Optional()
)

// factorItem is a second factor.
type factorItem struct {
	ID          string `json:"id"`
	Type        string `json:"type"`
	Description string `json:"description"`
	Created     int64  `json:"created"`
	Enable      bool   `json:"enable"`
}

func factorsOf(c *tfa.Config, user string) []factorItem {
	list := []factorItem{}
	for _, f := range c.List(user) {
		list = append(list, factorItem{f.ID, f.Type, f.Description, f.Created.Unix(), f.Enabled})
	}
	return list
}

func (s *Server) factors(_ context.Context, r *api.Request) ([]factorItem, error) {
	c, err := s.store.TFA()
	if err != nil {
		return nil, err
	}
	return factorsOf(c, params.user.Of(r).String()), nil
}

func (s *Server) factor(ctx context.Context, r *api.Request) (factorItem, error) {
	list, err := s.factors(ctx, r)
	for _, f := range list {
		if f.ID == factorID.Of(r) {
			return f, nil
		}
	}
	if err == nil {
		err = rest.Errorf(http.StatusNotFound, "no such tfa entry: %s/%s", params.user.Of(r), factorID.Of(r))
	}
	return factorItem{}, err
}

// factorsItem is the second factors of a user.
type factorsItem struct {
	UserID      string       `json:"userid"`
	Entries     []factorItem `json:"entries"`
	TOTPLocked  bool         `json:"totp-locked,omitempty"`
	LockedUntil int64        `json:"tfa-locked-until,omitempty"`
}

func (s *Server) allFactors(_ context.Context, r *api.Request) ([]factorsItem, error) {
	c, err := s.store.TFA()
	if err != nil {
		return nil, err
	}
	users, _, err := s.store.Users()
	if err != nil {
		return nil, err
	}
	all, _ := users.List() // accounts that cannot be read are not there
	every := r.Policy.RequireAny(r.Caller, "/access/users", access.SysAudit) == nil
	list := []factorsItem{}
	for _, a := range all {
		item := factorsItem{UserID: a.ID.String(), Entries: factorsOf(c, a.ID.String())}
		if !every && a.ID != r.Caller || len(item.Entries) == 0 {
			continue
		}
		locked, until := c.Locks(item.UserID, s.now())
		item.TOTPLocked = locked
		if !until.IsZero() {
			item.LockedUntil = until.Unix()
		}
		list = append(list, item)
	}
	return list, nil
}

// changeFactor leaves alone what is not given.
func (s *Server) changeFactor(ctx context.Context, r *api.Request) error {
	if err := s.confirm(ctx, r, factorPassword); err != nil {
		return err
	}
	now, err := s.factor(ctx, r)
	if err != nil {
		return err
	}
	if text, given := factorDoc.Given(r); given {
		now.Description = text
	}
	if on, given := factorOn.Given(r); given {
		now.Enable = on
	}
	return s.store.ChangeTFA(ctx, func(c *tfa.Config) error {
		return c.Change(params.user.Of(r).String(), now.ID, now.Description, now.Enable)
	})
}

// newFactor is a factor that was added.
type newFactor struct {
	ID       string   `json:"id,omitempty"`
	Recovery []string `json:"recovery,omitempty" doc:"codes, each good once"`
}

func (s *Server) addFactor(ctx context.Context, r *api.Request) (out newFactor, err error) {
	user := params.user.Of(r)
	if err := s.confirm(ctx, r, factorPassword); err != nil {
		return out, err
	}
	if err := s.mustExist(user); err != nil {
		return out, err
	}
	err = s.store.ChangeTFA(ctx, func(c *tfa.Config) (err error) {
		if factorType.Of(r) == "recovery" {
			out.Recovery, err = c.AddRecovery(user.String(), s.now(), rand.Reader)
			out.ID = tfa.Recovery
			return err
		}
		totp, err := tfa.ParseTOTP(factorURI.Of(r))
		if err != nil {
			return err
		}
		if out.ID, err = tfa.NewID(rand.Reader); err != nil {
			return err
		}
		return c.AddTOTP(user.String(), out.ID, factorDoc.Of(r), totp, factorCode.Of(r), s.now())
	})
	return out, err
}

func (s *Server) removeFactor(ctx context.Context, r *api.Request) error {
	if err := s.confirm(ctx, r, factorPassword); err != nil {
		return err
	}
	return s.store.ChangeTFA(ctx, func(c *tfa.Config) error { return c.Remove(params.user.Of(r).String(), factorID.Of(r)) })
}

func (s *Server) mustExist(user names.AuthID) error {
	users, _, err := s.store.Users()
	if err != nil {
		return err
	}
	_, err = users.Find(user)
	return err
}
