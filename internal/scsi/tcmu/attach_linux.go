package tcmu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
)

// Attached are units that the kernel shows as devices of this machine.
type Attached struct {
	name     string
	backends []*backend
	address  string // of the target on its host adapter, as 2:0:1

	end    sync.Once
	gone   chan struct{} // closed by the first who stops serving
	closed bool
}

// Attach makes devices of units: unit I is logical unit I of one target. The
// name is of letters, digits, '-' and '_', and no other attachment on this
// machine has it. It needs root.
func Attach(name string, units []target.Unit) (a *Attached, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make devices of %s: %w", name, err)
		}
	}()
	if err := checkName(name); err != nil {
		return nil, err
	}
	if len(units) == 0 || len(units) > mostUnits {
		return nil, fmt.Errorf("%d units, 1 to %d are possible", len(units), mostUnits)
	}
	if err := available(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(fabricDir(name)); err == nil {
		return nil, ErrServed
	}
	a = &Attached{name: name, gone: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	core, err := makeCore()
	if err != nil {
		return nil, err
	}
	for i, u := range units {
		b, err := makeBackend(core, name, i)
		if err != nil {
			_ = os.Remove(core) // if it is empty, nobody else takes it away
			return nil, err
		}
		a.backends = append(a.backends, b)
		if err := b.serve(u, func() { a.end.Do(func() { close(a.gone) }) }); err != nil {
			return nil, err
		}
	}
	a.address, err = makeFabric(name, a.backends)
	return a, err
}

// Nodes are the devices, unit 0 first.
func (a *Attached) Nodes() ([]scsi.Found, error) {
	all, err := scsi.Discover(os.DirFS("/sys"), os.DirFS("/dev"))
	if err != nil {
		return nil, err
	}
	nodes := make([]scsi.Found, len(a.backends))
	for i := range nodes {
		address := fmt.Sprintf("%s:%d", a.address, i)
		for _, f := range all {
			if f.Address == address {
				nodes[i] = f
			}
		}
		if nodes[i].Generic == "" {
			return nil, fmt.Errorf("unit %d of %s has no generic node (the module sg may be missing)", i, a.name)
		}
	}
	return nodes, nil
}

// Wait returns when the context ends, nil, or when a unit cannot be served any
// more, with the reason.
func (a *Attached) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.gone:
	}
	for _, b := range a.backends {
		select {
		case <-b.done:
			return fmt.Errorf("serve %s: %w", b.dir, b.err)
		default:
		}
	}
	return nil
}

// Close takes the devices away, also from under those who have them open; the
// commands that run end before.
func (a *Attached) Close() error {
	if a.closed {
		return nil
	}
	a.closed = true
	// The units are still served here: drivers that let go may send commands.
	errs := []error{removeFabric(a.name)}
	var cores []string
	for _, b := range a.backends {
		errs = append(errs, b.close())
		if core := filepath.Dir(b.dir); len(cores) == 0 || cores[len(cores)-1] != core {
			cores = append(cores, core)
		}
	}
	for _, c := range cores {
		errs = append(errs, removeDir(c))
	}
	return errors.Join(errs...)
}

// Remove takes away what a process left that died while it served devices of
// this name; nothing may be there. Commands that wait for an answer get an
// error. ErrServed: the process lives.
func Remove(name string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("remove devices of %s: %w", name, err)
		}
	}()
	if err := checkName(name); err != nil {
		return err
	}
	dirs, err := backendsOf(name)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if served(d) {
			return ErrServed
		}
	}
	for _, d := range dirs {
		// Whoever waits would keep the fabric from going away.
		if err := os.WriteFile(filepath.Join(d, "action", "reset_ring"), []byte("2"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	errs := []error{removeFabric(name)}
	for _, d := range dirs {
		errs = append(errs, removeDir(d), ignore(removeDir(filepath.Dir(d)), unix.ENOTEMPTY))
	}
	return errors.Join(errs...)
}

// ignore drops one error.
func ignore(err, which error) error {
	if errors.Is(err, which) {
		return nil
	}
	return err
}
