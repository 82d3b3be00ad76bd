// Package carry brings archives of guests from one storage of package provider
// to another, as what comes out of restoring them there would be backed up here.
//
// # Machines
//
// Disks are read as images and stored with their configs. If the archive before
// was carried too, and the source can tell what changed since ([Sincer]), only that
// is read: a chain of incremental disks is read once, however many archives it is.
//
// # Containers
//
// The tree is read from a directory. An archive that is a tar file is unpacked
// first, by GNU tar with all metadata, into a private directory; this needs root,
// and the room.
//
// # What is carried
//
// Guest, start, configs, contents, notes and protection. The log of the task
// stays behind. Archives that are at the target stay as they are there.
package carry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Sincer is a source that can tell what a disk has that it had not in an older
// archive of the guest: an image in which the rest is Unchanged, though it can be
// read.
type Sincer interface {
	// VolumeSince returns an error that wraps ErrNotSince if it cannot tell.
	VolumeSince(ctx context.Context, device string, base provider.Archive) (provider.Image, error)
}

// ErrNotSince is wrapped when a disk does not build on another one.
var ErrNotSince = errors.New("does not build on it")

// Options says how archives are carried.
type Options struct {
	// Scratch is a private directory for trees; "": containers cannot be carried.
	Scratch string
	Log     *slog.Logger
}

// Carrier carries the archives of any number of guests, those of each from old to
// new.
type Carrier struct {
	from, to provider.Storage
	o        Options
	last     map[provider.Guest]pair
}

// pair is an archive here and there.
type pair struct{ from, to provider.Archive }

// New makes a carrier.
func New(from, to provider.Storage, o Options) *Carrier {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Carrier{from, to, o, map[provider.Guest]pair{}}
}

// Outcome is what became of an archive.
type Outcome struct {
	To      provider.Archive
	Existed bool // it was there before
	Result  provider.Result
}

// Archive carries one archive.
func (c *Carrier) Archive(ctx context.Context, e provider.Entry) (Outcome, error) {
	out := Outcome{To: c.to.Archive(e.Guest, time.Unix(e.Start, 0))}
	_, err := c.to.Entry(ctx, out.To)
	switch {
	case err == nil:
		out.Existed = true
		c.last[e.Guest] = pair{e.Archive, out.To}
		return out, nil
	case !errors.Is(err, repo.ErrNotFound):
		return out, err
	}
	configs, err := c.from.Configs(ctx, e.Archive)
	if err != nil {
		return out, err
	}
	src, err := c.from.Open(ctx, e.Archive)
	if err != nil {
		return out, err
	}
	if e.Guest.Kind == provider.LXC {
		out.Result, err = c.container(ctx, src, out.To, configs)
	} else {
		out.Result, err = c.machine(ctx, src, out.To, configs)
	}
	if err = errors.Join(err, src.Close()); err != nil {
		return out, err
	}
	c.last[e.Guest] = pair{e.Archive, out.To}
	return out, c.attributes(ctx, e, out.To)
}

func (c *Carrier) attributes(ctx context.Context, e provider.Entry, to provider.Archive) error {
	if e.Notes != "" {
		if err := c.to.SetNotes(ctx, to, e.Notes); err != nil {
			return fmt.Errorf("notes of %s: %w", to.Name, err)
		}
	}
	if e.Protected {
		if err := c.to.SetProtected(ctx, to, true); err != nil {
			return fmt.Errorf("protection of %s: %w", to.Name, err)
		}
	}
	return nil
}

// machine carries the disks of a machine.
func (c *Carrier) machine(ctx context.Context, src provider.Source, to provider.Archive, configs provider.Configs) (_ provider.Result, err error) {
	vm := provider.VM{Configs: configs}
	var open []io.Closer
	defer func() {
		for _, o := range open {
			err = errors.Join(err, o.Close())
		}
	}()
	last, usable := c.base(ctx, to.Guest, src.Volumes())
	for _, v := range src.Volumes() {
		img, err := c.since(ctx, src, v.Device, last, usable[v.Device])
		if err != nil {
			return provider.Result{}, err
		}
		mode := provider.ModeReuse
		if img == nil {
			// What is carried next may build on it.
			mode = provider.ModeNew
			if img, err = src.Volume(ctx, v.Device); err != nil {
				return provider.Result{}, err
			}
		} else {
			vm.Base = last.to
		}
		open = append(open, img)
		vm.Volumes = append(vm.Volumes, provider.Volume{Device: v.Device, Image: img, Mode: mode})
	}
	return c.to.BackupVM(ctx, to, vm)
}

// base is the archive that was carried before, and which disks of it the target
// can build on.
func (c *Carrier) base(ctx context.Context, g provider.Guest, disks []provider.VolumeInfo) (pair, map[string]bool) {
	last, ok := c.last[g]
	if !ok {
		return last, nil
	}
	sizes := map[string]int64{}
	for _, d := range disks {
		sizes[d.Device] = d.Size
	}
	usable, err := c.to.Reusable(ctx, last.to, sizes)
	if err != nil {
		c.o.Log.Warn("everything is read", "backup", last.to.Name, "error", err)
		return last, nil
	}
	return last, usable
}

// since opens a disk as what changed, nil if that cannot be told.
func (c *Carrier) since(ctx context.Context, src provider.Source, device string, last pair, usable bool) (provider.Image, error) {
	s, ok := src.(Sincer)
	if !ok || !usable {
		return nil, nil
	}
	img, err := s.VolumeSince(ctx, device, last.from)
	if errors.Is(err, ErrNotSince) {
		return nil, nil
	}
	return img, err
}
