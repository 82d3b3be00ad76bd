package provider

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdclient"
)

// exportPatience is how long an export that does not answer is asked again. The
// server is the machine itself, on this host.
const exportPatience = 10 * time.Second

// export is a disk behind an NBD socket.
type export struct {
	*nbdclient.Image
	extents image.Image // with the bitmap, if one is used
	spent   *granules
	keep    atomic.Bool // it cannot trim
}

var (
	_ image.Extenter = (*export)(nil)
	_ image.Consumer = (*export)(nil)
	_ image.Adviser  = (*export)(nil)
)

// openExport opens the export of a device. What takes no space is not asked for:
// with a bitmap QEMU refuses the question outside of what is dirty, and without
// one it answers wrongly where the guest zeroed a range since the backup began
// (seen with 7.2 behind the same filter: what the guest has now). So zeros are
// read.
//
// process gets the name of the process behind the socket; a second one there is
// an error, for a bitmap belongs to one process.
func openExport(ctx context.Context, device string, d Disk, process *string) (*export, error) {
	o := nbdclient.Options{Patience: exportPatience, NoAllocation: true}
	bitmap := nbd.QEMUDirtyBitmap + d.BitmapName
	if d.Mode == ModeReuse {
		o.Contexts = []string{bitmap}
	}
	var mu sync.Mutex
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		name, err := processBehind(c)
		mu.Lock()
		defer mu.Unlock()
		if err == nil && *process != "" && *process != name {
			err = fmt.Errorf("the machine behind %s is another one than before", address)
		}
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		*process = name
		return c, nil
	}
	img, err := nbdclient.Open(ctx, nbd.URI{Socket: d.NBDPath, Export: device}, o)
	if err != nil {
		return nil, err
	}
	e := &export{Image: img, extents: img}
	e.spent = newGranules(img.Size(), func(off, n int64) {
		if !e.keep.Load() && img.Trim(ctx, off, n) != nil {
			e.keep.Store(true)
		}
	})
	if d.Mode == ModeReuse {
		if e.extents, err = img.ChangedBy(bitmap); err != nil {
			_ = img.Close()
			return nil, err
		}
	}
	e.keep.Store(img.Flags()&nbd.SendTrim == 0)
	return e, nil
}

func (e *export) ExtentAt(off int64) (image.Extent, error) { return image.ExtentAt(e.extents, off) }

// Consumed frees the scratch disk of the backup and lets the guest write there
// without a copy. A server that cannot is not asked again.
func (e *export) Consumed(off, n int64) { e.spent.consumed(off, n) }

// WillNeed passes no hint on: a filter that shows a moment of the past refuses to
// fetch ahead, and would first look at what is allocated.
func (e *export) WillNeed(int64, int64) {}
