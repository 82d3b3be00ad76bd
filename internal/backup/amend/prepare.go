package amend

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// item is an archive of the base and what becomes of it.
type item struct {
	file    manifest.File
	content Overlay // nil: carried over
}

// prepare refuses what could only fail later.
func (p *Plan) prepare(base repo.Snapshot) ([]item, error) {
	m := base.Manifest()
	key := p.Options.Key
	switch {
	case len(p.Disks) == 0:
		return nil, errors.New("there is nothing to replace: name at least one disk image and its overlay")
	case key != nil:
		if err := fetch.CheckKey(base, key); err != nil {
			return nil, err
		}
	case m.Signed():
		return nil, fmt.Errorf("snapshot %s is signed, and so must be the new one: name the key file that belongs to it", p.Base)
	}
	replaced := map[names.Archive]Overlay{}
	for _, d := range p.Disks {
		if replaced[d.Name] != nil {
			return nil, fmt.Errorf("archive %s is named twice: one overlay replaces one image", d.Name)
		}
		if err := d.check(m, p.Base); err != nil {
			return nil, err
		}
		replaced[d.Name] = d.Content
	}
	var all []item
	for _, f := range m.Files {
		switch f.Archive().Kind() {
		case names.Blob:
		case names.Fidx:
			x, err := fetch.Open(base, f.Archive(), key)
			if err != nil {
				return nil, err
			}
			if err := x.Close(); err != nil {
				return nil, err
			}
		case names.Didx:
			x, err := fetch.OpenDynamic(base, f.Archive(), key)
			if err != nil {
				return nil, err
			}
			if err := x.Close(); err != nil {
				return nil, err
			}
		}
		all = append(all, item{file: f, content: replaced[f.Archive()]})
	}
	return all, nil
}

// check makes sure that the overlay lies over that archive.
func (d Disk) check(m *manifest.Manifest, base names.Snapshot) error {
	f, ok := m.File(string(d.Name))
	if !ok {
		return fmt.Errorf("snapshot %s has no archive %s: %w", base, d.Name, repo.ErrNotFound)
	}
	if d.Name.Kind() != names.Fidx {
		return fmt.Errorf("archive %s of %s is no disk image: only those have overlays", d.Name, base)
	}
	below := d.Content.Meta()
	if below.IndexSum != f.Csum || uint64(below.Size) != f.Size || d.Content.Size() != below.Size {
		return fmt.Errorf("the overlay for %s of %s was made over %s of %s in %s, which is not the same image: name the snapshot it was made over",
			d.Name, base, below.Archive, below.Snapshot.Path(), below.Repository)
	}
	return nil
}
