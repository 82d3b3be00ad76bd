package volume

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/kernel/dm"
)

// List returns the mapped volumes whose names begin with prefix (empty: DefaultPrefix),
// sorted by name. One is a volume if we made it, or if its table is one target that
// begins where the header below says that the payload does. What may be one and could not
// be looked at is in notices, and what is none is in neither.
func List(prefix string) (list []Mapping, notices []error, err error) {
	m, err := openMapper()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = m.Close() }()
	return newLister(m).list(prefixOr(prefix))
}

// lister is a place where device-mapper devices are looked at.
type lister struct {
	mapper
	node func(dev uint64) (string, error)
	read func(path string, dev uint64) (Info, error)
}

func newLister(m mapper) *lister {
	return &lister{m, func(dev uint64) (string, error) { return nodeOf("/sys", dev) }, readAt}
}

func (l *lister) list(prefix string) (list []Mapping, notices []error, err error) {
	all, err := l.List()
	if err != nil {
		return nil, nil, err
	}
	tops := map[string]bool{}
	for _, n := range all {
		if !strings.HasPrefix(n.Name, prefix) {
			continue
		}
		m, ok, err := l.look(n.Name, all)
		switch {
		case errors.Is(err, dm.ErrNotFound): // it went meanwhile
		case err != nil:
			notices = append(notices, fmt.Errorf("%s is left out: %w", n.Name, err))
		case ok:
			list = append(list, m)
			tops[m.Name] = m.ThrowAway
		}
	}
	list = slices.DeleteFunc(list, func(m Mapping) bool { // what lies below another one
		top, ok := strings.CutSuffix(m.Name, baseSuffix)
		return ok && tops[top]
	})
	slices.SortFunc(list, func(a, b Mapping) int { return strings.Compare(a.Name, b.Name) })
	return list, notices, nil
}

// look describes one device; ok is false if it is no volume.
func (l *lister) look(name string, all []dm.Named) (m Mapping, ok bool, err error) {
	info, err := l.Info(name)
	if err != nil {
		return Mapping{}, false, err
	}
	table, err := l.Table(name)
	if err != nil {
		return Mapping{}, false, err
	}
	since, ours := parseUUID(info.UUID)
	m = Mapping{Name: name, Node: dm.Path(name), ReadOnly: info.ReadOnly, Since: since}
	if base, ok := parseSnapshot(table); ok && ours {
		m.ThrowAway = true
		if table, err = l.below(base, all); err == nil {
			err = l.hasRoom(name)
		}
		if err != nil {
			m.Trouble = err
			return m, true, nil
		}
	}
	dev, start, size, ok := parseLinear(table)
	if !ok {
		return Mapping{}, false, nil
	}
	m.Size = size
	if m.Trouble = l.header(&m, dev, start); m.Trouble == nil || ours {
		return m, true, nil
	}
	if errors.Is(m.Trouble, volumeheader.ErrNone) || errors.Is(m.Trouble, errElsewhere) {
		return Mapping{}, false, nil
	}
	return Mapping{}, false, m.Trouble
}

// hasRoom reports whether a throw-away mapping still works.
func (l *lister) hasRoom(name string) error {
	status, err := l.Status(name)
	if err != nil {
		return err
	}
	// Numbers of sectors while it works, words when it does not.
	if len(status) == 1 && !strings.Contains(status[0].Params, "/") {
		return fmt.Errorf("there was no room for what was written (%s), and nothing can be read from it any more: unmap it", status[0].Params)
	}
	return nil
}

// below is the table of the device under a snapshot.
func (l *lister) below(dev uint64, all []dm.Named) ([]dm.Target, error) {
	for _, n := range all {
		if n.Device == dev {
			return l.Table(n.Name)
		}
	}
	return nil, fmt.Errorf("the device %s below it is gone", devText(dev))
}

var errElsewhere = errors.New("the payload of the volume begins elsewhere")

// header finds and reads the device below.
func (l *lister) header(m *Mapping, dev uint64, start int64) error {
	node, err := l.node(dev)
	if err != nil {
		return err
	}
	i, err := l.read(node, dev)
	if err != nil {
		return err
	}
	if i.Header.Start() != start {
		return fmt.Errorf("%s: %w: at byte %d, and not at %d", node, errElsewhere, i.Header.Start(), start)
	}
	m.Device, m.Header = i.Device, i.Header
	return nil
}
