package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/domxml"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdclient"
)

// running is the point of a domain that runs.
type running struct {
	g     *Guest
	site  *site
	req   guest.Request
	want  []wanted
	began bool // the job
	watch *watch

	exports []*nbdclient.Image
	disks   []guest.Disk
	files   []io.Closer
	configs []guest.Config
}

func (g *Guest) beginRunning(ctx context.Context, req guest.Request, s *site) (_ guest.Point, err error) {
	p := &running{g: g, site: s, req: req}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Release(context.WithoutCancel(ctx), false))
		}
	}()
	def, err := g.c.definition(g.dom, 0)
	if err != nil {
		return nil, err
	}
	if err := g.clear(ctx, req, def, s); err != nil {
		return nil, err
	}
	if err := p.choose(def); err != nil {
		return nil, err
	}
	if err := makeReachable(g.opts.ScratchDir); err != nil {
		return nil, fmt.Errorf("make the directory for scratch files: %w", err)
	}
	if err := enough(g.opts.ScratchDir, g.opts.Reserve); err != nil {
		return nil, err
	}
	if err := s.open(def.User()); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := p.start(def); err != nil {
		return nil, err
	}
	if err := p.open(ctx); err != nil {
		return nil, err
	}
	return p, p.describe(def)
}

// choose settles for each disk how much of it is read.
func (p *running) choose(def *domxml.Domain) (err error) {
	if p.want, err = p.g.disks(def, p.req); err != nil {
		return err
	}
	if err := p.g.checkThreads(p.want); err != nil {
		return err
	}
	for i := range p.want {
		w := &p.want[i]
		_, size, _, err := p.g.c.l.DomainGetBlockInfo(p.g.dom, w.Target, 0)
		if err != nil {
			return fmt.Errorf("size of disk %s of domain %s: %w", w.Target, p.g.dom.Name, err)
		}
		w.size = int64(size) //nolint:gosec // below what a disk can have
	}
	for _, b := range bases(p.req) {
		var of []*wanted
		var targets []string
		for i := range p.want {
			w := &p.want[i]
			if base, ok := p.req.Base[w.name()]; ok && base.Bitmap == b && w.mode == guest.New {
				of, targets = append(of, w), append(targets, w.Target)
			}
		}
		good, why, err := p.g.usable(b, targets, targetsOf(def))
		if err != nil {
			return err
		}
		for _, w := range of {
			if !slices.Contains(good, w.Target) && why[w.Target] == "" {
				why[w.Target] = "the bitmap cannot be used"
			}
			w.rebase(p.req.Base[w.name()], why[w.Target])
		}
	}
	return nil
}

// start begins the job, at a moment at which the guest's file systems stand
// still if they can.
func (p *running) start(def *domxml.Domain) error {
	g := p.g
	job := backupXML{Mode: "pull", Server: serverXML{"unix", p.site.socket()}}
	var with []string
	for _, t := range targetsOf(def) {
		d := diskXML{Name: t, Backup: "no"}
		for _, w := range p.want {
			if w.Target != t {
				continue
			}
			d = diskXML{Name: t, Backup: "yes", Type: "file", Mode: "full", Export: t, Scratch: &scratchXML{g.scratch(p.req.Owner, t)}}
			if w.mode == guest.Reuse {
				d.Mode, d.Incremental, d.Bitmap = "incremental", string(w.base), changedBitmap
			}
			if w.mode != guest.None {
				with = append(with, t)
			}
		}
		job.Disks = append(job.Disks, d)
	}
	var checkpoint lv.OptString
	if len(with) > 0 {
		checkpoint = lv.OptString{checkpointText(p.req.New, with, targetsOf(def), false)}
	}
	frozen, err := g.freeze(def)
	if err != nil {
		return err
	}
	p.began = true // also if the answer gets lost
	err = g.c.l.DomainBackupBegin(g.dom, marshal(job), checkpoint, 0)
	if frozen {
		if _, terr := g.c.l.DomainFsthaw(g.dom, nil, 0); terr != nil {
			err = errors.Join(err, fmt.Errorf("thaw the guest's file systems, which are FROZEN now ('virsh domfsthaw %s'): %w", g.dom.Name, terr))
		}
	}
	if err != nil {
		return fmt.Errorf("begin the backup job of domain %s: %w", g.dom.Name, err)
	}
	space := func() error {
		if err := enough(g.opts.ScratchDir, g.opts.Reserve); err != nil {
			return err
		}
		return p.within(g.opts.Limit)
	}
	p.watch = startWatch(space, func() error { return g.abort(context.Background()) })
	return nil
}

