package direct

import (
	"slices"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/fsread/lvm"
)

// findGroups finds the volume groups of all images and arrays. A disk whose table
// cannot be read has none that could be found.
func (d *Driver) findGroups() []*lvm.Group {
	var all []*lvm.Volume
	for _, v := range d.inArrays(lvmMember) {
		if pv, err := lvm.Read(v.img); err == nil {
			all = append(all, pv)
		} else {
			d.notice(v.name, []string{err.Error()})
		}
	}
	groups, rest := lvm.Assemble(all)
	for _, err := range rest {
		d.notice("LVM", []string{err.Error()})
	}
	for _, g := range groups {
		d.notice("volume group "+g.Name, g.Notices)
	}
	return groups
}

// enterLVM is enter for volume groups.
func (d *Driver) enterLVM(base filerestore.Path, names []string) (next *volume, used int, entries []filerestore.Entry, err error) {
	groups := d.groups()
	if len(names) == 0 {
		for _, g := range groups {
			entries = append(entries, filerestore.Entry{Path: base.Join(g.Name), Type: filerestore.Dir, Note: plural(len(g.Logical), "volume")})
		}
		return nil, 0, entries, nil
	}
	i := slices.IndexFunc(groups, func(g *lvm.Group) bool { return g.Name == names[0] })
	if i < 0 {
		return nil, 0, nil, missing(base.Join(names[0]))
	}
	g := groups[i]
	if len(names) == 1 {
		for _, l := range g.Logical {
			e := filerestore.Entry{Path: base.Join(g.Name).Join(l.Name), Type: filerestore.Dir, Size: &l.Size}
			if k, err := d.openLogical(g, l.Name); err != nil {
				e.Note = err.Error()
			} else {
				e.Note = k.note()
			}
			entries = append(entries, e)
		}
		return nil, 0, entries, nil
	}
	if !slices.ContainsFunc(g.Logical, func(l lvm.Logical) bool { return l.Name == names[1] }) {
		return nil, 0, nil, missing(base.Join(names[0]).Join(names[1]))
	}
	next, err = d.openLogical(g, names[1])
	return next, 2, nil, err
}

func (d *Driver) openLogical(g *lvm.Group, name string) (*volume, error) {
	key := g.Name + "/" + name
	d.mu.Lock()
	v := d.logical[key]
	d.mu.Unlock()
	if v != nil {
		return v, nil
	}
	img, err := g.Open(name)
	if err != nil {
		return nil, err
	}
	v = newVolume(d, key, img)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logical[key] = v
	return v, nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
