package volume

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/holdfast-backup/holdfast/internal/kernel/dm"
	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
	"golang.org/x/sys/unix"
)

// defaultScratch is where much can be written, and not memory.
const defaultScratch = "/var/tmp"

// mapThrowAway makes two devices: the payload, read-only, and above it a snapshot
// that keeps changes on a loop device over a file without a name. The kernel frees both
// when the snapshot goes, so that no crash leaves anything behind but a mapping.
func (l *locked) mapThrowAway(ctx context.Context, m mapper, out Mapping, o MapOptions) error {
	cow, err := scratch(ctx, o, out.Size)
	if err != nil {
		return fmt.Errorf("room for what is thrown away: %w", err)
	}
	defer func() { _ = cow.Close() }() // the snapshot has it then
	base := out.Name + baseSuffix
	i, err := m.Create(ctx, base, newUUID(out.Since), linearTable(l.rdev, out.Header.Start(), out.Size), true)
	if err != nil {
		return l.explain(err)
	}
	table := snapshotTable(i.Device, unix.Mkdev(loop.Major, uint32(cow.Number())), out.Size)
	if _, err := m.Create(ctx, out.Name, newUUID(out.Since), table, false); err != nil {
		return errors.Join(err, m.Remove(context.WithoutCancel(ctx), base, removeWait))
	}
	return nil
}

// scratch is a loop device over a sparse file that has no name and goes with it.
func scratch(ctx context.Context, o MapOptions, size int64) (*loop.Device, error) {
	dir := o.ScratchDir
	if dir == "" {
		dir = defaultScratch
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("a file in %s: %w", dir, err)
	}
	f := os.NewFile(uintptr(fd), dir)
	defer func() { _ = f.Close() }() // the loop device has it then
	if o.ScratchSize > 0 {
		size = o.ScratchSize
	}
	const chunk = cowChunk * dm.Sector
	if err := f.Truncate((size+chunk-1)/chunk*chunk + chunk); err != nil {
		return nil, fmt.Errorf("a file of %d bytes in %s: %w", size, dir, err)
	}
	return loop.Attach(ctx, fd, loop.Options{Number: loop.AnyNumber, AutoClear: true})
}
