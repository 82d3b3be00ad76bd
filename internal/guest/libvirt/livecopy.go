package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// served are the disks of a snapshot as exports.
type served struct {
	server *nbdserver.Server
	images []*archive.Image
	dir    string
	ended  chan error
	stop   context.CancelFunc
}

// serve opens the exports that a domain is restored from.
func (c *Conn) serve(ctx context.Context, snap repo.Snapshot, st LiveState, o LiveOptions) (_ *served, err error) {
	s := &served{dir: filepath.Dir(st.Socket)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	opts := nbdserver.Options{Log: o.Log}
	bytes := o.Cache
	if bytes == 0 {
		bytes = archive.DefaultCache
	}
	cache := archive.NewCache(bytes)
	for _, d := range st.Disks {
		name, err := d.archive()
		if err != nil {
			return nil, err
		}
		img, err := archive.Open(ctx, snap, name, o.Key, archive.Options{Cache: cache})
		if err != nil {
			return nil, fmt.Errorf("disk %s: %w", d.Target, err)
		}
		s.images = append(s.images, img)
		opts.Exports = append(opts.Exports, &nbdserver.Export{Name: d.Target, Image: img, ReadOnly: true})
	}
	if err := errors.Join(makeReachable(o.RunDir), makeReachable(s.dir)); err != nil {
		return nil, fmt.Errorf("make the directory for the socket: %w", err)
	}
	ln, err := nbdserver.ListenUnix(st.Socket)
	if err != nil {
		return nil, err
	}
	if uid, gid, ok := c.owner(); ok && os.Geteuid() == 0 {
		if err := os.Chown(st.Socket, uid, gid); err != nil {
			return nil, errors.Join(err, ln.Close())
		}
	}
	s.server = nbdserver.New(opts)
	var serving context.Context
	serving, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.ended = make(chan error, 1)
	go func() { s.ended <- s.server.Serve(serving, ln) }()
	return s, nil
}

// close ends the exports.
func (s *served) close() error {
	var errs []error
	if s.server != nil {
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.server.Shutdown(grace) // a guest that is still there is cut off, and waits
		s.stop()
		if err := <-s.ended; err != nil && !errors.Is(err, nbdserver.ErrClosed) && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	for _, img := range s.images {
		errs = append(errs, img.Close())
	}
	_ = os.Remove(s.dir) // its socket is gone; something else in there stays
	return errors.Join(errs...)
}

// lookLive is how often a domain is looked at.
const lookLive = 200 * time.Millisecond

// maxStreamFailures bounds how often a copy is begun anew that ends without
// being done.
const maxStreamFailures = 5

// finishLive copies what is left behind each disk, while the guest runs, defines
// the domain, and removes the state.
func (c *Conn) finishLive(ctx context.Context, dom lv.Domain, st LiveState, o LiveOptions) error {
	begun := map[string]int{}
	for {
		active, err := c.l.DomainIsActive(dom)
		var done bool
		switch {
		case is(err, lv.ErrNoDomain), err == nil && active == 0: // nobody minds that its files are held for a while
			done, err = true, st.rebase(ctx, o)
		case err == nil:
			done, err = c.stream(dom, st, o, begun)
		}
		if err != nil {
			return fmt.Errorf("domain %s is not restored in full; the restore can be resumed: %w", st.Name, err)
		}
		if done {
			if _, err := c.l.DomainDefineXML(st.Definition); err != nil {
				return fmt.Errorf("define domain %s: %w", st.Name, err)
			}
			return os.Remove(st.file(o.StateDir))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("domain %s is not restored in full, and its guest waits for its disks; resume the restore: %w", st.Name, context.Cause(ctx))
		case <-time.After(lookLive):
		}
	}
}

// stream sees to it that a copy runs for each disk of the running domain that
// has something behind it.
func (c *Conn) stream(dom lv.Domain, st LiveState, o LiveOptions, begun map[string]int) (done bool, err error) {
	def, err := c.definition(dom, 0)
	if is(err, lv.ErrNoDomain, lv.ErrOperationInvalid) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var copied, total int64
	done = true
	for _, d := range st.Disks {
		total += d.Size
		found, _, _, at, end, err := c.l.DomainGetBlockJobInfo(dom, d.Target, 0)
		switch {
		case err != nil: // it ended just now
			return false, nil
		case found != 0:
			done = false
			if end > 0 {
				copied += int64(float64(d.Size) * float64(at) / float64(end))
			}
		case !def.Backed(d.Target):
			copied += d.Size
		default:
			done = false
			if begun[d.Target]++; begun[d.Target] > maxStreamFailures {
				return false, fmt.Errorf("disk %s of domain %s: copying ends again and again before it is done: see QEMU's log; the restore can be resumed", d.Target, st.Name)
			}
			if err := c.l.DomainBlockPull(dom, d.Target, uint64(o.Rate), lv.DomainBlockPullBandwidthBytes); err != nil && !is(err, lv.ErrOperationInvalid) { //nolint:gosec // not negative
				return false, fmt.Errorf("copy disk %s of domain %s: %w", d.Target, st.Name, err)
			}
		}
	}
	if o.Progress != nil {
		o.Progress(copied, total)
	}
	state, reason, err := c.l.DomainGetState(dom, 0)
	if err != nil {
		return false, nil // it ended just now
	}
	switch lv.DomainState(state) {
	case lv.DomainRunning:
		if done {
			return c.flush(dom)
		}
	case lv.DomainPaused:
		// QEMU stopped it because a disk failed, and the export is there again.
		if lv.DomainPausedReason(reason) == lv.DomainPausedIoerror {
			if err := c.l.DomainResume(dom); err != nil {
				return false, fmt.Errorf("resume domain %s: %w", dom.Name, err)
			}
		}
	}
	return false, nil
}

// flush makes the disks durable: QEMU does so when it stops the guest, and it
// does not when it has copied everything. Until then it may have written the
// header of a file that needs nothing behind it any more, and not yet the tables
// of the clusters that it copied.
func (c *Conn) flush(dom lv.Domain) (done bool, err error) {
	if err := c.l.DomainSuspend(dom); err != nil {
		return false, nil // it ended just now, or something else is done with it
	}
	if err := c.l.DomainResume(dom); err != nil {
		return false, fmt.Errorf("domain %s is PAUSED and cannot be resumed: %w", dom.Name, err)
	}
	return true, nil
}

// rebase copies what is left into files that nobody uses. A file that has nothing
// behind it may be one of which tables are missing, see flush: what it has is
// right, and what it lacks comes from the export again.
func (s LiveState) rebase(ctx context.Context, o LiveOptions) error {
	for _, d := range s.Disks {
		err := qemuImg(ctx, o.QemuImg, "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", s.uri(d.Target), d.Path)
		if err == nil {
			err = qemuImg(ctx, o.QemuImg, "rebase", "-f", "qcow2", "-b", "", d.Path)
		}
		if err == nil {
			err = syncFile(d.Path)
		}
		if err != nil {
			return fmt.Errorf("disk %s: %w", d.Target, err)
		}
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
