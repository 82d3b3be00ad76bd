package lvm

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// maxLevels is how many logical volumes may lie on one another.
const maxLevels = 8

// Open gives the content of a logical volume.
func (g *Group) Open(name string) (image.Image, error) {
	for _, l := range g.Logical {
		if l.Name == name {
			o := opener{group: g, done: map[string]*volume{}}
			return o.volume(name, 0)
		}
	}
	return nil, fmt.Errorf("lvm: volume group %s has no logical volume %s: %w", g.Name, name, fsread.ErrNotExist)
}

// opener puts a volume together, each one that it lies on once.
type opener struct {
	group *Group
	done  map[string]*volume
}

func (o *opener) volume(name string, level int) (image.Image, error) {
	g := o.group
	if v := o.done[name]; v != nil {
		return v, nil
	}
	s := g.text.sub("logical_volumes").sections[name]
	switch {
	case s == nil:
		return nil, fsread.Corrupt(layer, "logical volume %s/%s is referred to and not there", g.Name, name)
	case level == maxLevels:
		return nil, fsread.Corrupt(layer, "logical volume %s/%s: more than %d volumes on one another", g.Name, name, maxLevels)
	}
	if origin, ok := g.stores[name]; ok {
		return nil, fsread.Unsupported(layer, "%s/%s, a snapshot of %s", g.Name, name, origin)
	}
	if g.merging[name] {
		return nil, fsread.Unsupported(layer, "%s/%s, into which a snapshot is being merged", g.Name, name)
	}
	size, err := g.size(s)
	if err != nil {
		return nil, err
	}
	v := &volume{size: size}
	var next int64
	for _, seg := range s.order {
		start, err := seg.number("start_extent")
		if err != nil {
			return nil, err
		}
		if start != next {
			return nil, fsread.Corrupt(layer, "logical volume %s/%s: %s begins at extent %d, the one before ends at %d", g.Name, name, seg.name, start, next)
		}
		piece, err := o.segment(name, seg, level)
		if err != nil {
			return nil, err
		}
		piece.start = start * g.extent
		v.pieces = append(v.pieces, piece)
		next += piece.size / g.extent
	}
	o.done[name] = v
	return v, nil
}

// segment is one piece of a volume; its start is left to the caller.
func (o *opener) segment(name string, seg *section, level int) (piece, error) {
	g := o.group
	count, err := seg.number("extent_count")
	if err != nil {
		return piece{}, err
	}
	p := piece{size: count * g.extent}
	if count == 0 {
		return p, fsread.Corrupt(layer, "logical volume %s/%s: %s is empty", g.Name, name, seg.name)
	}
	kind, err := seg.string("type")
	if err != nil {
		return p, err
	}
	switch kind {
	case "striped", "linear":
		p.areas, err = o.pairs(name, seg, "stripes", level)
	case "mirror":
		p.areas, err = o.pairs(name, seg, "mirrors", level)
		p.areas = p.areas[:min(1, len(p.areas))] // the others follow it
	case "raid0", "raid0_meta":
		p.areas, err = o.images(name, seg, kind == "raid0_meta", level)
	case "raid1":
		p.areas, err = o.leg(name, seg, level)
	case "raid4", "raid5", "raid5_ls", "raid5_la", "raid5_rs", "raid5_ra", "raid5_n", "raid6", "raid6_zr", "raid6_nr", "raid6_nc", "raid6_n_6",
		"raid6_ls_6", "raid6_la_6", "raid6_rs_6", "raid6_ra_6", "raid10", "raid10_near":
		p.areas, err = o.array(name, seg, level)
	case "thin":
		p.areas, err = o.thin(name, seg, p.size, level)
	case "zero":
		return p, nil
	case "error":
		p.err = fmt.Errorf("lvm: logical volume %s/%s: %s reads as an error", g.Name, name, seg.name)
		return p, nil
	default:
		return p, fsread.Unsupported(layer, "%s/%s, a volume of type %s", g.Name, name, kind)
	}
	if err != nil {
		return p, err
	}
	return p, o.stripes(name, seg, count, &p)
}

// stripes checks that the areas of a piece are as long as its stripes.
func (o *opener) stripes(name string, seg *section, count int64, p *piece) error {
	g, n := o.group, int64(len(p.areas))
	if n == 0 || count%n != 0 {
		return fsread.Corrupt(layer, "logical volume %s/%s: %s has %d extents in %d stripes", g.Name, name, seg.name, count, n)
	}
	p.stripe = p.size
	if n > 1 {
		sectors, err := seg.number("stripe_size")
		if err != nil {
			return err
		}
		if p.stripe = sectors * sectorSize; sectors == 0 || sectors > 1<<31 || p.size/n%p.stripe != 0 {
			return fsread.Corrupt(layer, "logical volume %s/%s: stripes of %d sectors", g.Name, name, sectors)
		}
	}
	for _, a := range p.areas {
		if end := a.off + p.size/n; end > a.img.Size() || end < a.off {
			return fsread.Corrupt(layer, "logical volume %s/%s: %s reaches behind the end of what it lies on", g.Name, name, seg.name)
		}
	}
	return nil
}

// pairs reads a list of volumes, physical or logical, and extents in them.
func (o *opener) pairs(name string, seg *section, key string, level int) (all []place, err error) {
	list, _ := seg.values[key].([]any)
	for ; len(list) >= 2; list = list[2:] {
		on, ok := list[0].(string)
		extent, ok2 := list[1].(int64)
		if !ok || !ok2 || extent < 0 || extent > 1<<62/o.group.extent {
			break
		}
		p := place{off: extent * o.group.extent}
		if physical, ok := o.group.volumes[on]; ok {
			if physical.img == nil {
				return nil, &MissingError{o.group.Name, []string{physical.String()}}
			}
			p.img, p.off = physical.img, p.off+physical.start
		} else if p.img, err = o.volume(on, level+1); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	if len(list) > 0 || len(all) == 0 {
		return nil, fsread.Corrupt(layer, "logical volume %s/%s: %s has no %s", o.group.Name, name, seg.name, key)
	}
	return all, nil
}
