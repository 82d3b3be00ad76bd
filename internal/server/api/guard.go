package api

import (
	"net/http"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
)

// Guard says who may make a call.
type Guard interface {
	// Allow returns nil, or an error such as *access.DeniedError. A call may
	// have more to ask, of the owner of a group for one.
	Allow(r *Request) error
	// Rule describes it in a sentence.
	Rule() string
}

type guard struct {
	rule   string
	public bool
	allow  func(*Request) error
}

func (g guard) Allow(r *Request) error { return g.allow(r) }
func (g guard) Rule() string           { return g.rule }

// NeedsLogin reports whether a call is for those who are logged in only.
func (c *Call) NeedsLogin() bool {
	g, ok := c.Guard.(guard)
	return !ok || !g.public
}

func all(*Request) error { return nil }

// Everybody lets everybody pass, without a login.
func Everybody() Guard { return guard{"No login is needed.", true, all} }

// LoggedIn lets everybody pass who is logged in. What the answer holds may depend
// on who it is, which rule says.
func LoggedIn(rule string) Guard {
	return guard{strings.TrimSpace("Everybody who is logged in. " + rule), false, all}
}

// Where is a place in the tree of privileges, with parameters in braces, as in
// "/datastore/{store}".
func Where(path string, need access.Privs) Guard {
	return guard{"Needs " + need.String() + " on " + path + ".", false, func(r *Request) error {
		return r.Policy.RequireAny(r.Caller, r.fill(path), need)
	}}
}

// fill puts the texts of parameters in the place of their names.
func (r *Request) fill(path string) access.Path {
	for _, name := range variables(path) {
		text, _ := r.values[name].(string)
		path = strings.Replace(path, "{"+name+"}", text, 1)
	}
	return access.Path(path)
}

// Themselves lets users pass whose own id is the value of a parameter, and besides
// those whom g lets pass. Tokens are not their users.
func Themselves(p Param[names.AuthID], g Guard) Guard {
	return guard{strings.TrimSuffix(g.Rule(), ".") + ", or to be the user.", false, func(r *Request) error {
		if r.Caller == p.Of(r) {
			return nil
		}
		return g.Allow(r)
	}}
}

// Content asks for what a call on the content of a datastore needs. Whether it
// reaches all groups or those of the caller alone is for the handler to look at.
func Content(store Param[string], ns Param[names.Namespace], c access.Call) Guard {
	return guard{contentRule(c), false, func(r *Request) error {
		return r.Policy.Require(r.Caller, store.Of(r), ns.Of(r), c)
	}}
}

func contentRule(c access.Call) string {
	const at = " on /datastore/{store}[/{ns}]"
	every, owned := c.Needs()
	switch {
	case owned == 0:
		return "Needs " + every.String() + at + "."
	case every == 0:
		return "Needs " + owned.String() + at + ", for groups of one's own."
	}
	return "Needs " + every.String() + at + "; with " + owned.String() + " for groups of one's own."
}

// Users lets users pass and API tokens not: what is asked is for people.
func Users(g Guard) Guard {
	return guard{strings.TrimSuffix(g.Rule(), ".") + ". Not for API tokens.", false, func(r *Request) error {
		if r.Caller.IsToken() {
			return rest.Errorf(http.StatusForbidden, "API tokens cannot access this API endpoint")
		}
		return g.Allow(r)
	}}
}

// Custom is a rule in words and as a function.
func Custom(rule string, allow func(*Request) error) Guard { return guard{rule, false, allow} }
