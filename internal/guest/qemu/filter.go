package qemu

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/guest"
)

// cbwTimeout is how long a write of the guest waits for the scratch file before
// the point breaks, in seconds: less than the minute after which Windows gives
// a disk up.
const cbwTimeout = 45

// holdFiltered puts a filter under each device while the guest stands still.
func (p *point) holdFiltered(ctx context.Context) error {
	for _, d := range p.drives {
		p.state.Drives = append(p.state.Drives, home{Device: d.Device, Node: d.Node, Filter: d.node(filterNode)})
	}
	p.state.Stopped = p.running
	if err := p.save(ctx); err != nil {
		return err
	}
	if p.running {
		if err := p.g.run(ctx, "stop", nil); err != nil {
			return err
		}
	}
	err := p.insertFilters(ctx)
	if p.running {
		// Whatever happened, and even if ctx has ended meanwhile.
		err = errors.Join(err, p.resume(context.WithoutCancel(ctx)))
	}
	if err != nil {
		return err
	}
	for i := range p.drives {
		d := &p.drives[i]
		d.access = d.node(accessNode)
		if err := p.g.run(ctx, "blockdev-add", obj{
			"driver": "snapshot-access", "node-name": d.access, "file": d.node(filterNode), "discard": "unmap",
		}); err != nil {
			return fmt.Errorf("disk %s: %w", d.Name, err)
		}
	}
	return nil
}

func (p *point) resume(ctx context.Context) error {
	if err := p.g.run(ctx, "cont", nil); err != nil {
		return fmt.Errorf("the guest is stopped and cannot be continued: %w", err)
	}
	p.state.Stopped = false
	return p.save(ctx)
}

func (p *point) insertFilters(ctx context.Context) error {
	if actions := p.bitmapActions(); len(actions) > 0 {
		if err := p.g.run(ctx, "transaction", obj{"actions": actions}); err != nil {
			return err
		}
	}
	for i := range p.drives {
		d := &p.drives[i]
		args := obj{
			"driver": "copy-before-write", "node-name": d.node(filterNode), "file": d.Node, "target": d.node(scratchNode),
			"on-cbw-error": "break-snapshot", "cbw-timeout": cbwTimeout, "discard": "unmap",
		}
		if d.mode == guest.Reuse {
			args["bitmap"] = obj{"node": d.Node, "name": incBitmap}
		}
		if err := p.g.run(ctx, "blockdev-add", args); err != nil {
			return fmt.Errorf("disk %s: %w", d.Name, err)
		}
		if err := p.g.run(ctx, "qom-set", obj{"path": d.Device, "property": "drive", "value": d.node(filterNode)}); err != nil {
			return fmt.Errorf("disk %s: %w", d.Name, err)
		}
	}
	return nil
}
