package qemu

import (
	"context"
	"fmt"
)

// method chooses a way that this QEMU can go with all its disks. reserve is set
// when scratch files must have all their space beforehand.
func (g *Guest) method(ctx context.Context, drives []drive) (m Method, reserve bool, err error) {
	s, err := g.qmp.Schema(ctx)
	if err != nil {
		return 0, false, err
	}
	filter := "" // why not
	switch {
	case !s.Has("blockdev-add", "+copy-before-write", "on-cbw-error"), !s.Has("blockdev-add", "+snapshot-access"):
		filter = fmt.Sprintf("QEMU %s has no filters that protect the guest: they came with 7.1", g.qmp.Version())
	default:
		filter = g.cannotExchange(ctx, drives)
	}
	reserve = !s.Has("blockdev-backup", "on-cbw-error")
	switch {
	case g.opts.Method == Filter && filter != "":
		return 0, false, fmt.Errorf("method filter: %s", filter)
	case g.opts.Method == Job, filter != "":
		if reserve && g.opts.ScratchLimit > 0 && sum(drives) > g.opts.ScratchLimit {
			return 0, false, fmt.Errorf("%w: method job of QEMU %s needs scratch files as large as the disks, %d bytes, and %d are allowed",
				ErrScratch, g.qmp.Version(), sum(drives), g.opts.ScratchLimit)
		}
		return Job, reserve, nil
	}
	return Filter, false, nil
}

func sum(drives []drive) (n int64) {
	for _, d := range drives {
		n += d.Size
	}
	return n
}

// cannotExchange says which device has a drive that cannot be exchanged.
func (g *Guest) cannotExchange(ctx context.Context, drives []drive) string {
	for _, d := range drives {
		var now string
		if err := g.qmp.Run(ctx, "qom-get", obj{"path": d.Device, "property": "drive"}, &now); err != nil {
			return fmt.Sprintf("the drive of %s cannot be exchanged: %v", d.Device, err)
		}
	}
	return ""
}
