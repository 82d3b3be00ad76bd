package names

import (
	"cmp"
	"strconv"
	"strings"
)

// BackupType says what kind of machine a group backs up.
type BackupType string

// The three types, in the order of listings.
const (
	CT   BackupType = "ct"
	Host BackupType = "host"
	VM   BackupType = "vm"
)

// ParseType reads "vm", "ct" or "host".
func ParseType(s string) (BackupType, error) {
	switch t := BackupType(s); t {
	case CT, Host, VM:
		return t, nil
	}
	return "", refuse("backup type", s, "want vm, ct or host")
}

// Group is all snapshots of one machine.
type Group struct {
	Type BackupType
	ID   string
}

// ParseGroup reads "<type>/<id>".
func ParseGroup(s string) (Group, error) {
	typ, id, ok := strings.Cut(s, "/")
	if !ok {
		return Group{}, refuse("group", s, "want <type>/<id>, for example vm/100")
	}
	t, err := ParseType(typ)
	if err != nil {
		return Group{}, err
	}
	g := Group{t, id}
	if err := g.Check(); err != nil {
		return Group{}, err
	}
	return g, nil
}

// Check reports whether the fields hold what ParseGroup would accept.
func (g Group) Check() error {
	if _, err := ParseType(string(g.Type)); err != nil {
		return err
	}
	if !IsSafeID(g.ID) || len(g.ID) > maxComponent {
		return refuse("backup id", g.ID, "want 1 to 255 of A-Z a-z 0-9 _ . - that do not start with '.' or '-'")
	}
	return nil
}

// String returns "<type>/<id>".
func (g Group) String() string { return string(g.Type) + "/" + g.ID }

// Compare orders groups as listings do: by type, numeric ids by value before
// all others. Ids of equal value ("7", "07") are ordered by their text, so that
// only equal groups compare as equal.
func (g Group) Compare(o Group) int {
	if c := cmp.Compare(g.Type, o.Type); c != 0 {
		return c
	}
	n, nerr := strconv.ParseUint(g.ID, 10, 64)
	m, merr := strconv.ParseUint(o.ID, 10, 64)
	switch {
	case nerr == nil && merr != nil:
		return -1
	case nerr != nil && merr == nil:
		return 1
	case nerr == nil && n != m:
		return cmp.Compare(n, m)
	}
	return cmp.Compare(g.ID, o.ID)
}
