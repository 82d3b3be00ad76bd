package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-backup/holdfast/internal/kernel/dm"
	"github.com/holdfast-backup/holdfast/internal/kernel/holders"
)

// ErrNotMapped is wrapped when no mapped volume is what was named.
var ErrNotMapped = errors.New("no mapped volume")

// UnmapOptions says how a mapping is taken away. The zero value is useful.
type UnmapOptions struct {
	Options
	Prefix string // of the names; empty: DefaultPrefix
}

// removeWait is longer than udev has a new device open.
const removeWait = 3 * time.Second

// Unmap takes a mapping away: its name, its node, or the device below it. One that
// is open stays, and is a *BusyError. What is no volume is not touched.
func Unmap(ctx context.Context, which string, o UnmapOptions) (Mapping, error) {
	m, err := openMapper()
	if err != nil {
		return Mapping{}, err
	}
	defer func() { _ = m.Close() }()
	list, notices, err := newLister(m).list(prefixOr(o.Prefix))
	if err != nil {
		return Mapping{}, err
	}
	found, err := find(list, notices, which, prefixOr(o.Prefix))
	if err != nil {
		return Mapping{}, err
	}
	if found.Device != "" {
		l, err := lock(ctx, found.Device, o.Options)
		if err != nil {
			return Mapping{}, err
		}
		defer l.close()
	}
	return found, remove(ctx, m, found)
}

// find chooses what a person named.
func find(list []Mapping, notices []error, which, prefix string) (Mapping, error) {
	node := which
	if path, err := filepath.EvalSymlinks(which); err == nil {
		node = path
	}
	for _, m := range list {
		if m.Name == which || m.Node == which || m.Device == node || same(m.Node, which) {
			return m, nil
		}
	}
	err := fmt.Errorf("%s: %w has this name or is on this device; names begin with %s", which, ErrNotMapped, prefix)
	return Mapping{}, errors.Join(append([]error{err}, notices...)...)
}

// same reports whether two paths are one node, as /dev/dm-0 and a link to it.
func same(a, b string) bool {
	x, err := os.Stat(a)
	y, berr := os.Stat(b)
	return err == nil && berr == nil && os.SameFile(x, y)
}

// remove removes the devices of a mapping, from the top.
func remove(ctx context.Context, m mapper, found Mapping) error {
	names := []string{found.Name}
	if found.ThrowAway {
		names = append(names, found.Name+baseSuffix)
	}
	for i, name := range names {
		err := m.Remove(ctx, name, removeWait)
		switch {
		case errors.Is(err, dm.ErrBusy):
			return busyMapping(m, found.Node, name)
		case i > 0 && errors.Is(err, dm.ErrNotFound):
		case err != nil:
			return err
		}
	}
	return nil
}

// busyMapping says who has a mapped device open.
func busyMapping(m mapper, node, name string) error {
	b := &BusyError{Path: node}
	if i, err := m.Info(name); err == nil {
		b.Holders, _ = holders.OfDevice(kernelName(i.Device)) // what cannot be seen is not said
	}
	return b
}
