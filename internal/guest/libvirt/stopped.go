package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/domxml"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image/source"
)

// stopped is the point of a domain that is shut down.
type stopped struct {
	g    *Guest
	site *site
	req  guest.Request
	want []wanted
	hold *image.Hold
	open []io.Closer

	disks   []guest.Disk
	configs []guest.Config
	began   bool // bitmaps may have been made
}

func (g *Guest) beginStopped(ctx context.Context, req guest.Request, s *site) (_ guest.Point, err error) {
	p := &stopped{g: g, site: s, req: req}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Release(context.WithoutCancel(ctx), false))
		}
	}()
	def, err := g.c.definition(g.dom, 0)
	if err != nil {
		return nil, err
	}
	if err := g.readable(def); err != nil {
		return nil, err
	}
	if err := g.clearStopped(ctx, req, def); err != nil {
		return nil, err
	}
	if p.want, err = g.disks(def, req); err != nil {
		return nil, err
	}
	// Before the files are held: what a guest that starts now writes is in the
	// bitmap, and then the files cannot be held.
	if err := p.begin(ctx); err != nil {
		return nil, err
	}
	if err := p.read(); err != nil {
		return nil, err
	}
	active, err := g.active()
	if err != nil {
		return nil, err
	}
	if active {
		return nil, fmt.Errorf("domain %s was started just now: try again", g.dom.Name)
	}
	side, err := g.side(def, p.disks, p.want, false)
	p.configs, p.disks, p.open = side.configs, append(p.disks, side.disks...), append(p.open, side.files...)
	return p, err
}

// readable refuses sources that only QEMU can read.
func (g *Guest) readable(def *domxml.Domain) error {
	for _, d := range def.Disks() {
		if !g.wants(d) {
			continue
		}
		switch {
		case d.Path == "":
			return fmt.Errorf("disk %s of domain %s is of kind %q, which can be read only while the domain runs: start it, or leave the disk out", d.Target, g.dom.Name, d.Kind)
		case d.Encrypted:
			return fmt.Errorf("disk %s of domain %s is encrypted, and can be read only while the domain runs: start it, or leave the disk out", d.Target, g.dom.Name)
		case d.Format != "raw" && d.Format != "qcow2":
			return fmt.Errorf("disk %s of domain %s has the format %q, which can be read only while the domain runs: start it, or leave the disk out", d.Target, g.dom.Name, d.Format)
		}
	}
	return nil
}

