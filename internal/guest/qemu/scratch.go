package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// newScratch makes the scratch file of a disk, which takes what the guest
// overwrites, and the block node name over it.
func (p *point) newScratch(ctx context.Context, d *drive, name string, size int64) (err error) {
	f, err := openScratch(p.g.opts.scratchDir())
	if err != nil {
		return err
	}
	d.scratch = f // closed with the point
	if size > 0 {
		if err := f.Truncate(size); err != nil {
			return fmt.Errorf("scratch file: %w", err)
		}
	}
	if !p.running {
		// QEMU gives descriptors back only while the guest runs. As long as it
		// does not, QEMU opens the file itself, if it may.
		own := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
		if p.addFile(ctx, name, own) == nil {
			return nil
		}
	}
	var set struct {
		ID int64 `json:"fdset-id"`
	}
	if err := p.g.qmp.RunWith(ctx, f, "add-fd", obj{"opaque": stateID}, &set); err != nil {
		return err
	}
	err = p.addFile(ctx, name, fmt.Sprintf("/dev/fdset/%d", set.ID))
	return errors.Join(err, p.g.run(ctx, "remove-fd", obj{"fdset-id": set.ID}))
}

func (p *point) addFile(ctx context.Context, name, path string) error {
	return p.g.run(ctx, "blockdev-add", obj{
		"driver": "file", "node-name": name, "filename": path, "discard": "unmap", "locking": "off",
	})
}

func (o *Options) scratchDir() string {
	if o.ScratchDir != "" {
		return o.ScratchDir
	}
	return os.TempDir()
}

// dropScratch closes the scratch files. unused is set when QEMU uses them no
// more: then their space is freed, even where QEMU still has a descriptor.
// Otherwise the guest's next write may need what is in them.
func (p *point) dropScratch(unused bool) error {
	var errs []error
	for _, d := range p.drives {
		if d.scratch == nil {
			continue
		}
		if unused {
			errs = append(errs, d.scratch.Truncate(0))
		}
		errs = append(errs, d.scratch.Close())
	}
	return errors.Join(errs...)
}

// watchEvery is how often the size of scratch files is looked at.
const watchEvery = time.Second / 4

// watch breaks the point when QEMU goes away or the scratch files grow too
// large. It ends with ctx.
func (p *point) watch(ctx context.Context, give func(error)) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.g.qmp.Done():
			give(ErrGone)
			return
		case <-t.C:
			if err := p.tooLarge(); err != nil {
				give(err)
				return
			}
		}
	}
}

func (p *point) tooLarge() error {
	if p.g.opts.ScratchLimit <= 0 || p.reserved {
		return nil
	}
	var sum int64
	for _, d := range p.drives {
		n, err := taken(d.scratch)
		if err != nil {
			return err
		}
		sum += n
	}
	if sum > p.g.opts.ScratchLimit {
		return fmt.Errorf("%w: %d bytes of %d: the guest overwrote too much during the backup", ErrScratch, sum, p.g.opts.ScratchLimit)
	}
	return nil
}
