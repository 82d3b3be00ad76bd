package qemu

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdclient"
	"github.com/holdfast-backup/holdfast/internal/proto/qmp"
)

// socket is the path of this guest's NBD socket. It follows from that of the
// monitor, so that what a killed run left is found again; two runs cannot meet
// there, because the monitor takes only one.
func (g *Guest) socket() string {
	abs, err := filepath.Abs(g.opts.QMP)
	if err != nil {
		abs = g.opts.QMP
	}
	sum := sha256.Sum256([]byte(abs))
	return filepath.Join(g.opts.RunDir, fmt.Sprintf("%x.nbd", sum[:8]))
}

func (g *Guest) removeSocket() error {
	if err := os.Remove(g.socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("NBD socket: %w", err)
	}
	return nil
}

// serve starts QEMU's NBD server on a socket that only this user can reach.
func (p *point) serve(ctx context.Context) error {
	if err := makeRunDir(p.g.opts.RunDir); err != nil {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.g.socket(), Net: "unix"})
	if err != nil {
		return fmt.Errorf("NBD socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err = errors.Join(err, l.Close()); err != nil {
		return fmt.Errorf("NBD socket: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := p.g.qmp.RunWith(ctx, f, "getfd", obj{"fdname": nbdFile}, nil); err != nil {
		return err
	}
	p.state.NBD = true
	if err := p.save(ctx); err != nil {
		return err
	}
	err = p.g.run(ctx, "nbd-server-start", obj{"addr": obj{"type": "fd", "data": obj{"str": nbdFile}}})
	if err == nil {
		return nil
	}
	if _, refused := errors.AsType[*qmp.Error](err); refused {
		p.state.NBD = false // nothing was started, so nothing of others will be stopped
		err = errors.Join(fmt.Errorf("%w: %w", ErrBusy, err), p.save(ctx), p.g.run(ctx, "closefd", obj{"fdname": nbdFile}))
	}
	return err
}

// export makes images of the disks.
func (p *point) export(ctx context.Context) error {
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	p.end = end
	p.wait.Go(func() { p.watch(life, end) })
	stop := context.AfterFunc(ctx, func() { end(context.Cause(ctx)) })
	p.images = append(p.images, closer(func() { stop() }))
	for i := range p.drives {
		d := &p.drives[i]
		if err := p.exportDisk(life, d); err != nil {
			return fmt.Errorf("disk %s: %w", d.Name, err)
		}
	}
	return nil
}

type closer func()

func (c closer) Close() error { c(); return nil }

// exportDisk exports one disk and opens it. life is that of the image.
func (p *point) exportDisk(life context.Context, d *drive) error {
	var bitmaps []any
	context := ""
	if d.mode == guest.Reuse {
		bitmaps, context = []any{obj{"node": d.Node, "name": incBitmap}}, nbd.QEMUDirtyBitmap+incBitmap
		if p.method == Job { // found along the backing chain, also by QEMUs that know names only
			bitmaps = []any{incBitmap}
		}
	}
	img, err := p.openDisk(life, d, bitmaps, context)
	if err != nil {
		return err
	}
	if img.Size() != d.Size {
		return fmt.Errorf("QEMU says %d bytes and exports %d", d.Size, img.Size())
	}
	out := guest.Disk{Name: d.Name, Image: img, Mode: d.mode, Why: d.why}
	if d.mode != guest.None {
		out.Bitmap = p.req.New
	}
	p.disks = append(p.disks, out)
	return nil
}

func (p *point) openDisk(life context.Context, d *drive, bitmaps []any, context string) (image.Image, error) {
	o := nbdclient.Options{NoAllocation: p.method == Filter}
	if context != "" {
		o.Contexts = []string{context}
	}
	read := obj{"id": d.node(exportID), "node-name": d.access, "name": d.Name}
	if p.method == Filter {
		read["writable"] = true // for trimming
	}
	im, err := p.openExport(life, read, bitmaps, o)
	if err != nil {
		return nil, err
	}
	if p.method == Job {
		return guest.Fleeced(im, context)
	}
	f := &filtered{access: im, scratch: d.scratch, trim: func(off, n int64) { _ = im.Trim(life, off, n) }} // a hint
	if context != "" {
		if f.bitmap, err = im.ChangedBy(context); err != nil {
			return nil, err
		}
	}
	current := obj{"id": d.node(currentID), "node-name": d.Node, "name": d.Name + currentSuffix}
	f.current, err = p.openExport(life, current, nil, nbdclient.Options{Connections: 1})
	return f, err
}

// currentSuffix makes the name of the export that shows a disk as it is.
const currentSuffix = "-now"

// openExport exports a node and opens the export until the point is over.
func (p *point) openExport(life context.Context, args obj, bitmaps []any, o nbdclient.Options) (*nbdclient.Image, error) {
	args["type"] = "nbd"
	if bitmaps != nil {
		args["bitmaps"] = bitmaps
	}
	if err := p.g.run(life, "block-export-add", args); err != nil {
		return nil, err
	}
	name, _ := args["name"].(string)
	o.Patience = -1 // a broken connection is QEMU's end
	im, err := nbdclient.Open(life, nbd.URI{Socket: p.g.socket(), Export: name}, o)
	if err != nil {
		return nil, err
	}
	p.images = append(p.images, im)
	return im, nil
}