// clearStopped removes bitmaps of the owner that are no base from the files.
func (g *Guest) clearStopped(ctx context.Context, req guest.Request, def *domxml.Domain) error {
	old, err := g.ours(req.Owner)
	if err != nil {
		return err
	}
	for _, d := range def.Disks() {
		if !d.Holds() || d.Format != "qcow2" || d.Path == "" {
			continue
		}
		all, err := bitmapsOf(d.Path)
		if err != nil {
			return fmt.Errorf("disk %s of domain %s: %w", d.Target, g.dom.Name, err)
		}
		for name := range all {
			if b, err := guest.ParseBitmap(name); err == nil && b.Owner() == req.Owner && !slices.Contains(old, b) {
				old = append(old, b)
			}
		}
	}
	keep := bases(req)
	for _, b := range old {
		if slices.Contains(keep, b) {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := errors.Join(g.dropFromFiles(b, def), g.dropMetadata(b)); err != nil {
			return fmt.Errorf("remove bitmap %s of domain %s: %w", b, g.dom.Name, err)
		}
	}
	return nil
}

// begin makes the new bitmaps.
func (p *stopped) begin(ctx context.Context) error {
	for i := range p.want {
		w := &p.want[i]
		if w.mode == guest.None {
			continue
		}
		p.began = true
		err := p.g.qemuImg(ctx, "bitmap", "--add", "-f", "qcow2", w.Path, string(p.req.New))
		switch {
		case errors.Is(err, exec.ErrNotFound):
			w.mode, w.why = guest.None, "there is no program qemu-img, which makes bitmaps of domains that are shut down"
		case err != nil:
			return fmt.Errorf("disk %s: %w", w.Target, err)
		}
	}
	return nil
}

// read opens the images, with everybody else kept from changing them.
func (p *stopped) read() (err error) {
	var paths []string
	for _, w := range p.want {
		files, err := filesOf(w.Disk)
		if err != nil {
			return fmt.Errorf("disk %s of domain %s: %w", w.Target, p.g.dom.Name, err)
		}
		paths = append(paths, files...)
	}
	slices.Sort(paths)
	if p.hold, err = image.NewHold(slices.Compact(paths)...); err != nil {
		return fmt.Errorf("domain %s: %w", p.g.dom.Name, err)
	}
	for i := range p.want { // what was opened before the files were held may have changed
		w := &p.want[i]
		img, err := openDisk(w.Disk)
		if err != nil {
			return fmt.Errorf("disk %s of domain %s: %w", w.Target, p.g.dom.Name, err)
		}
		p.open = append(p.open, img)
		w.size = img.Size()
		d, err := p.disk(w, img)
		if err != nil {
			return fmt.Errorf("disk %s of domain %s: %w", w.Target, p.g.dom.Name, err)
		}
		p.disks = append(p.disks, d)
	}
	return nil
}

// filesOf names the files that a disk consists of.
func filesOf(d domxml.Disk) ([]string, error) {
	if d.Format != "qcow2" {
		return []string{d.Path}, nil
	}
	img, err := qcow2.Open(d.Path, qcow2.Options{AllowAny: true})
	if err != nil {
		return nil, err
	}
	return img.Files(), img.Close()
}

// disk uses the base bitmap if it can.
func (p *stopped) disk(w *wanted, img source.Image) (guest.Disk, error) {
	d := guest.Disk{Name: w.name(), Image: img}
	if base, ok := p.req.Base[w.name()]; ok && w.mode == guest.New {
		since, refused, err := sinceBitmap(img, base.Bitmap)
		if err != nil {
			return d, err
		}
		if w.rebase(base, refused); w.mode == guest.Reuse {
			d.Image = since
		}
	}
	d.Mode, d.Bitmap, d.Why = w.mode, w.bitmap(p.req), w.why
	return d, nil
}

// sinceBitmap is the image with what a bitmap calls clean as unchanged, or says
// why the bitmap cannot be used.
func sinceBitmap(img source.Image, b guest.Bitmap) (since image.Image, refused string, err error) {
	q, ok := img.(*qcow2.Image)
	if !ok {
		return nil, "", errors.New("internal error: an image without bitmaps has a base")
	}
	s, err := q.Since(string(b))
	if errors.Is(err, qcow2.ErrBitmap) {
		return nil, err.Error(), nil
	}
	if err != nil {
		return nil, "", err // not s: a nil pointer in an interface
	}
	return s, "", nil
}

// openDisk opens the file of a disk, with the chain behind it. Who defined the
// domain vouches for its format and for what a qcow2 file names, as QEMU
// believes it too.
func openDisk(d domxml.Disk) (source.Image, error) {
	return source.Open(d.Path, source.Options{
		Format: source.Format(d.Format),
		File:   image.FileOptions{Sequential: true},
		Qcow2:  qcow2.Options{AllowAny: true},
	})
}

// Disks lists the disks.
func (p *stopped) Disks() []guest.Disk { return p.disks }

// Configs lists the small files.
func (p *stopped) Configs() []guest.Config { return p.configs }

// Intact is true: the files are held.
func (p *stopped) Intact(context.Context) error { return nil }

// Release lets the domain start again, and removes the bitmaps that are not
// needed any more.
func (p *stopped) Release(_ context.Context, finished bool) error {
	var errs []error
	for _, f := range p.open {
		errs = append(errs, f.Close())
	}
	if p.hold != nil {
		errs = append(errs, p.hold.Close())
	}
	switch {
	case finished:
		for _, b := range bases(p.req) {
			errs = append(errs, p.g.drop(b, nil))
		}
	case p.began:
		errs = append(errs, p.g.drop(p.req.New, nil))
	}
	return p.site.leave(errors.Join(errs...))
}

// dropFromFiles removes a bitmap from all files of a domain that have it.
func (g *Guest) dropFromFiles(b guest.Bitmap, def *domxml.Domain) error {
	var errs []error
	for _, d := range def.Disks() {
		if !d.Holds() || d.Format != "qcow2" || d.Path == "" {
			continue
		}
		all, err := bitmapsOf(d.Path)
		if err == nil && all[string(b)] {
			err = g.qemuImg(context.Background(), "bitmap", "--remove", "-f", "qcow2", d.Path, string(b))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("disk %s: %w", d.Target, err))
		}
	}
	return errors.Join(errs...)
}

// bitmapsOf names the persistent bitmaps in a file.
func bitmapsOf(path string) (map[string]bool, error) {
	img, err := qcow2.Open(path, qcow2.Options{AllowAny: true})
	if err != nil {
		return nil, err
	}
	all, err := img.Bitmaps()
	names := map[string]bool{}
	for _, b := range all {
		names[b.Name] = true
	}
	return names, errors.Join(err, img.Close())
}

// qemuImg runs qemu-img.
func (g *Guest) qemuImg(ctx context.Context, args ...string) error {
	return qemuImg(ctx, g.opts.QemuImg, args...)
}

func qemuImg(ctx context.Context, program string, args ...string) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("qemu-img %s: %w: %.500s", strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}
