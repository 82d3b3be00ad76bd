package md

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Array is an array and what was found of it.
type Array struct {
	UUID, Name string
	Notices    []string

	geometry
	slots  []*Member // by their places; nil: missing
	inSync bool
	have   int
	behind int // members that do not count
	err    error
}

// Assemble finds out which arrays members make. They come in the order of their first
// members, and none has the name of another.
func Assemble(all []*Member) (arrays []*Array) {
	groups := map[string][]*Member{}
	var order []string
	for _, m := range all {
		if groups[m.UUID] == nil {
			order = append(order, m.UUID)
		}
		groups[m.UUID] = append(groups[m.UUID], m)
	}
	for _, uuid := range order {
		a := assemble(groups[uuid])
		taken := slices.ContainsFunc(arrays, func(o *Array) bool { return o.Name == a.Name })
		if a.Name = PathName(a.Name, uuid); taken {
			a.Name = uuid
		}
		arrays = append(arrays, a)
	}
	return arrays
}

// PathName is the name of an array in paths: its own, or its UUID if that cannot be
// one.
func PathName(name, uuid string) string {
	if name == "" || name == "." || name == ".." || slices.ContainsFunc([]rune(name), func(r rune) bool { return r == '/' || r == 0 }) {
		return uuid
	}
	return name
}

func assemble(members []*Member) *Array {
	newest := slices.MaxFunc(members, func(a, b *Member) int { return cmp.Compare(a.events, b.events) })
	a := &Array{UUID: newest.UUID, Name: newest.Name, geometry: newest.array, inSync: newest.inSync}
	a.slots = make([]*Member, a.members)
	for _, m := range members {
		if !a.counts(m, newest) {
			a.behind++
			continue
		}
		r := newest.roles[m.number]
		switch {
		case m.array != a.geometry:
			a.err = fsread.Corrupt(layer, "members of array %s say different things of it", a.Name)
		case a.slots[r] != nil:
			a.err = fsread.Unsupported(layer, "array %s, of which two images are member %d,", a.Name, r)
		default:
			a.slots[r] = m
			a.have++
		}
	}
	if a.behind > 0 {
		a.Notices = append(a.Notices, fmt.Sprintf("%d of the images are spares or members that failed, are being rebuilt, or were left behind", a.behind))
	}
	if a.have < a.members {
		a.Notices = append(a.Notices, fmt.Sprintf("of %d members %d are there", a.members, a.have))
	}
	return a
}

// counts reports whether a member's data is that of the array. An array that was
// caught while it wrote its superblocks has members that miss one event.
func (a *Array) counts(m, newest *Member) bool {
	return newest.events-m.events <= 1 && m.number < len(newest.roles) && newest.roles[m.number] >= 0 &&
		m.features&(featureRecovering|featureRecoveryBitmap|featureReplacement) == 0
}

// Open gives the content of the array.
func (a *Array) Open() (image.Image, error) {
	if a.err != nil {
		return nil, a.err
	}
	l, err := a.layoutOf()
	if err != nil {
		return nil, err
	}
	if l.size <= 0 {
		return nil, fsread.Corrupt(layer, "array %s has no content", a.Name)
	}
	return &content{a: a, layout: l}, nil
}

// layoutOf finds the layout, and whether there are members enough.
func (a *Array) layoutOf() (layout, error) {
	missing := a.members - a.have
	lack := &MissingError{Array: a.Name, Have: a.have, Of: a.members, Behind: a.behind}
	switch a.level {
	case -1, 0:
		if missing > 0 {
			return layout{}, lack
		}
		if a.level == 0 {
			return a.striped()
		}
		return a.linear(), nil
	case 1:
		if a.have == 0 {
			return layout{}, lack
		}
		return a.mirror(), nil
	case 4, 5, 6:
		spare := 1
		if a.level == 6 {
			spare = 2
		}
		switch {
		case a.members <= spare:
			return layout{}, fsread.Corrupt(layer, "array %s is a RAID %d of %d members", a.Name, a.level, a.members)
		case missing > spare:
			return layout{}, lack
		case missing > 1:
			return layout{}, fsread.Unsupported(layer, "array %s, a RAID 6 that lacks two members,", a.Name)
		case missing > 0 && !a.inSync:
			return layout{}, fsread.Unsupported(layer, "array %s, a RAID %d that lacks a member and was not in sync,", a.Name, a.level)
		}
		return a.parity(spare)
	case 10:
		l, err := a.ten()
		if err == nil && !a.covered(l) {
			err = lack
		}
		return l, err
	}
	return layout{}, fsread.Unsupported(layer, "array %s of level %d", a.Name, a.level)
}

// covered reports whether every chunk is on a member that is there. Which members have a
// chunk repeats itself at the latest after as many chunks as there are members.
func (a *Array) covered(l layout) bool {
	for i := range int64(a.members) {
		if i*a.chunk >= l.size {
			break
		}
		p := l.find(i * a.chunk)
		if !slices.ContainsFunc(p.copies, func(s spot) bool { return a.slots[s.slot] != nil }) {
			return false
		}
	}
	return true
}

// Geometry is how an array lies on its members, for who keeps superblocks of other
// kinds: levels and layouts have Linux's numbers.
type Geometry struct {
	Name   string // for errors
	Level  int
	Layout uint32
	Chunk  int64 // bytes
	Used   int64 // bytes of each member
}

// Open gives the content of an array of these members, in their places; nil is one that is
// missing. inSync says that parity is right everywhere.
func Open(g Geometry, members []image.Image, inSync bool) (image.Image, error) {
	a := &Array{Name: g.Name, inSync: inSync, slots: make([]*Member, len(members))}
	a.geometry = geometry{level: g.Level, layout: g.Layout, members: len(members), chunk: g.Chunk, used: g.Used}
	if err := a.geometry.check(g.Name); err != nil {
		return nil, err
	}
	for i, img := range members {
		if img != nil {
			a.slots[i] = &Member{Name: g.Name, img: img, array: a.geometry, number: i, size: img.Size()}
			a.have++
		}
	}
	return a.Open()
}
