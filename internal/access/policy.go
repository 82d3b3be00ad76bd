package access

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// Policy answers who may do what, at one state of users and list. It does not
// change and is safe for concurrent use.
type Policy struct {
	accounts map[names.AuthID]Account
	acl      *ACL
}

// NewPolicy returns the policy of users and a list, which must not be changed any
// more. Accounts that cannot be read are not active; err names them, and the
// policy is good nonetheless.
func NewPolicy(u *Users, a *ACL) (p *Policy, err error) {
	users, uerr := u.List()
	tokens, terr := u.Tokens(names.AuthID{})
	p = &Policy{map[names.AuthID]Account{}, a}
	for _, acc := range slices.Concat(users, tokens) {
		p.accounts[acc.ID] = acc
	}
	if uerr == nil {
		uerr = terr
	}
	return p, uerr
}

// InactiveError says why somebody cannot log in. It is for logs: who tries gets
// no reason.
type InactiveError struct {
	ID     names.AuthID
	Reason string
}

func (e *InactiveError) Error() string { return fmt.Sprintf("%s %s %s", kindOf(e.ID), e.ID, e.Reason) }

// Active returns nil or an [*InactiveError].
func (p *Policy) Active(id names.AuthID, now time.Time) error {
	acc, ok := p.accounts[id]
	switch {
	case !ok:
		return &InactiveError{id, "is not known"}
	case acc.Disabled:
		return &InactiveError{id, "is disabled"}
	case !acc.Expires.IsZero() && !now.Before(acc.Expires):
		return &InactiveError{id, "expired at " + acc.Expires.UTC().Format(time.RFC3339)}
	}
	if id.IsToken() {
		return p.Active(userOf(id), now)
	}
	return nil
}

// Privs returns what somebody may do at a path, and what of it holds for
// everything below too. Whether somebody is active does not count here.
func (p *Policy) Privs(id names.AuthID, path Path) (here, below Privs) {
	if id == Root() {
		return all, all
	}
	here, below = p.acl.privs(id, path)
	if id.IsToken() {
		h, b := p.Privs(userOf(id), path)
		here, below = here&h, below&b
	}
	return here, below
}

// DeniedError says which privilege is missing.
type DeniedError struct {
	Need Privs // one of these at least, or all of them
	All  bool
	Path Path
}

func (e *DeniedError) Error() string {
	if e.All && len(e.Need.Names()) > 1 {
		return fmt.Sprintf("permission denied: all of %v are needed on %s", e.Need.Names(), e.Path)
	}
	return fmt.Sprintf("permission denied: %v is needed on %s", e.Need, e.Path)
}

// RequireAny returns nil if somebody has one of the privileges at a path, else a
// [*DeniedError].
func (p *Policy) RequireAny(id names.AuthID, path Path, need Privs) error {
	if here, _ := p.Privs(id, path); here&need != 0 {
		return nil
	}
	return &DeniedError{need, false, path}
}

// RequireAll is the same for all of the privileges.
func (p *Policy) RequireAll(id names.AuthID, path Path, need Privs) error {
	if here, _ := p.Privs(id, path); here&need == need {
		return nil
	}
	return &DeniedError{need, true, path}
}

// AnyBelow reports whether somebody has one of the privileges at some place below
// a path, the path itself left out unless it holds below.
func (p *Policy) AnyBelow(id names.AuthID, path Path, need Privs) bool {
	if _, below := p.Privs(id, path); below&need != 0 {
		return true
	}
	for q, at := range p.acl.places {
		if !q.below(path) {
			continue
		}
		// Only where something is given to one of the two can there be more than above.
		if at[id.String()] == nil && at[userOf(id).String()] == nil {
			continue
		}
		if here, _ := p.Privs(id, q); here&need != 0 {
			return true
		}
	}
	return false
}
