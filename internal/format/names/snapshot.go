package names

import (
	"cmp"
	"strings"
)

// Snapshot names one backup of a group.
type Snapshot struct {
	NS Namespace
	Group
	Time int64 // seconds since 1970-01-01 UTC
}

// ParseSnapshot reads "<type>/<id>/<time>" with an optional "ns/a/ns/b/"
// before it, the path of the snapshot's directory relative to the store.
func ParseSnapshot(s string) (Snapshot, error) {
	const form = "want [ns/<namespace>/...]<type>/<id>/<time>, for example vm/100/2024-06-05T14:24:36Z"
	if len(s) > 1024 { // longer than any valid path; bounds the work below
		return Snapshot{}, refuse("snapshot", s, form)
	}
	parts := strings.Split(s, "/")
	var ns []string
	for len(parts) >= 2 && parts[0] == "ns" {
		ns, parts = append(ns, parts[1]), parts[2:]
	}
	if len(parts) != 3 {
		return Snapshot{}, refuse("snapshot", s, form)
	}
	var (
		snap Snapshot
		err  error
	)
	for _, name := range ns {
		if snap.NS, err = snap.NS.Child(name); err != nil {
			return Snapshot{}, err
		}
	}
	if snap.Group, err = ParseGroup(parts[0] + "/" + parts[1]); err != nil {
		return Snapshot{}, err
	}
	if snap.Time, err = ParseTime(parts[2]); err != nil {
		return Snapshot{}, err
	}
	return snap, nil
}

// Check reports whether s may name a new backup: valid parts, and a time that
// the API accepts.
func (s Snapshot) Check() error {
	if err := s.NS.Check(); err != nil {
		return err
	}
	if err := s.Group.Check(); err != nil {
		return err
	}
	if s.Time < MinTime || s.Time > maxYearTime {
		return refuse("snapshot time", FormatTime(s.Time), "want a time after 1970-01-01T00:00:00Z and before the year 10000")
	}
	return nil
}

// String returns "<type>/<id>/<time>" without the namespace, the form shown to
// people and used by the API.
func (s Snapshot) String() string { return s.Group.String() + "/" + FormatTime(s.Time) }

// Path returns the directory relative to the store, with namespace;
// ParseSnapshot is its inverse.
func (s Snapshot) Path() string { return s.NS.join(s.String()) }

// GroupPath returns the directory of the group relative to the store, with
// namespace.
func (s Snapshot) GroupPath() string { return GroupPath(s.NS, s.Group) }

// Compare orders by namespace, group, then time, oldest first.
func (s Snapshot) Compare(o Snapshot) int {
	return cmp.Or(cmp.Compare(s.NS, o.NS), s.Group.Compare(o.Group), cmp.Compare(s.Time, o.Time))
}

// GroupPath returns the directory of a group relative to the store:
// "ns/a/vm/100".
func GroupPath(ns Namespace, g Group) string { return ns.join(g.String()) }
