// Package idmap maps the users and groups of a container to those of its host
// and back, as a user namespace does.
//
// # Maps
//
// A map has ranges for users and ranges for groups: Count ids from Container on
// in the container are the ids from Host on outside. As in the kernel no id is
// in two ranges, seen from either side; the highest id is 4294967294; there are
// at most 340 ranges of each kind. The order of ranges does not matter. A map
// has both kinds of ranges or none: one of users alone would be taken for a
// mistake sooner than for a wish.
//
// The nil map and the empty one map every id to itself. In any other map, an id
// outside of all ranges has no counterpart. The kernel shows such an owner as
// [Overflow] inside the namespace.
//
// # Where maps are written down
//
//	u:CONTAINER:HOST:COUNT       on a command line; g: for groups, b: for both
//	lxc.idmap = u 0 100000 65536 in a configuration of LXC, also with "lxc.id_map"
//	                             and ":"; u, g or b; without a value it drops the
//	                             lines before it
//	unprivileged: 1              in one of Proxmox VE without lxc.idmap: 65536 of
//	                             both kinds from 0 to 100000. What stands behind
//	                             the first line "[NAME]" belongs to a snapshot
//	volatile.last_state.idmap    in one of Incus or LXD (config show, query,
//	                             backup.yaml): the map that the files on disk
//	                             were shifted by, a JSON list of objects with
//	                             Isuid, Isgid, Hostid, Nsid, Maprange. An empty
//	                             list: the files on disk have the container's ids,
//	                             which is so where the host mounts them with a map
//	volatile.idmap.current       the same for the running container; counts where
//	                             the former is missing
//	0 100000 65536               in /proc/PID/uid_map and gid_map
//
// A configuration of LXC or Proxmox VE without any of these belongs to a
// privileged container, and gives the empty map. Files that such a
// configuration includes are not followed.
//
// # Cost
//
// A lookup is a search in a sorted list, without memory of its own. Maps do not
// change, so they can be shared.
//
// # Errors
//
// What is no map gives an error wrapping [ErrInvalid]. Any other error of [Load]
// is the file system's.
//
// # Source
//
// user_namespaces(7); lxc.container.conf(5); pve-container: src/PVE/LXC.pm;
// incus: shared/idmap, internal/server/instance/drivers/driver_lxc.go.
package idmap

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// ErrInvalid is wrapped when a text or a list of ranges is no map.
var ErrInvalid = errors.New("not a valid id map")

const (
	// Overflow is the id that the kernel shows in place of one that has no
	// counterpart, called nobody and nogroup.
	Overflow = 65534

	// MaxRanges is how many ranges of a kind a map may have, as in the kernel.
	MaxRanges = 340
)

// Range is Count ids in a row.
type Range struct{ Container, Host, Count uint32 }

// Map is the users and groups of a container and what they are on its host.
type Map struct{ users, groups Table }

// New returns a map of these ranges.
func New(users, groups []Range) (*Map, error) {
	if (len(users) == 0) != (len(groups) == 0) {
		missing := "users"
		if len(groups) == 0 {
			missing = "groups"
		}
		return nil, fmt.Errorf("%w: it says nothing of %s", ErrInvalid, missing)
	}
	var m Map
	var err error
	if m.users, err = newTable("users", users); err != nil {
		return nil, err
	}
	if m.groups, err = newTable("groups", groups); err != nil {
		return nil, err
	}
	return &m, nil
}

// Users maps user ids.
func (m *Map) Users() *Table {
	if m == nil {
		return nil
	}
	return &m.users
}

// Groups maps group ids.
func (m *Map) Groups() *Table {
	if m == nil {
		return nil
	}
	return &m.groups
}

// Empty reports whether m maps every id to itself because it has no ranges.
func (m *Map) Empty() bool { return m == nil || len(m.users.byHost)+len(m.groups.byHost) == 0 }

// String is what ParseSpecs reads, with spaces between.
func (m *Map) String() string {
	if m.Empty() {
		return ""
	}
	var parts []string
	add := func(kind string, ranges []Range) {
		for _, r := range ranges {
			parts = append(parts, fmt.Sprintf("%s:%d:%d:%d", kind, r.Container, r.Host, r.Count))
		}
	}
	if slices.Equal(m.users.byContainer, m.groups.byContainer) {
		add("b", m.users.byContainer)
	} else {
		add("u", m.users.byContainer)
		add("g", m.groups.byContainer)
	}
	return strings.Join(parts, " ")
}

// Table is one kind of ids, users or groups.
type Table struct{ byContainer, byHost []Range } // the same ranges, sorted by either side

func newTable(kind string, ranges []Range) (t Table, err error) {
	if len(ranges) > MaxRanges {
		return t, fmt.Errorf("%w: %d ranges of %s, and at most %d are possible", ErrInvalid, len(ranges), kind, MaxRanges)
	}
	t = Table{byContainer: slices.Clone(ranges), byHost: slices.Clone(ranges)}
	if err := sortRanges(t.byContainer, kind+" of the container", Range.container); err != nil {
		return Table{}, err
	}
	if err := sortRanges(t.byHost, kind+" of the host", Range.host); err != nil {
		return Table{}, err
	}
	return t, nil
}

func (r Range) container() uint32 { return r.Container }
func (r Range) host() uint32      { return r.Host }

// sortRanges sorts ranges by the start that side tells, and checks them.
func sortRanges(ranges []Range, what string, side func(Range) uint32) error {
	slices.SortFunc(ranges, func(a, b Range) int {
		if side(a) < side(b) {
			return -1
		}
		return 1
	})
	end := uint64(0) // of the range before
	for i, r := range ranges {
		start := uint64(side(r))
		switch {
		case r.Count == 0:
			return fmt.Errorf("%w: a range of no %s at %d", ErrInvalid, what, start)
		case start+uint64(r.Count) > math.MaxUint32: // 4294967295 means "no id" in system calls
			return fmt.Errorf("%w: %d %s from %d on: the highest id is %d", ErrInvalid, r.Count, what, start, uint32(math.MaxUint32-1))
		case i > 0 && start < end:
			return fmt.Errorf("%w: %s from %d on are in two ranges", ErrInvalid, what, start)
		}
		end = start + uint64(r.Count)
	}
	return nil
}

// ToContainer returns what an id of the host is in the container; ok is false
// if it is nothing there.
func (t *Table) ToContainer(id uint32) (in uint32, ok bool) {
	if t == nil || len(t.byHost) == 0 {
		return id, true
	}
	if r, ok := find(t.byHost, id, Range.host); ok {
		return r.Container + (id - r.Host), true
	}
	return 0, false
}

// ToHost returns what an id of the container is on the host; ok is false if
// the container has no such id.
func (t *Table) ToHost(id uint32) (out uint32, ok bool) {
	if t == nil || len(t.byContainer) == 0 {
		return id, true
	}
	if r, ok := find(t.byContainer, id, Range.container); ok {
		return r.Host + (id - r.Container), true
	}
	return 0, false
}

// find returns the range that has id on this side.
func find(ranges []Range, id uint32, side func(Range) uint32) (r Range, ok bool) {
	low, high := 0, len(ranges) // the first range behind id is in [low, high]
	for low < high {
		if mid := (low + high) / 2; side(ranges[mid]) <= id {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == 0 {
		return r, false
	}
	r = ranges[low-1]
	return r, id-side(r) < r.Count
}

// Ranges returns a copy of the ranges, sorted by their ids in the container.
func (t *Table) Ranges() []Range {
	if t == nil {
		return nil
	}
	return slices.Clone(t.byContainer)
}
