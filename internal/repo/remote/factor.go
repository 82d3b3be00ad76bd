package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
)

// Factors are the second factors that a server takes of a user.
type Factors struct {
	TOTP     bool // a one-time password of an authenticator
	Recovery bool // a recovery code
}

// challenge marks the ticket of a user whose password was right and is not enough:
//
//	PBS:!tfa!JSON:TIME::SIGNATURE
//
// The JSON has what there is to answer with, and its colons as %3A.
const challenge = "PBS:!tfa!"

// parseChallenge reads what a ticket asks for.
func parseChallenge(ticket string) (f Factors, err error) {
	text, _, _ := strings.Cut(strings.TrimPrefix(ticket, challenge), ":")
	if text, err = url.PathUnescape(text); err != nil {
		return f, err
	}
	var form struct {
		TOTP     bool  `json:"totp"`
		Recovery []int `json:"recovery"`
	}
	if err := json.Unmarshal([]byte(text), &form); err != nil {
		return f, errors.New("it cannot be read")
	}
	return Factors{form.TOTP, len(form.Recovery) > 0}, nil
}

// answer is what a server wants to be told: one-time passwords are digits, recovery
// codes are not.
func (f Factors) answer(code string) string {
	code = strings.TrimSpace(code)
	digits := code != "" && strings.Trim(code, "0123456789 ") == "" && len(code) < 16
	if f.TOTP && (digits || !f.Recovery) {
		return "totp:" + strings.ReplaceAll(code, " ", "")
	}
	return "recovery:" + code
}

// second completes a login: ticket is the one that the password got.
func (a *auth) second(ctx context.Context, ticket string) (got items.Login, err error) {
	r := a.r
	who := fmt.Sprintf("%s asks %s for a second factor", r.addr.Server(), r.addr.Auth)
	f, err := parseChallenge(ticket)
	switch {
	case err != nil:
		return got, fmt.Errorf("%w: %s: %w", ErrLogin, who, err)
	case !f.TOTP && !f.Recovery:
		return got, fmt.Errorf("%w: %s of a kind that is not known here: use an API token", ErrLogin, who)
	case r.opt.Factor == nil:
		return got, fmt.Errorf("%w: %s, and there is nobody to ask: use an API token", ErrLogin, who)
	}
	code, err := r.opt.Factor(ctx, f)
	if err != nil {
		return got, err
	}
	form := url.Values{"username": {r.addr.Auth.String()}, "tfa-challenge": {ticket}, "password": {f.answer(string(code.Reveal()))}}
	req, err := r.request(ctx, http.MethodPost, "/access/ticket", form)
	if err != nil {
		return got, err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return got, r.failed(plain(ctx, err))
	}
	defer func() { _ = resp.Body.Close() }()
	err = rest.Answer(resp, &got)
	if e, ok := errors.AsType[*rest.Error](err); ok && e.Status == http.StatusUnauthorized {
		err = fmt.Errorf("%w: %s: the answer is wrong", ErrLogin, who)
	}
	return got, err
}
