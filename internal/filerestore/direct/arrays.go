package direct

import (
	"errors"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/md"
)

// array is an array, and its content or why there is none.
type array struct {
	*md.Array
	volume *volume
	err    error
}

// arrays are what was found. refused is a member that is not understood: there may be
// further arrays.
type arrays struct {
	all     []array
	refused error
}

// maxLevels is how deep arrays may lie in each other.
const maxLevels = 3

// findArrays puts the arrays of all images together, and those on arrays.
func (d *Driver) findArrays() (found arrays) {
	from := d.disks
	for range maxLevels {
		var members []*md.Member
		for _, k := range from {
			for _, v := range k.members(raidMember) {
				m, err := md.Read(v.img)
				if _, unknown := errors.AsType[*fsread.UnsupportedError](err); unknown {
					found.refused = err
				}
				if err != nil {
					d.notice(v.name, []string{err.Error()})
					continue
				}
				members = append(members, m)
			}
		}
		from = nil
		for _, a := range md.Assemble(members) {
			if _, taken := found.named(a.Name); taken {
				a.Name = a.UUID
			}
			d.notice("array "+a.Name, a.Notices)
			k := array{Array: a}
			img, err := a.Open()
			if k.err = err; err == nil {
				k.volume = newVolume(d, "md/"+a.Name, img)
				from = append(from, k.volume)
			}
			found.all = append(found.all, k)
		}
	}
	return found
}

func (a arrays) named(name string) (array, bool) {
	i := slices.IndexFunc(a.all, func(k array) bool { return k.Name == name })
	if i < 0 {
		return array{}, false
	}
	return a.all[i], true
}

// behindArrays reports whether a volume has members of arrays and an array members of
// volume groups.
func (d *Driver) behindArrays(v *volume) bool {
	return len(v.members(raidMember)) > 0 && slices.ContainsFunc(d.arrays().all, func(a array) bool {
		return a.volume != nil && len(a.volume.members(lvmMember)) > 0
	})
}

// enterMD is enter for arrays.
func (d *Driver) enterMD(base filerestore.Path, names []string) (next *volume, used int, entries []filerestore.Entry, err error) {
	found := d.arrays()
	if len(names) > 0 {
		a, ok := found.named(names[0])
		switch {
		case ok:
			return a.volume, 1, nil, a.err
		case found.refused != nil:
			return nil, 0, nil, found.refused
		}
		return nil, 0, nil, missing(base.Join(names[0]))
	}
	if found.refused != nil {
		return nil, 0, nil, found.refused
	}
	for _, a := range found.all {
		e := filerestore.Entry{Path: base.Join(a.Name), Type: filerestore.Dir}
		if a.err != nil {
			e.Note = a.err.Error()
		} else {
			size := a.volume.img.Size()
			e.Size, e.Note = &size, a.volume.note()
		}
		entries = append(entries, e)
	}
	return nil, 0, entries, nil
}
