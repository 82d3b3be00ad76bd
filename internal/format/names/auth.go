package names

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// AuthID names who owns a group or runs a task: a user, or an API token of one.
type AuthID struct {
	User  string // no white space, ':', '/' or control characters
	Realm string
	Token string // empty for the user itself
}

// ParseAuthID reads "<user>@<realm>" or "<user>@<realm>!<token>".
func ParseAuthID(s string) (AuthID, error) {
	const form = "want <user>@<realm> or <user>@<realm>!<token>"
	if len(s) > 1024 || !utf8.ValidString(s) {
		return AuthID{}, refuse("user", s, form)
	}
	// Neither realm nor token may contain '@', the user may.
	at := strings.LastIndexByte(s, '@')
	if at < 1 {
		return AuthID{}, refuse("user", s, form)
	}
	realm, token, hasToken := strings.Cut(s[at+1:], "!")
	if !IsSafeID(realm) || hasToken && !IsSafeID(token) {
		return AuthID{}, refuse("user", s, form)
	}
	for _, r := range s[:at] {
		if r == ':' || r == '/' || unicode.IsSpace(r) || unicode.IsControl(r) {
			return AuthID{}, refuse("user", s, "white space, ':', '/' and control characters are not allowed")
		}
	}
	return AuthID{s[:at], realm, token}, nil
}

// String is the inverse of ParseAuthID.
func (a AuthID) String() string {
	s := a.User + "@" + a.Realm
	if a.Token != "" {
		s += "!" + a.Token
	}
	return s
}

// IsToken reports whether a is an API token.
func (a AuthID) IsToken() bool { return a.Token != "" }

// MayUse reports whether a has access to what owner owns: they are equal, or
// owner is a token of the user a.
func (a AuthID) MayUse(owner AuthID) bool {
	return a == owner || !a.IsToken() && a.User == owner.User && a.Realm == owner.Realm
}
