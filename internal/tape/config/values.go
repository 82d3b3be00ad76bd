package config

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/calendar"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/replicate"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// DriveConfig is a drive.
type DriveConfig struct {
	Name    string
	Virtual bool
	Path    string // of the device, serial:SERIAL, or the directory of a virtual drive
	Changer string // "": people serve the drive. A virtual drive serves itself
	Number  int    // in the changer
	MaxSize int64  // of a virtual medium, in bytes
}

// Online is the name under which the media that the drive can load by itself are
// online: that of its changer, or its own if it is virtual. "" for none.
func (d DriveConfig) Online() string {
	if d.Virtual {
		return d.Name
	}
	return d.Changer
}

// ChangerConfig is a changer.
type ChangerConfig struct {
	Name        string
	Path        string // of the device, or serial:SERIAL
	ExportSlots []int  // more slots for import and export than it says itself
	EjectFirst  bool   // drives have to eject before media are taken from them
}

// JobConfig is a backup to tape that runs by itself.
type JobConfig struct {
	ID               string
	Store            string
	Pool             string
	Drive            string
	Schedule         *calendar.Event // nil: only when it is asked for
	Namespace        names.Namespace
	Depth            int // levels of namespaces below; AllDepths: all
	Filters          replicate.Filters
	LatestOnly       bool
	Eject, Export    bool
	Workers          int
	NotifyUser       string
	NotificationMode string
	Comment          string
}

// AllDepths stands for namespaces of any depth.
const AllDepths = replicate.AllDepths

const maxSize = 64 << 20 // of a virtual medium that nothing is said about

// Drive returns a drive of either kind.
func (c Config) Drive(name string) (DriveConfig, error) {
	all, err := c.Drives()
	if err != nil {
		return DriveConfig{}, err
	}
	for _, d := range all {
		if d.Name == name {
			return d, nil
		}
	}
	return DriveConfig{}, fmt.Errorf("%s %.40q: %w", LTO, name, ErrNotFound)
}

// Drives returns all drives in the order of the file.
func (c Config) Drives() ([]DriveConfig, error) {
	f, _, err := c.load(kinds[LTO].file)
	if err != nil {
		return nil, err
	}
	var list []DriveConfig
	for _, sec := range f.Sections {
		var k Kind
		switch sec.Type {
		case kinds[LTO].section:
			k = LTO
		case kinds[Virtual].section:
			k = Virtual
		default:
			continue
		}
		d := DriveConfig{Name: sec.ID, Virtual: k == Virtual}
		err := sound(sec, k)
		if err != nil {
			return nil, err
		}
		d.Path, _ = sec.Get("path")
		d.Changer, _ = sec.Get("changer")
		n, err := sec.Int("changer-drivenum", 0)
		if err == nil {
			d.Number = int(n)
			d.MaxSize, err = sec.Int("max-size", maxSize)
		}
		if err != nil {
			return nil, told(sec, k, err)
		}
		list = append(list, d)
	}
	return list, nil
}

// Changer returns a changer.
func (c Config) Changer(name string) (ChangerConfig, error) {
	sec, _, err := c.Section(Changer, name)
	if err != nil {
		return ChangerConfig{}, err
	}
	return changerOf(sec)
}

// Changers returns all changers in the order of the file.
func (c Config) Changers() ([]ChangerConfig, error) { return all(c, Changer, changerOf) }

func changerOf(sec *sectionconfig.Section) (ChangerConfig, error) {
	if err := sound(sec, Changer); err != nil {
		return ChangerConfig{}, err
	}
	ch := ChangerConfig{Name: sec.ID}
	ch.Path, _ = sec.Get("path")
	text, _ := sec.Get("export-slots")
	var err error
	if ch.ExportSlots, err = parseSlots(text); err == nil {
		ch.EjectFirst, err = sec.Bool("eject-before-unload", false)
	}
	if err != nil {
		return ChangerConfig{}, told(sec, Changer, err)
	}
	return ch, nil
}

// Pool returns a pool.
func (c Config) Pool(name string) (media.Pool, error) {
	sec, _, err := c.Section(Pool, name)
	if err != nil {
		return media.Pool{}, err
	}
	return poolOf(sec)
}

// Pools returns all pools in the order of the file.
func (c Config) Pools() ([]media.Pool, error) { return all(c, Pool, poolOf) }

func poolOf(sec *sectionconfig.Section) (p media.Pool, err error) {
	if err := sound(sec, Pool); err != nil {
		return media.Pool{}, err
	}
	p.Name = sec.ID
	allocation, _ := sec.Get("allocation")
	retention, _ := sec.Get("retention")
	p.Template, _ = sec.Get("template")
	if p.Allocation, err = media.ParseAllocation(allocation); err == nil {
		p.Retention, err = media.ParseRetention(retention)
	}
	if key, ok := sec.Get("encrypt"); ok && err == nil {
		p.Key, err = chunkcrypt.ParseFingerprint(key)
	}
	if err != nil {
		return media.Pool{}, told(sec, Pool, err)
	}
	return p, nil
}

// Job returns a job.
func (c Config) Job(id string) (JobConfig, error) {
	sec, _, err := c.Section(Job, id)
	if err != nil {
		return JobConfig{}, err
	}
	return jobOf(sec)
}

// Jobs returns all jobs in the order of the file.
func (c Config) Jobs() ([]JobConfig, error) { return all(c, Job, jobOf) }

func jobOf(sec *sectionconfig.Section) (JobConfig, error) {
	if err := sound(sec, Job); err != nil {
		return JobConfig{}, err
	}
	text := func(key string) string { s, _ := sec.Get(key); return s }
	j := JobConfig{
		ID: sec.ID, Store: text("store"), Pool: text("pool"), Drive: text("drive"),
		NotifyUser: text("notify-user"), NotificationMode: text("notification-mode"), Comment: text("comment"),
	}
	var errs [8]error
	if s := text("schedule"); s != "" {
		e, err := calendar.Parse(s)
		j.Schedule, errs[0] = &e, err
	}
	j.Namespace, errs[1] = names.ParseNamespace(text("ns"))
	depth, err := sec.Int("max-depth", AllDepths)
	j.Depth, errs[2] = int(depth), err
	j.Filters, errs[3] = replicate.ParseFilters(sec.All("group-filter"))
	j.LatestOnly, errs[4] = sec.Bool("latest-only", false)
	j.Eject, errs[5] = sec.Bool("eject-media", false)
	j.Export, errs[6] = sec.Bool("export-media-set", false)
	workers, err := sec.Int("worker-threads", 1)
	j.Workers, errs[7] = int(workers), err
	if err := errors.Join(errs[:]...); err != nil {
		return JobConfig{}, told(sec, Job, err)
	}
	return j, nil
}

func all[T any](c Config, k Kind, of func(*sectionconfig.Section) (T, error)) ([]T, error) {
	secs, _, err := c.Sections(k)
	if err != nil {
		return nil, err
	}
	list := make([]T, len(secs))
	for i, sec := range secs {
		if list[i], err = of(sec); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// sound checks a section that somebody may have written by hand.
func sound(sec *sectionconfig.Section, k Kind) error {
	if err := property.Check(sec, Properties(k)); err != nil {
		return told(sec, k, err)
	}
	return checkName(k, sec.ID)
}

func told(sec *sectionconfig.Section, k Kind, err error) error {
	return fmt.Errorf("%s: %s %q: %w", kinds[k].file.Name, k, sec.ID, err)
}
