package access

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/aclcfg"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// ACL is the access control list: who has which role where. The zero value is an
// empty list. It is not safe for changes while others use it.
type ACL struct {
	places map[Path]place
}

// place has what is given at one path, by the text form of a [Who].
type place map[string]grants

// grants are roles of one at one path; true: for all below too.
type grants map[Role]bool

// Who is a user, a token or a group.
type Who struct {
	ID    names.AuthID
	Group string // if this is not empty, ID is
}

// ParseWho reads "user@realm", "user@realm!token" or "@group".
func ParseWho(s string) (Who, error) {
	if group, ok := strings.CutPrefix(s, "@"); ok {
		if _, err := names.ParseAuthID(group + "@pam"); err != nil { // a group has a user's name
			return Who{}, fmt.Errorf("group %q: %w", group, ErrInvalid)
		}
		return Who{Group: group}, nil
	}
	id, err := names.ParseAuthID(s)
	return Who{ID: id}, err
}

// String is the inverse of ParseWho.
func (w Who) String() string {
	if w.Group != "" {
		return "@" + w.Group
	}
	return w.ID.String()
}

// Entry is one role of one at one path.
type Entry struct {
	Path      Path
	Who       Who
	Role      Role
	Propagate bool // for all below too
}

// ParseACL reads the list from acl.cfg, and from the file of the same form that
// has the roles of our own. A later line changes what an earlier one gave: NoAccess
// takes the other roles of that one at that path away, and another role takes
// NoAccess away, but not one of our own.
func ParseACL(pbs, own []byte) (*ACL, error) {
	a := &ACL{}
	for _, text := range [][]byte{pbs, own} {
		lines, err := aclcfg.Parse(text)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			if err := a.add(l); err != nil {
				return nil, err
			}
		}
	}
	return a, nil
}

func (a *ACL) add(l aclcfg.Line) error {
	for _, s := range l.Who {
		who, err := ParseWho(s)
		if err != nil {
			return fmt.Errorf("path %s: %w", l.Path, err)
		}
		for _, r := range l.Roles {
			role := Role(r)
			if _, shut := a.places[Path(l.Path)][who.String()][NoAccess]; shut && role.Own() {
				continue
			}
			a.Grant(Entry{Path(l.Path), who, role, l.Propagate})
		}
	}
	return nil
}

// Grant gives a role; one that is there gets the entry's Propagate. NoAccess
// takes the other roles of that one at that path away, and goes when another is
// given.
func (a *ACL) Grant(e Entry) {
	if a.places == nil {
		a.places = map[Path]place{}
	}
	if a.places[e.Path] == nil {
		a.places[e.Path] = place{}
	}
	at, who := a.places[e.Path], e.Who.String()
	if at[who] == nil || e.Role == NoAccess {
		at[who] = grants{}
	}
	delete(at[who], NoAccess)
	at[who][e.Role] = e.Propagate
}

// Revoke takes a role away and reports whether it was there.
func (a *ACL) Revoke(path Path, who Who, role Role) bool {
	at := a.places[path]
	_, had := at[who.String()][role]
	if had {
		delete(at[who.String()], role)
		a.tidy(path, who.String())
	}
	return had
}

// Forget takes away everything that a user and the user's tokens have, or that a
// token has.
func (a *ACL) Forget(id names.AuthID) {
	for path, at := range a.places {
		for key := range at {
			who, err := ParseWho(key)
			if err == nil && who.Group == "" && (who.ID == id || !id.IsToken() && userOf(who.ID) == id) {
				delete(at, key)
				a.tidy(path, key)
			}
		}
	}
}

// ForgetBelow takes away everything at a path and below it, as for a datastore
// that is gone.
func (a *ACL) ForgetBelow(path Path) {
	maps.DeleteFunc(a.places, func(p Path, _ place) bool { return p == path || p.below(path) })
}

// tidy removes what has become empty.
func (a *ACL) tidy(path Path, who string) {
	if at := a.places[path]; len(at[who]) == 0 {
		delete(at, who)
	}
	if len(a.places[path]) == 0 {
		delete(a.places, path)
	}
}

// Entries yields the list, sorted by path, who and role.
func (a *ACL) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for _, path := range a.paths() {
			at := a.places[path]
			for _, key := range slices.Sorted(maps.Keys(at)) {
				who, err := ParseWho(key)
				if err != nil {
					panic("access: a list holds " + key) // every key was parsed or printed
				}
				for _, role := range slices.Sorted(maps.Keys(at[key])) {
					if !yield(Entry{path, who, role, at[key][role]}) {
						return
					}
				}
			}
		}
	}
}

func (a *ACL) paths() []Path {
	return slices.SortedFunc(maps.Keys(a.places), Path.compare)
}

// AppendPBS appends the text of acl.cfg to b: all but the roles of our own.
func (a *ACL) AppendPBS(b []byte) ([]byte, error) { return a.append(b, false) }

// AppendOwn appends the text of the file beside acl.cfg.
func (a *ACL) AppendOwn(b []byte) ([]byte, error) { return a.append(b, true) }

// append writes lines as PBS does: for each path first what holds there alone,
// then what holds below too; those who have the same role share a line, and then
// roles that the same have; what root@pam has is not written.
func (a *ACL) append(b []byte, own bool) (_ []byte, err error) {
	for _, path := range a.paths() {
		for _, propagate := range []bool{false, true} {
			having := map[Role][]string{}
			for _, who := range slices.Sorted(maps.Keys(a.places[path])) {
				for role, p := range a.places[path][who] {
					if p == propagate && role.Own() == own && who != Root().String() {
						having[role] = append(having[role], who)
					}
				}
			}
			lines := map[string]aclcfg.Line{}
			for _, role := range slices.Sorted(maps.Keys(having)) {
				key := strings.Join(having[role], ",")
				l := lines[key]
				l.Propagate, l.Path, l.Who = propagate, string(path), having[role]
				l.Roles = append(l.Roles, string(role))
				lines[key] = l
			}
			for _, key := range slices.Sorted(maps.Keys(lines)) {
				if b, err = aclcfg.Append(b, lines[key]); err != nil {
					return nil, err
				}
			}
		}
	}
	return b, nil
}

// held returns the roles that hold for an id at a path: rule 2 and 3 of the
// package comment.
func (a *ACL) held(id names.AuthID, path Path) grants {
	var held grants
	who := Who{ID: id}.String()
	for p, leaf := range path.down() {
		here := grants{}
		for role, propagate := range a.places[p][who] {
			if leaf || propagate {
				here[role] = propagate
			}
		}
		if _, shut := here[NoAccess]; shut {
			here = grants{NoAccess: false}
		}
		if len(here) > 0 {
			held = here
		}
	}
	return held
}

// privs returns what an id was given at a path, and what of it holds below too.
func (a *ACL) privs(id names.AuthID, path Path) (here, below Privs) {
	for role, propagate := range a.held(id, path) {
		here |= role.Privs()
		if propagate {
			below |= role.Privs()
		}
	}
	return here, below
}
