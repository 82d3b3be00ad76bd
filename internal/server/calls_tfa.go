package server

import (
	"context"
	"crypto/rand"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/access/tfa"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/server/api"
)

// tfaCalls are the calls about second factors.
func (s *Server) tfaCalls() []api.Call {
	const at = "/access/tfa/{userid}"
	see := api.Themselves(params.user, api.Where("/access/users", access.SysAudit))
	change := api.Users(api.Themselves(params.user, api.Where("/access/users", access.PermissionsModify)))
	return []api.Call{
		{Method: "GET", Path: at, Doc: "List the second factors of a user.", Guard: see, Params: []api.AnyParam{params.user}, Do: api.Data(s.factors)},
		{
			Method: "POST", Path: at, Doc: "Add a second factor: an authenticator, or recovery codes, which are shown once.",
			Guard: change, Params: []api.AnyParam{params.user, factorType, factorDoc, factorURI, factorCode, factorPassword}, Do: api.Data(s.addFactor),
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

func (s *Server) factors(_ context.Context, r *api.Request) ([]factorItem, error) {
	c, err := s.store.TFA()
	if err != nil {
		return nil, err
	}
	list := []factorItem{}
	for _, f := range c.List(params.user.Of(r).String()) {
		list = append(list, factorItem{f.ID, f.Type, f.Description, f.Created.Unix(), f.Enabled})
	}
	return list, nil
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
