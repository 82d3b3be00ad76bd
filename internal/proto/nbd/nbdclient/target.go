package nbdclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// Target is an export that an image is restored onto. It can be read, to
// compare it with what it should become. Nothing marks a restore that stops in
// between: the export then holds a mixture of old and new.
type Target struct {
	im    *Image
	size  int64 // of the image
	fresh bool

	edge     sync.Mutex // held while blocks are read, changed and written
	noZeroes atomic.Bool
	done     atomic.Bool
}

var (
	_ image.Target   = (*Target)(nil)
	_ image.Ordered  = (*Target)(nil)
	_ image.Image    = (*Target)(nil)
	_ image.Extenter = (*Target)(nil)
)

// zeros are written where the server knows no WRITE_ZEROES; never changed.
var zeros [128 << 10]byte

// OpenTarget opens an export for writing, see Options.Size and Options.Fresh.
// ctx is that of the target's whole life.
func OpenTarget(ctx context.Context, u nbd.URI, o Options) (*Target, error) {
	c, err := dial(ctx, u, o)
	if err != nil {
		return nil, fmt.Errorf("cannot restore onto %w", err)
	}
	t := &Target{im: newImage(c), size: c.opts.Size, fresh: c.opts.Fresh}
	switch {
	case c.base.flags&nbd.ReadOnly != 0:
		err = errors.New("the export is read-only")
	case c.base.size < t.size:
		err = fmt.Errorf("the export has %d bytes and the image has %d: take one that is at least as large", c.base.size, t.size)
	}
	if err != nil {
		_ = c.close()
		return nil, fmt.Errorf("cannot restore onto %s: %w", c.name, err)
	}
	if t.size == 0 {
		t.size = c.base.size
	}
	t.noZeroes.Store(c.base.flags&nbd.SendWriteZeroes == 0)
	return t, nil
}

// Size is the length of the image in bytes.
func (t *Target) Size() int64 { return t.size }

// Export is the size of the whole export.
func (t *Target) Export() int64 { return t.im.Size() }

// Fresh is what the caller said.
func (t *Target) Fresh() bool { return t.fresh }

// Sequential is false: writes come in any order.
func (t *Target) Sequential() bool { return false }

// ReadAt reads what the export holds now.
func (t *Target) ReadAt(p []byte, off int64) (int, error) {
	return t.im.readAt(p, off, t.size, false)
}

// ExtentAt tells where the export reads as zeros.
func (t *Target) ExtentAt(off int64) (image.Extent, error) {
	s, err := image.NewSection(t.im, 0, t.size)
	if err != nil {
		return image.Extent{}, err
	}
	return s.ExtentAt(off)
}

// WriteAt writes p at off, which must lie within the image.
func (t *Target) WriteAt(p []byte, off int64) (int, error) {
	n := int64(len(p))
	if err := t.check(off, n); err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, nil
	}
	if err := t.write(p, off); err != nil {
		return 0, fmt.Errorf("%s: write %d bytes at offset %d: %w", t.im.c.name, n, off, err)
	}
	return len(p), nil
}

// Zero makes [off, off+n) read as zeros, without taking space where the server
// can do that.
func (t *Target) Zero(off, n int64) error {
	if err := t.check(off, n); err != nil {
		return err
	}
	if err := t.zero(off, off+n); err != nil {
		return fmt.Errorf("%s: write zeros to %d bytes at offset %d: %w", t.im.c.name, n, off, err)
	}
	return nil
}

func (t *Target) check(off, n int64) error {
	if off < 0 || n < 0 || off > t.size-n {
		return fmt.Errorf("%s: write of %d bytes at offset %d exceeds the image's %d bytes", t.im.c.name, n, off, t.size)
	}
	if t.done.Load() {
		return fmt.Errorf("%s: the restore was finished before", t.im.c.name)
	}
	return nil
}

