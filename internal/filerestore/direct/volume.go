package direct

import (
	"fmt"
	"strings"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/detect"
	"github.com/holdfast-backup/holdfast/internal/fsread/ptable"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// What detect calls physical volumes, members of arrays and encrypted volumes.
const (
	lvmMember  = "LVM2_member"
	raidMember = "linux_raid_member"
	luksVolume = "crypto_LUKS"
)

// volume is an image, or a part of one, and what is on it.
type volume struct {
	d      *Driver
	name   string
	img    image.Image
	number int    // of a partition
	label  string // its name in the table

	look       func() (detect.Finding, error)
	open       func() (fsread.FS, error)
	partitions func() ([]*volume, error)
	clear      func() (*volume, error) // the volume itself, or what an encrypted one holds
}

func newVolume(d *Driver, name string, img image.Image) *volume {
	v := &volume{d: d, name: name, img: img}
	v.look = sync.OnceValues(func() (detect.Finding, error) { return detect.Look(img) })
	v.open = sync.OnceValues(v.openFS)
	v.partitions = sync.OnceValues(v.readTable)
	v.clear = sync.OnceValues(v.unlock)
	return v
}

func (v *volume) openFS() (fsread.FS, error) {
	f, err := v.look()
	if err != nil {
		return nil, err
	}
	opened, err := v.openFound(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.name, err)
	}
	v.d.notice(v.name, opened.About().Notices)
	return opened, nil
}

func (v *volume) readTable() ([]*volume, error) {
	t, err := ptable.Read(v.img)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.name, err)
	}
	v.d.notice(v.name, t.Notices)
	var all []*volume
	for _, p := range t.Partitions {
		img, err := p.Image(v.img)
		if err != nil {
			return nil, fmt.Errorf("%s: partition %d: %w", v.name, p.Number, err)
		}
		k := newVolume(v.d, fmt.Sprintf("%s/part/%d", v.name, p.Number), img)
		k.number, k.label = p.Number, p.Name
		all = append(all, k)
	}
	return all, nil
}

// members are the members of a kind, such as the physical volumes of LVM, that v is itself
// or has as partitions. What cannot be unlocked or read has none.
func (v *volume) members(kind string) (all []*volume) {
	v, err := v.clear()
	if err != nil {
		return nil
	}
	f, err := v.look()
	switch {
	case err != nil:
	case f.Type == kind:
		return []*volume{v}
	case f.Class == detect.Table:
		parts, err := v.partitions()
		if err != nil {
			return nil
		}
		for _, p := range parts {
			if p, err = p.clear(); err != nil {
				continue
			}
			if f, err := p.look(); err == nil && f.Type == kind {
				all = append(all, p)
			}
		}
	}
	return all
}

// note says what is on a volume, as far as it is known without a mistake.
func (v *volume) note() string {
	f, err := v.look()
	if err != nil {
		return err.Error()
	}
	var parts []string
	switch f.Class {
	case detect.Nothing:
		parts = append(parts, "nothing that is known")
	case detect.FileSystem:
		parts = append(parts, f.Type)
		if opened, err := v.open(); err == nil {
			about := opened.About()
			parts[0] = about.Type
			if about.Label != "" {
				parts = append(parts, "label "+about.Label)
			}
		}
	default:
		parts = append(parts, f.Type)
		if held, err := v.clear(); err == nil && held != v {
			parts = append(parts, held.note())
		}
	}
	if v.label != "" {
		parts = append(parts, "partition "+v.label)
	}
	return strings.Join(parts, ", ")
}