// within reports whether the scratch files are not too large.
func (p *running) within(limit int64) error {
	if limit == 0 {
		return nil
	}
	var n int64
	for _, w := range p.want {
		if info, err := os.Stat(p.g.scratch(p.req.Owner, w.Target)); err == nil {
			n += info.Size()
		}
	}
	if n > limit {
		return fmt.Errorf("%w: the guest overwrites so much that they have %d bytes, and %d are allowed", ErrScratch, n, limit)
	}
	return nil
}

// freeze makes the guest's file systems stand still, if its agent can.
func (g *Guest) freeze(def *domxml.Domain) (frozen bool, err error) {
	switch {
	case def.AgentConnected():
		_, err = g.c.l.DomainFsfreeze(g.dom, nil, 0)
	case g.opts.MustFreeze:
		err = errors.New("its guest agent is not connected")
	default:
		return false, nil
	}
	if err == nil {
		return true, nil
	}
	err = fmt.Errorf("freeze the file systems of domain %s: %w", g.dom.Name, err)
	if g.opts.MustFreeze {
		return false, err
	}
	g.opts.Log.Warn("the guest's file systems are not frozen: they will be as after a power cut", "domain", g.dom.Name, "error", err)
	return false, nil
}

// open opens the exports of all disks.
func (p *running) open(ctx context.Context) error {
	for _, w := range p.want {
		o := nbdclient.Options{Patience: -1} // an export that went away does not come back
		context := ""
		if w.mode == guest.Reuse {
			context = nbd.QEMUDirtyBitmap + changedBitmap
			o.Contexts = []string{context}
		}
		im, err := nbdclient.Open(ctx, nbd.URI{Socket: p.site.socket(), Export: w.Target}, o)
		if err != nil {
			return fmt.Errorf("disk %s of domain %s: %w", w.Target, p.g.dom.Name, err)
		}
		p.exports = append(p.exports, im)
		d := guest.Disk{Name: w.name(), Mode: w.mode, Bitmap: w.bitmap(p.req), Why: w.why}
		if d.Image, err = guest.Fleeced(im, context); err != nil { // see there why not im alone
			return err
		}
		p.disks = append(p.disks, d)
	}
	return nil
}

// describe adds what is stored beside the disks.
func (p *running) describe(def *domxml.Domain) error {
	side, err := p.g.side(def, p.disks, p.want, true)
	p.configs, p.files = side.configs, side.files
	p.disks = append(p.disks, side.disks...)
	return err
}

// Disks lists the disks.
func (p *running) Disks() []guest.Disk { return p.disks }

// Configs lists the small files.
func (p *running) Configs() []guest.Config { return p.configs }

// Intact asks whether the job is still there.
func (p *running) Intact(context.Context) error {
	if err := p.watch.broken(); err != nil {
		return err
	}
	switch job, err := p.g.job(); {
	case is(err, lv.ErrOperationInvalid), is(err, lv.ErrNoDomain):
		return fmt.Errorf("domain %s ended while it was read", p.g.dom.Name)
	case err != nil:
		return err
	case job == "":
		return fmt.Errorf("the backup job of domain %s was aborted while it was read", p.g.dom.Name)
	}
	return nil
}

// Release ends the job and removes the bitmaps that are not needed any more.
func (p *running) Release(ctx context.Context, finished bool) error {
	var errs []error
	if p.watch != nil {
		p.watch.stop()
		if err := p.watch.broken(); err != nil && !finished {
			errs = append(errs, err) // reads that failed do not say why
		}
	}
	if p.began {
		errs = append(errs, p.g.abort(ctx))
	}
	for _, im := range p.exports {
		_ = im.Close() // QEMU has left already
	}
	for _, f := range p.files {
		errs = append(errs, f.Close())
	}
	if p.began {
		errs = append(errs, p.dropOld(finished))
	}
	return p.site.leave(errors.Join(errs...))
}

// dropOld removes the bases of a finished snapshot, or what began with one that
// is not.
func (p *running) dropOld(finished bool) error {
	if !finished {
		if p.req.New == "" {
			return nil
		}
		return p.g.drop(p.req.New, nil)
	}
	var errs []error
	for _, b := range bases(p.req) {
		var also []string
		for _, w := range p.want {
			if w.mode == guest.MissingRecreated && p.req.Base[w.name()].Bitmap == b {
				also = append(also, w.Target)
			}
		}
		errs = append(errs, p.g.drop(b, also))
	}
	return errors.Join(errs...)
}
