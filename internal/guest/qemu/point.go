package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/proto/qmp"
)

// point implements [guest.Point].
type point struct {
	g        *Guest
	req      guest.Request
	method   Method
	running  bool // the guest, when it was taken
	reserved bool // scratch files have all the space that they can need
	state    state
	drives   []drive
	configs  []guest.Config
	disks    []guest.Disk

	end    context.CancelCauseFunc // of the images
	images []interface{ Close() error }
	wait   sync.WaitGroup // the watcher
}

// drive is a disk of the point.
type drive struct {
	Disk
	n       int // of the names of its nodes
	mode    guest.Mode
	why     string
	access  string   // the node to read
	scratch *os.File // shared with QEMU
}

func (d *drive) node(kind string) string { return fmt.Sprintf("%s%d", kind, d.n) }

// Kinds of names; the number of the disk comes behind them.
const (
	scratchNode = guest.Prefix + "scratch-"
	scratchFile = guest.Prefix + "file-"
	filterNode  = guest.Prefix + "cbw-"
	accessNode  = guest.Prefix + "acc-"
	backupJob   = guest.Prefix + "backup-"
	createJob   = guest.Prefix + "create-"
	exportID    = guest.Prefix + "export-"
	currentID   = guest.Prefix + "current-"
)

// prepare finds out everything that the point needs, and changes nothing but
// leftover bitmaps.
func (p *point) prepare(ctx context.Context) error {
	status, err := p.g.Status(ctx)
	if err != nil {
		return err
	}
	switch status {
	case "inmigrate", "finish-migrate", "postmigrate":
		return fmt.Errorf("the guest is being migrated (%s): back it up afterwards, where it is then", status)
	}
	p.running = status == running
	all, err := p.g.disks(ctx)
	if err != nil {
		return err
	}
	if err := p.g.opts.choose(all); err != nil {
		return err
	}
	for _, d := range all {
		if d.Why != "" {
			p.g.log.Info("disk is left out", "disk", d.Name, "because", d.Why)
			continue
		}
		p.drives = append(p.drives, drive{Disk: d, n: len(p.drives)})
	}
	if len(p.drives) == 0 {
		return errors.New("the guest has no disk to back up")
	}
	if err := p.g.checkThreads(ctx, p.drives); err != nil {
		return err
	}
	if p.method, p.reserved, err = p.g.method(ctx, p.drives); err != nil {
		return err
	}
	if err := p.chooseBitmaps(ctx, all); err != nil {
		return err
	}
	p.configs, err = p.g.machine(ctx, all, p.drives)
	return err
}

// hold makes the disks stand still.
func (p *point) hold(ctx context.Context) error {
	if err := p.save(ctx); err != nil {
		return err
	}
	for i := range p.drives {
		if err := p.addScratch(ctx, &p.drives[i]); err != nil {
			return fmt.Errorf("disk %s: %w", p.drives[i].Name, err)
		}
	}
	if err := p.serve(ctx); err != nil {
		return err
	}
	thaw, err := p.freeze(ctx)
	if err != nil {
		return err
	}
	if p.method == Filter {
		err = p.holdFiltered(ctx)
	} else {
		err = p.holdByJobs(ctx)
	}
	return errors.Join(err, thaw())
}

func (p *point) save(ctx context.Context) error { return p.g.saveState(ctx, p.state) }

func (p *point) addScratch(ctx context.Context, d *drive) error {
	if p.method == Filter {
		return p.newScratch(ctx, d, d.node(scratchNode), d.Size)
	}
	return p.scratchImage(ctx, d)
}

// Disks are those of the moment.
func (p *point) Disks() []guest.Disk { return p.disks }

// Configs are what a restored machine needs besides its disks.
func (p *point) Configs() []guest.Config { return p.configs }

// Intact asks whether nothing broke the point unseen. A broken filter fails
// every read; but a job that ends lets reads through to what the guest has now.
func (p *point) Intact(ctx context.Context) error {
	select {
	case <-p.g.qmp.Done():
		return ErrGone
	default:
	}
	if err := p.tooLarge(); err != nil {
		return err
	}
	if p.method == Job {
		return p.jobsRun(ctx)
	}
	return nil
}

// releasePatience bounds what a hung QEMU can cost.
const releasePatience = 2 * time.Minute

// Release ends the point.
func (p *point) Release(ctx context.Context, finished bool) error {
	defer p.g.give()
	ctx, cancel := context.WithTimeout(ctx, releasePatience)
	defer cancel()
	var errs []error
	// QEMU drops the connections, before they are closed here: older ones can do
	// that in the right thread only if they begin it.
	_, err := p.g.sweep(ctx)
	swept := err == nil
	if errors.Is(err, qmp.ErrClosed) {
		err = errors.Join(ErrGone, p.g.removeSocket())
	} else {
		err = errors.Join(err, p.settle(ctx, finished))
	}
	errs = append(errs, err)
	if p.end != nil {
		p.end(errors.New("the point is over"))
	}
	for _, im := range p.images {
		errs = append(errs, im.Close())
	}
	p.wait.Wait()
	return errors.Join(append(errs, p.dropScratch(swept))...)
}

// settle removes the bitmaps of one side.
func (p *point) settle(ctx context.Context, finished bool) error {
	return p.g.eachBitmap(ctx, func(d Disk, b guest.Bitmap) error {
		keep := p.req.Keep[d.Name]
		if finished {
			keep = p.req.New
		}
		if b.Owner() != p.req.Owner || b == keep {
			return nil
		}
		return p.g.removeBitmap(ctx, d.Node, string(b))
	})
}
