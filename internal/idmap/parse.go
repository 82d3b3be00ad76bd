package idmap

import (
	"fmt"
	"strconv"
	"strings"
)

// list gathers the ranges of a text.
type list struct{ users, groups []Range }

func (l *list) newMap() (*Map, error) { return New(l.users, l.groups) }

// add adds a range of the kind u, g or b with numbers in decimal digits.
func (l *list) add(kind string, numbers ...string) error {
	if len(numbers) != 3 {
		return fmt.Errorf("%w: a range has three numbers: the first id in the container, the first one on the host, how many", ErrInvalid)
	}
	var n [3]uint32
	for i, s := range numbers {
		v, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return fmt.Errorf("%w: %.40q is no number from 0 to 4294967295", ErrInvalid, s)
		}
		n[i] = uint32(v)
	}
	r := Range{n[0], n[1], n[2]}
	switch kind {
	case "u":
		l.users = append(l.users, r)
	case "g":
		l.groups = append(l.groups, r)
	case "b":
		l.users, l.groups = append(l.users, r), append(l.groups, r)
	default:
		return fmt.Errorf("%w: %.40q is none of u (users), g (groups) and b (both)", ErrInvalid, kind)
	}
	if len(l.users) > MaxRanges || len(l.groups) > MaxRanges { // before a hostile text makes millions
		return fmt.Errorf("%w: more than %d ranges", ErrInvalid, MaxRanges)
	}
	return nil
}

// ParseSpecs reads ranges as a command line has them, u:CONTAINER:HOST:COUNT.
func ParseSpecs(specs ...string) (*Map, error) {
	var l list
	for _, s := range specs {
		f := strings.Split(s, ":")
		if err := l.add(f[0], f[1:]...); err != nil {
			return nil, fmt.Errorf("%.80q: %w", s, err)
		}
	}
	return l.newMap()
}

// ParseProc reads the uid_map and the gid_map of a process.
func ParseProc(uidMap, gidMap []byte) (*Map, error) {
	var l list
	for _, m := range []struct {
		kind, name string
		text       []byte
	}{{"u", "uid_map", uidMap}, {"g", "gid_map", gidMap}} {
		for line := range strings.Lines(string(m.text)) {
			if err := l.add(m.kind, strings.Fields(line)...); err != nil {
				return nil, fmt.Errorf("%s: %w", m.name, err)
			}
		}
	}
	if len(l.users)+len(l.groups) == 0 {
		return nil, fmt.Errorf("%w: the process is in a namespace that has no ids yet", ErrInvalid)
	}
	return l.newMap()
}
