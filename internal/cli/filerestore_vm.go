package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/daemon"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/filerestore/direct"
	"github.com/holdfast-backup/holdfast/internal/filerestore/vm"
	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// autoDriver has the restore machine answer what is not understood without it.
type autoDriver struct {
	*direct.Driver
	r *fileRestore

	mu      sync.Mutex
	machine filerestore.Driver
}

// fallBack opens the machine for what direct could not do because of why. Where there
// can be no machine, why is the error. An encrypted volume may have been opened in a machine
// that runs; none is started for it.
func (d *autoDriver) fallBack(ctx context.Context, why error) (filerestore.Driver, error) {
	_, unknown := errors.AsType[*fsread.UnsupportedError](why)
	if !unknown && !errors.Is(why, filerestore.ErrLocked) {
		return nil, why
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.machine != nil {
		return d.machine, nil
	}
	if !unknown && !d.r.hasMachine(ctx) {
		return nil, why
	}
	if err := vm.Possible(); err != nil {
		return nil, hint(why, "a restore machine could read it: %v", err)
	}
	d.r.say("%v: the restore machine answers", why)
	m, err := d.r.machine(ctx)
	if err != nil {
		return nil, err
	}
	d.machine = m
	return m, nil
}

func (d *autoDriver) List(ctx context.Context, p filerestore.Path) ([]filerestore.Entry, error) {
	all, err := d.Driver.List(ctx, p)
	if err == nil {
		return all, nil
	}
	m, err := d.fallBack(ctx, err)
	if err != nil {
		return nil, err
	}
	return m.List(ctx, p)
}

func (d *autoDriver) Open(ctx context.Context, p filerestore.Path, o filerestore.OpenOptions) (filerestore.Part, error) {
	part, err := d.Driver.Open(ctx, p, o)
	if err == nil {
		return part, nil
	}
	m, err := d.fallBack(ctx, err)
	if err != nil {
		return nil, err
	}
	return m.Open(ctx, p, o)
}

func (d *autoDriver) Notices() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.Driver.Notices()
	if d.machine != nil {
		all = append(all, d.machine.Notices()...)
	}
	return all
}

// machineName is that of the snapshot's machine.
func (r *fileRestore) machineName() (string, error) {
	where, err := r.identity()
	if err != nil {
		return "", err
	}
	n := r.snap.Name()
	ns := n.NS.String()
	n.NS = ""
	return vm.Name(where, ns, n.String()), nil
}

// hasMachine reports whether the snapshot's machine runs, as far as it can be seen.
func (r *fileRestore) hasMachine(ctx context.Context) bool {
	name, err := r.machineName()
	if err != nil {
		return false
	}
	all, err := vm.Names(ctx, "")
	return err == nil && slices.Contains(all, name)
}

// machine finds the snapshot's restore machine or has one started: this program runs once
// more, in the background, with the same arguments, and becomes [app.serveMachine].
func (r *fileRestore) machine(ctx context.Context) (filerestore.Driver, error) {
	if err := vm.Possible(); err != nil {
		return nil, explainMachine(err)
	}
	name, err := r.machineName()
	if err != nil {
		return nil, err
	}
	c, started, err := vm.Ensure(ctx, "", name, func(ctx context.Context) error {
		code, err := daemon.Background(ctx, r.descriptors(r.key)...)
		if err == nil {
			err = ended(code)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if started {
		st, err := c.Status(ctx, true)
		if err != nil {
			return nil, err
		}
		r.say("restore machine started in %.1f s (%s, kernel %s); it ends when unused for %v, or with 'holdfast file-restore stop'", st.Boot, st.Accel, st.Kernel, r.o.idle)
	}
	if err := r.unlockVolumes(ctx, c); err != nil {
		return nil, err
	}
	return c.Driver(), nil
}

// passphrase reads what opens encrypted volumes, if it is given. One line end behind it is
// none of it.
func (o fileRestoreOptions) passphrase() ([]byte, error) {
	if o.pass == "" {
		return nil, nil
	}
	in := io.Reader(os.Stdin)
	if o.pass != "-" {
		f, err := os.Open(o.pass)
		if err != nil {
			return nil, fmt.Errorf("--passphrase-file: %w", err)
		}
		defer f.Close()
		in = f
	}
	const most = 8 << 20 // a key file, as cryptsetup takes it
	pass, err := io.ReadAll(io.LimitReader(in, most))
	if err != nil {
		return nil, fmt.Errorf("--passphrase-file: %w", err)
	}
	return append([]byte{}, bytes.TrimSuffix(pass, []byte("\n"))...), nil
}

// unlockVolumes opens the machine's encrypted volumes with the passphrase that was given,
// if any.
func (r *fileRestore) unlockVolumes(ctx context.Context, c *vm.Client) error {
	pass, err := r.passphrase()
	if err != nil || pass == nil {
		return err
	}
	err = c.Unlock(ctx, r.path, pass)
	if errors.Is(err, filerestore.ErrPassphrase) {
		return usage(err)
	}
	return err
}

// serveMachine is the process in the background.
func (a *app) serveMachine(ctx context.Context, o fileRestoreOptions, child *daemon.Child) error {
	return a.withFileRestore(ctx, o, func(r *fileRestore, _ filerestore.Path) error {
		name, err := r.machineName()
		if err != nil {
			return err
		}
		opened, err := r.disks(ctx)
		if err != nil {
			return err
		}
		var disks []vm.Disk
		for _, d := range opened {
			disks = append(disks, vm.Disk{Archive: string(d.name), Image: d.image})
		}
		self, err := vm.For("")
		if err != nil {
			return err
		}
		done := func() {}
		defer func() { done() }()
		err = vm.Serve(ctx, name, disks, vm.Options{
			Appliance: self, Idle: o.idle, Log: a.log(),
			Ready: func() (err error) {
				done, err = a.toBackground(child, "file-restore")
				return err
			},
		})
		return explainMachine(err)
	})
}
