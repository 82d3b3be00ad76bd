// Package guesttest is a guest in memory for the tests of what is built upon
// package guest. Its bitmaps are kept as QEMU keeps them: one bit for each
// block that was written to, recording until removed, never too few.
//
// Faults: a point can break while it is read, and calls can fail, see [Guest].
package guesttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/guest"
)

// Block is the granularity of bitmaps and extents, in bytes.
const Block = 64 << 10

// Guest implements [guest.Backend]. Its fields are set while no point is open;
// the methods are safe for concurrent use.
type Guest struct {
	Configs []guest.Config
	// FailBegin and FailRelease, when set, are returned by those calls.
	FailBegin, FailRelease error
	// Die makes Release do nothing at all, as if the program had been killed.
	Die bool

	mu    sync.Mutex
	disks []*disk
	open  bool
	fault error // of the open point
}

type disk struct {
	name    string
	data    []byte
	zero    map[int64]bool // blocks that are known to read as zeros
	bitmaps map[guest.Bitmap]map[int64]bool
}

var (
	_ guest.Backend = (*Guest)(nil)
	_ guest.Point   = (*Point)(nil)
)

// New is a guest without disks.
func New() *Guest { return new(Guest) }

// AddDisk adds a disk that is all zeros.
func (g *Guest) AddDisk(name string, size int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := &disk{name: name, bitmaps: map[guest.Bitmap]map[int64]bool{}}
	d.resize(size)
	g.disks = append(g.disks, d)
}

// Resize changes the size of a disk; as in QEMU its bitmaps are gone then.
func (g *Guest) Resize(name string, size int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.disk(name)
	clear(d.bitmaps)
	d.resize(size)
}

func (d *disk) resize(size int64) {
	d.data = append(d.data[:min(size, int64(len(d.data)))], make([]byte, max(0, size-int64(len(d.data))))...)
	d.zero = map[int64]bool{}
	for b := range (size + Block - 1) / Block {
		d.zero[b] = len(bytes.Trim(d.block(b), "\x00")) == 0
	}
}

func (d *disk) block(b int64) []byte {
	return d.data[b*Block : min((b+1)*Block, int64(len(d.data)))]
}

// Write is a write of the guest.
func (g *Guest) Write(name string, off int64, p []byte) {
	g.touch(name, off, int64(len(p)), func(d *disk) { copy(d.data[off:off+int64(len(p))], p) }, false)
}

// Discard makes whole blocks read as zeros, without their being data.
func (g *Guest) Discard(name string, off, n int64) {
	g.touch(name, off, n, func(d *disk) { clear(d.data[off : off+n]) }, true)
}

func (g *Guest) touch(name string, off, n int64, change func(*disk), zero bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.disk(name)
	change(d)
	for b := off / Block; b*Block < off+n; b++ {
		for _, m := range d.bitmaps {
			m[b] = true
		}
		d.zero[b] = zero && len(bytes.Trim(d.block(b), "\x00")) == 0
	}
}

// Content is what a disk holds now.
func (g *Guest) Content(name string) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return bytes.Clone(g.disk(name).data)
}

// Bitmaps lists those of a disk.
func (g *Guest) Bitmaps(name string) []guest.Bitmap {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.disk(name).bitmaps))
}

// DropBitmaps removes them all, as the end of a virtual machine does.
func (g *Guest) DropBitmaps() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.disks {
		clear(d.bitmaps)
	}
}

// Break makes the open point one that no longer holds.
func (g *Guest) Break(why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault = why
}

// InUse reports whether a point is open.
func (g *Guest) InUse() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *Guest) disk(name string) *disk {
	i := slices.IndexFunc(g.disks, func(d *disk) bool { return d.name == name })
	if i < 0 {
		panic(fmt.Sprintf("guesttest: no disk %q", name))
	}
	return g.disks[i]
}

var errOpen = errors.New("guesttest: a point is open already")

// Begin takes a point.
func (g *Guest) Begin(ctx context.Context, req guest.Request) (guest.Point, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case g.FailBegin != nil:
		return nil, g.FailBegin
	case g.open:
		return nil, errOpen
	}
	g.open, g.fault = true, nil
	p := &Point{g: g, req: req}
	for _, d := range g.disks {
		for b := range d.bitmaps {
			if b.Owner() == req.Owner && b != req.Keep[d.name] {
				delete(d.bitmaps, b)
			}
		}
		p.disks = append(p.disks, p.freeze(d))
	}
	return p, nil
}

// freeze copies a disk and begins its bitmap.
func (p *Point) freeze(d *disk) guest.Disk {
	img := &Image{g: p.g, data: bytes.Clone(d.data), zero: maps.Clone(d.zero)}
	out := guest.Disk{Name: d.name, Image: img, Mode: guest.New, Bitmap: p.req.New}
	if base, ok := p.req.Base[d.name]; ok {
		img.dirty = maps.Clone(d.bitmaps[base.Bitmap])
		out.Mode = guest.Reuse
		if img.dirty == nil || base.Size != img.Size() {
			img.dirty = nil
			out.Mode, out.Why = guest.MissingRecreated, "the bitmap is gone"
		}
	}
	if p.req.New == "" {
		out.Mode, img.dirty = guest.None, nil
		return out
	}
	d.bitmaps[p.req.New] = map[int64]bool{}
	return out
}

// Point implements [guest.Point].
type Point struct {
	g     *Guest
	req   guest.Request
	disks []guest.Disk
}

// Disks are copies of the guest's.
func (p *Point) Disks() []guest.Disk { return p.disks }

// Configs are those of the guest.
func (p *Point) Configs() []guest.Config { return p.g.Configs }

// Intact returns what Break was told.
func (p *Point) Intact(context.Context) error {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	return p.g.fault
}

// Release keeps one of the two bitmaps of each disk.
func (p *Point) Release(_ context.Context, finished bool) error {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	p.g.open = false
	if p.g.Die {
		return nil
	}
	for _, d := range p.g.disks {
		if finished {
			delete(d.bitmaps, p.req.Keep[d.name])
		} else {
			delete(d.bitmaps, p.req.New)
		}
	}
	return p.g.FailRelease
}
