package mapping

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/kernel/fusemount"
	"github.com/holdfast-backup/holdfast/internal/kernel/holders"
	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
	"github.com/holdfast-backup/holdfast/internal/kernel/nbdattach"
)

// release takes away the devices and mounts that a dead daemon left, after a
// look that they are still the ones of the record. What is in use is a
// *BusyError, unless force is set: then it goes with its last user.
func release(ctx context.Context, r Record, force bool) error {
	switch r.Mode {
	case Loop:
		return releaseLoop(ctx, r, force)
	case NBD:
		return releaseNBD(ctx, r, force)
	case File:
		if r.Path == "" {
			return nil
		}
		on, err := fusemount.Mounted(r.Path)
		if err != nil || !on {
			return err
		}
		return fusemount.Unmount(ctx, r.Path, true) // nobody answers: its users have errors already
	case Socket:
	}
	return nil
}

func releaseLoop(ctx context.Context, r Record, force bool) error {
	if r.Loop == nil {
		return nil // not attached, or freed with the process's end
	}
	now, err := loop.Read(r.Loop.Number)
	if errors.Is(err, loop.ErrFree) || err == nil && !now.Same(*r.Loop) {
		return nil
	}
	if err != nil {
		return err
	}
	if !force {
		err := waitIdle(ctx, r, func() ([]holders.Holder, error) { return deviceUsers(r.Device) })
		if err != nil {
			return err
		}
	}
	lastResort(r)
	if force {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, probeTime)
		defer cancel()
	}
	err = loop.Clear(ctx, *r.Loop)
	if _, busy := errors.AsType[*loop.BusyError](err); busy && force {
		return nil
	}
	return err
}

// lastResort ends the FUSE connection of a process that cannot even die,
// because it waits for its own answers. The number names the same file system
// as long as the loop device is attached to it.
func lastResort(r Record) {
	if r.Loop == nil {
		return
	}
	if now, err := loop.Read(r.Loop.Number); err == nil && now.Same(*r.Loop) {
		_ = fusemount.Abort(r.FUSE)
	}
}

func releaseNBD(ctx context.Context, r Record, force bool) error {
	all, err := nbdattach.All()
	if err != nil {
		return err
	}
	for _, s := range all {
		ours := s.Identifier == identifier(r.ID)
		if s.Identifier == "" { // before Linux 5.14
			ours = r.Device == nbdattach.Path(s.Index) && s.PID == r.PID
		}
		if !ours {
			continue
		}
		// The server is dead for good, so its users are better off with errors
		// than waiting for it. The device is free when they have closed it.
		wait, cancel := context.WithTimeout(ctx, 2*probeTime)
		err := nbdattach.Disconnect(wait, s.Index)
		cancel()
		if errors.Is(err, nbdattach.ErrBusy) {
			if force {
				continue
			}
			r.Device = nbdattach.Path(s.Index)
			hs, _ := deviceUsers(r.Device)
			err = &BusyError{r, hs}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// foreign explains what is on a loop device that is not ours.
func foreign(which string, err error) error {
	n, e := loop.ParseNumber(which)
	if e != nil || strings.ContainsAny(which, ": ") {
		return err
	}
	s, e := loop.Read(n)
	switch {
	case errors.Is(e, loop.ErrFree):
		return fmt.Errorf("nothing is mapped on %s: %w", loop.Path(n), err)
	case e == nil:
		hs, _ := holders.OfDevice(loop.Path(n)[len("/dev/"):])
		return fmt.Errorf("%s is in use by something else (%q; %s): %w", loop.Path(n), s.Name, holders.Join(hs), err)
	}
	return err
}
