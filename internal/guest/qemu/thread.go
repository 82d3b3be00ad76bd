package qemu

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// ErrThread is wrapped when a disk cannot be read without danger to the guest.
var ErrThread = errors.New("a disk is served by an I/O thread")

// threadsSince is the first major version of QEMU in which an NBD client may
// leave an export that runs in an I/O thread. Older ones end with a failed
// assertion then, and the guest with them (seen with 7.2.22).
const threadsSince = 9

// checkThreads refuses disks in I/O threads where that is a danger.
func (g *Guest) checkThreads(ctx context.Context, drives []drive) error {
	if g.qmp.Version().Major >= threadsSince {
		return nil
	}
	for _, d := range drives {
		device := strings.TrimSuffix(d.Device, backend)
		controller, err := g.controller(ctx, device)
		if err != nil {
			return err
		}
		for _, path := range []string{device, controller} {
			var thread string
			if path == "" {
				continue
			}
			if err := g.ask(ctx, "qom-get", obj{"path": path, "property": "iothread"}, &thread); err != nil {
				return err
			}
			if thread != "" {
				return fmt.Errorf("%w: %s, and QEMU %s may end when its backup does, with the guest: leave the disk out, start the guest without the thread, or with QEMU %d",
					ErrThread, d.Name, g.qmp.Version(), threadsSince)
			}
		}
	}
	return nil
}

// controller is the device whose bus a device is on, "" if that is none with
// an id: buses lie below their devices, .../ID/virtio-backend/ID.0
func (g *Guest) controller(ctx context.Context, device string) (string, error) {
	var bus string
	if err := g.ask(ctx, "qom-get", obj{"path": device, "property": "parent_bus"}, &bus); err != nil {
		return "", err
	}
	i := strings.LastIndexByte(bus, '/')
	if i < 0 || !strings.HasPrefix(bus, peripheral) {
		return "", nil
	}
	return strings.TrimSuffix(bus[:i], backend), nil
}