// write cuts p into whole blocks and what is left at the edges.
func (t *Target) write(p []byte, off int64) error {
	im := t.im
	defer im.known.forget(im.around(off, off+int64(len(p))))
	from, to := im.within(off, off+int64(len(p)))
	if from == to || from >= off+int64(len(p)) {
		return t.patch(p, off)
	}
	if from > off {
		if err := t.patch(p[:from-off], off); err != nil {
			return err
		}
	}
	if err := t.blocks(p[from-off:to-off], from); err != nil {
		return err
	}
	if rest := p[to-off:]; len(rest) > 0 {
		return t.patch(rest, to)
	}
	return nil
}

// blocks writes whole blocks, with all requests in flight.
func (t *Target) blocks(p []byte, off int64) error {
	var calls []*call
	for at, end := off, off+int64(len(p)); at < end; {
		next := min((at/t.im.request+1)*t.im.request, end)
		calls = append(calls, t.call(nbd.CmdWrite, at, next-at, p[at-off:next-off]))
		at = next
	}
	return t.run(calls)
}

// call makes a request that is durable if Finish cannot make it so.
func (t *Target) call(cmd nbd.Command, off, n int64, src []byte) *call {
	k := &call{cmd: cmd, off: off, length: n, src: src}
	if f := t.im.c.base.flags; f&nbd.SendFlush == 0 && f&nbd.SendFUA != 0 {
		k.flags = nbd.FlagFUA
	}
	return k
}

func (t *Target) run(calls []*call) error {
	if err := t.im.c.run(t.im.c.ctx, calls, false); err != nil {
		return err
	}
	for _, k := range calls {
		if k.err != nil {
			return k.err
		}
	}
	return nil
}

// patch changes a part of one or two blocks.
func (t *Target) patch(p []byte, off int64) error {
	t.edge.Lock() // two patches may share a block
	defer t.edge.Unlock()
	from, to := t.im.around(off, off+int64(len(p)))
	old := make([]byte, to-from)
	if _, err := t.im.read(old, from, false); err != nil {
		return fmt.Errorf("read the blocks around: %w", err)
	}
	copy(old[off-from:], p)
	return t.blocks(old, from)
}

func (t *Target) zero(off, end int64) error {
	im := t.im
	if off == end {
		return nil
	}
	defer im.known.forget(im.around(off, end))
	from, to := im.within(off, end)
	if from >= to {
		return t.patch(zeros[:end-off], off) // less than two blocks
	}
	for _, edge := range [...][2]int64{{off, from}, {to, end}} {
		if edge[0] < edge[1] {
			if err := t.patch(zeros[:edge[1]-edge[0]], edge[0]); err != nil {
				return err
			}
		}
	}
	for !t.noZeroes.Load() && from < to {
		n := min(maxEffect, to-from)
		err := t.run([]*call{t.call(nbd.CmdWriteZeroes, from, n, nil)})
		if e, ok := errors.AsType[*nbd.Error](err); ok && e.Errno == nbd.ENOTSUP {
			t.noZeroes.Store(true)
			break
		}
		if err != nil {
			return err
		}
		from += n
	}
	return t.writeZeros(from, to)
}

// writeZeros is for servers that do not know WRITE_ZEROES.
func (t *Target) writeZeros(from, to int64) error {
	step := min(int64(len(zeros)), t.im.request) // a multiple of the block
	for from < to {
		var calls []*call
		for ; from < to && len(calls) < maxInFlight; from += step {
			n := min(step, to-from)
			calls = append(calls, t.call(nbd.CmdWrite, from, n, zeros[:n]))
		}
		if err := t.run(calls); err != nil {
			return err
		}
	}
	return nil
}

// Finish makes everything durable, as far as the server offers it. Nothing can
// be written afterwards.
func (t *Target) Finish() error {
	if t.done.Swap(true) {
		return fmt.Errorf("%s: the restore was finished before", t.im.c.name)
	}
	if t.im.c.base.flags&nbd.SendFlush == 0 {
		return nil // with FUA it is durable; without, the server writes as it is told
	}
	if err := t.run([]*call{{cmd: nbd.CmdFlush}}); err != nil {
		return fmt.Errorf("%s: flush: %w", t.im.c.name, err)
	}
	return nil
}

// Close ends all connections.
func (t *Target) Close() error { return t.im.Close() }
