package mapping

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusefile"
	"github.com/holdfast-backup/holdfast/internal/kernel/holders"
	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
)

// looped is mode loop.
type looped struct {
	file *fusefile.File
	dev  *loop.Device
	was  loop.Status
	img  image.Image
	free bool // the device is detached
}

func (m *Mapping) attachLoop(ctx context.Context) (_ backend, err error) {
	number := loop.AnyNumber
	if m.spec.Device != "" {
		if number, err = loop.ParseNumber(m.spec.Device); err != nil {
			return nil, err
		}
	}
	b := &looped{img: m.spec.Image}
	b.file, err = fusefile.Anonymous(b.img, fusefile.Options{
		Name: m.rec.Name, ReadOnly: m.rec.ReadOnly, Dir: m.dir, Log: m.spec.Log,
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
			defer cancel()
			err = errors.Join(err, b.end(clean, true))
		}
	}()
	m.rec.FUSE = b.file.Device()
	if err := m.note("fuse"); err != nil {
		return nil, err
	}
	fd, err := b.file.Open()
	if err != nil {
		return nil, err
	}
	b.dev, err = loop.Attach(ctx, fd, loop.Options{
		Number: number, ReadOnly: m.rec.ReadOnly, AutoClear: true, PartScan: !m.spec.NoPartitions, DirectIO: true,
		ReadAhead: ReadAhead, Name: "holdfast " + m.rec.ID,
	})
	_ = unix.Close(fd) // the device holds the file now
	b.file.Release()
	if err != nil {
		return nil, err
	}
	m.spec.stage("attached")
	if b.was, err = b.dev.Status(); err != nil {
		return nil, err
	}
	m.rec.Device, m.rec.Loop = b.dev.Path(), &b.was
	return b, m.note("loop")
}

func (b *looped) holders() ([]holders.Holder, error) { return deviceUsers(b.dev.Path()) }

func (b *looped) counters() Counters { return fileCounters(b.file) }

func fileCounters(f *fusefile.File) Counters {
	c := f.Counters()
	return Counters{Reads: c.Reads, ReadBytes: c.ReadBytes, Writes: c.Writes, WriteBytes: c.WriteBytes, Errors: c.Errors}
}

func (b *looped) done() <-chan struct{} { return b.file.Done() }

func (*looped) err() error { return errors.New("the FUSE connection was ended from outside") }

// end detaches the device while the file is still served: its last close
// writes what is in its cache.
func (b *looped) end(ctx context.Context, force bool) error {
	if b.dev != nil && !b.free {
		if !b.was.ReadOnly && b.dev.FD() >= 0 {
			if err := unix.Fsync(b.dev.FD()); err != nil && !force {
				return fmt.Errorf("write back %s: %w", b.dev.Path(), err)
			}
		}
		wait := ctx
		if force { // a user elsewhere may keep it for ever
			var cancel context.CancelFunc
			wait, cancel = context.WithTimeout(ctx, probeTime)
			defer cancel()
		}
		err := b.dev.Detach(wait, b.was)
		if _, busy := errors.AsType[*loop.BusyError](err); err != nil && (!busy || !force) {
			return err
		}
		b.free = true
	}
	if d, ok := b.img.(image.Device); ok && !b.was.ReadOnly {
		if err := d.Flush(); err != nil && !force {
			return fmt.Errorf("make what was written durable: %w", err)
		}
	}
	return b.file.Close(ctx)
}

// deviceUsers are the users of a block device besides this process.
func deviceUsers(node string) ([]holders.Holder, error) {
	hs, err := holders.OfDevice(node[len("/dev/"):], os.Getpid())
	if err != nil || len(hs) > 0 {
		return hs, err
	}
	claimed, err := holders.Claimed(node)
	if err != nil || !claimed {
		return nil, err
	}
	return []holders.Holder{{Node: node}}, nil
}
