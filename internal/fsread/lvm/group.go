package lvm

import (
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// MissingError is physical volumes that none of the images is.
type MissingError struct {
	Group   string
	Volumes []string // UUIDs, with the device that they were when last used
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("lvm: volume group %s lacks physical volumes, which are on none of the images: %s", e.Group, strings.Join(e.Volumes, ", "))
}

// Group is a volume group.
type Group struct {
	Name, UUID string
	Logical    []Logical // those that LVM shows
	Notices    []string

	text    *section
	seqno   int64
	extent  int64 // bytes
	volumes map[string]physical
	hidden  map[string]bool   // logical volumes that tie a snapshot to its origin
	stores  map[string]string // logical volumes that are the store of a snapshot of another one
	merging map[string]bool   // origins into which a snapshot is being merged
}

// Logical is a logical volume.
type Logical struct {
	Name, UUID string
	Size       int64
}

// physical is a physical volume, by the name that the text has for it.
type physical struct {
	img   image.Image // nil: missing
	uuid  string
	hint  string // its device, when it was last used
	start int64  // bytes before its first extent
	count int64  // extents
}

// Assemble makes groups of physical volumes, in the order in which they are first
// met. Those that belong to none, or to a group that cannot be read, are in rest.
func Assemble(all []*Volume) (groups []*Group, rest []error) {
	found := map[string]*Group{}
	for _, v := range all {
		if v.text == nil {
			if v.Problem != nil {
				rest = append(rest, v.Problem)
			}
			continue
		}
		g, err := newGroup(v.text)
		if err != nil {
			rest = append(rest, err)
			continue
		}
		old := found[g.UUID]
		if old == nil {
			groups = append(groups, g)
			found[g.UUID] = g
		} else if g.seqno > old.seqno {
			*old = *g
		}
	}
	for _, g := range groups {
		g.attach(all)
	}
	return groups, rest
}

func newGroup(text *section) (*Group, error) {
	g := &Group{
		Name: text.name, text: text, volumes: map[string]physical{},
		hidden: map[string]bool{}, stores: map[string]string{}, merging: map[string]bool{},
	}
	var sectors int64
	if err := text.numbers(map[string]*int64{"seqno": &g.seqno, "extent_size": &sectors}); err != nil {
		return nil, err
	}
	var err error
	if g.UUID, err = text.string("id"); err != nil {
		return nil, err
	}
	if format, ok := text.values["format"]; ok && format != any("lvm2") {
		return nil, fsread.Unsupported(layer, "volume group %s: format %v", g.Name, format)
	}
	if sectors == 0 || sectors > 1<<31 {
		return nil, fsread.Corrupt(layer, "volume group %s: extents of %d sectors", g.Name, sectors)
	}
	g.extent = sectors * sectorSize
	for _, s := range text.sub("physical_volumes").order {
		if err := g.addPhysical(s); err != nil {
			return nil, err
		}
	}
	g.findSnapshots()
	for _, s := range text.sub("logical_volumes").order {
		if !g.shown(s) {
			continue
		}
		l := Logical{Name: s.name}
		if l.UUID, err = s.string("id"); err != nil {
			return nil, err
		}
		if l.Size, err = g.size(s); err != nil {
			return nil, err
		}
		g.Logical = append(g.Logical, l)
	}
	return g, nil
}

// findSnapshots notes the volumes whose blocks are not what they show: the store
// of a snapshot, and an origin that a snapshot is being merged into.
func (g *Group) findSnapshots() {
	for _, s := range g.text.sub("logical_volumes").order {
		for _, seg := range s.order {
			if seg.values["type"] != any("snapshot") {
				continue
			}
			g.hidden[s.name] = true
			origin, _ := seg.values["origin"].(string)
			for _, key := range []string{"cow_store", "merging_store"} {
				if store, ok := seg.values[key].(string); ok {
					g.stores[store] = origin
					g.merging[origin] = g.merging[origin] || key == "merging_store"
				}
			}
		}
	}
}

// shown reports a volume that LVM shows, if there can be something of a user on it: a
// pool has nothing but other volumes. Also the store of a snapshot, in the place of the
// volume that ties it to its origin.
func (g *Group) shown(s *section) bool {
	_, store := g.stores[s.name]
	return !g.hidden[s.name] && !isPool(s) && (store || s.has("status", "VISIBLE"))
}

func isPool(s *section) bool {
	kind, err := s.sub("segment1").string("type")
	return err == nil && strings.HasSuffix(kind, "-pool")
}

func (g *Group) addPhysical(s *section) error {
	var p physical
	var err error
	if p.uuid, err = s.string("id"); err != nil {
		return err
	}
	p.hint, _ = s.string("device")
	if err := s.numbers(map[string]*int64{"pe_start": &p.start, "pe_count": &p.count}); err != nil {
		return err
	}
	if p.start > 1<<40 || p.count > 1<<32 {
		return fsread.Corrupt(layer, "volume group %s: %s has %d extents from sector %d", g.Name, s.name, p.count, p.start)
	}
	p.start *= sectorSize
	g.volumes[s.name] = p
	return nil
}

// size is that of a logical volume: its segments, which follow each other.
func (g *Group) size(s *section) (int64, error) {
	var extents int64
	for _, seg := range s.order {
		n, err := seg.number("extent_count")
		if err != nil {
			return 0, err
		}
		if extents += n; n > 1<<32 || extents > 1<<62/g.extent {
			return 0, fsread.Corrupt(layer, "logical volume %s/%s: %d extents", g.Name, s.name, extents)
		}
	}
	return extents * g.extent, nil
}

// attach finds the images of the physical volumes.
func (g *Group) attach(all []*Volume) {
	images := map[string]image.Image{}
	twice := map[string]bool{}
	for _, v := range all {
		if images[v.UUID] == nil {
			images[v.UUID] = v.img
		} else {
			twice[v.UUID] = true
		}
	}
	for _, s := range g.text.sub("physical_volumes").order {
		p := g.volumes[s.name]
		if p.img = images[p.uuid]; twice[p.uuid] {
			g.Notices = append(g.Notices, fmt.Sprintf("volume group %s: two images are the physical volume %s; the first one counts", g.Name, p.uuid))
		}
		g.volumes[s.name] = p
	}
	if m := g.Missing(); len(m) > 0 {
		g.Notices = append(g.Notices, (&MissingError{g.Name, m}).Error())
	}
}

// Missing are the physical volumes that no image is.
func (g *Group) Missing() (all []string) {
	for _, s := range g.text.sub("physical_volumes").order {
		if p := g.volumes[s.name]; p.img == nil {
			all = append(all, p.String())
		}
	}
	return all
}

func (p physical) String() string {
	if p.hint == "" || p.hint == "unknown device" {
		return p.uuid
	}
	return fmt.Sprintf("%s (was %s)", p.uuid, p.hint)
}
