package qemu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/proto/agent"
	"github.com/holdfast-backup/holdfast/internal/proto/qmp"
)

// Sweep removes from QEMU whatever a run that died left there, but bitmaps,
// and says what that was. It is what Begin does first.
func (g *Guest) Sweep(ctx context.Context) ([]string, error) {
	if err := g.take(); err != nil {
		return nil, err
	}
	defer g.give()
	return g.sweep(ctx)
}

// DropBitmaps removes all bitmaps of Holdfast from all disks, whoever's
// they are, and names them. The next backups read everything.
func (g *Guest) DropBitmaps(ctx context.Context) (dropped []string, err error) {
	err = g.eachBitmap(ctx, func(d Disk, b guest.Bitmap) error {
		dropped = append(dropped, d.Name+" "+string(b))
		return g.removeBitmap(ctx, d.Node, string(b))
	})
	return dropped, err
}

// sweeper removes things one kind after the other, in the order in which they
// hold each other. An error of one kind does not spare the next.
type sweeper struct {
	g    *Guest
	ctx  context.Context
	did  []string
	errs []error
}

func (s *sweeper) note(format string, args ...any) {
	s.did = append(s.did, fmt.Sprintf(format, args...))
}

func (s *sweeper) fail(err error) {
	if err != nil {
		s.errs = append(s.errs, err)
	}
}

// do runs a command and notes it.
func (s *sweeper) do(what, command string, args any) {
	if err := s.g.run(s.ctx, command, args); err != nil {
		s.fail(err)
		return
	}
	s.note("%s", what)
}

func (g *Guest) sweep(ctx context.Context) ([]string, error) {
	st, have, err := g.loadState(ctx)
	if err != nil && !have {
		return nil, err
	}
	s := &sweeper{g: g, ctx: ctx}
	s.fail(err)
	// The guest first: everything else can wait.
	if st.Stopped {
		s.resume()
	}
	if st.Frozen {
		s.thaw()
	}
	s.exports()
	if st.NBD {
		s.server()
	}
	s.fail(g.removeSocket())
	s.jobs()
	s.drives(st.Drives)
	s.nodes()
	s.copies()
	if have && len(s.errs) == 0 {
		s.fail(g.dropState(ctx))
	}
	return s.did, errors.Join(s.errs...)
}

func (s *sweeper) resume() {
	status, err := s.g.Status(s.ctx)
	if err != nil {
		s.fail(err)
	} else if status == "paused" {
		s.do("the guest was stopped: it runs again", "cont", nil)
	}
}

func (s *sweeper) thaw() {
	if s.g.opts.Agent == "" {
		s.fail(errors.New("the guest may still be frozen: name the socket of its agent"))
		return
	}
	c, err := agent.Dial(s.ctx, s.g.opts.Agent)
	if err != nil {
		s.fail(fmt.Errorf("the guest may still be frozen: %w", err))
		return
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Thaw(s.ctx); err != nil {
		s.fail(fmt.Errorf("the guest may still be frozen: %w", err))
		return
	}
	s.note("the guest was frozen: it writes again")
}

func (s *sweeper) exports() {
	var list []struct{ ID string }
	query := func() bool {
		list = nil
		if err := s.g.qmp.Run(s.ctx, "query-block-exports", nil, &list); err != nil {
			s.fail(err)
			return false
		}
		list = slices.DeleteFunc(list, func(e struct{ ID string }) bool { return !ours(e.ID) })
		return true
	}
	gone := s.g.qmp.Subscribe("BLOCK_EXPORT_DELETED")
	defer gone.Close()
	if !query() {
		return
	}
	for _, e := range list {
		s.do("export "+e.ID, "block-export-del", obj{"id": e.ID, "mode": "hard"})
	}
	s.until(gone, "exports", func() (bool, error) { return !query() || len(list) == 0, nil })
}

func (s *sweeper) server() {
	err := s.g.run(s.ctx, "nbd-server-stop", nil)
	if _, refused := errors.AsType[*qmp.Error](err); refused {
		err = nil // it had not come so far
	} else if err == nil {
		s.note("NBD server")
	}
	s.fail(err)
}

func (s *sweeper) jobs() {
	type job struct{ ID, Status string }
	var list []job
	query := func() error {
		list = nil
		err := s.g.qmp.Run(s.ctx, "query-jobs", nil, &list)
		list = slices.DeleteFunc(list, func(j job) bool { return !ours(j.ID) })
		return err
	}
	changed := s.g.qmp.Subscribe("JOB_STATUS_CHANGE")
	defer changed.Close()
	if err := query(); err != nil {
		s.fail(err)
		return
	}
	for _, j := range list {
		err := s.g.run(s.ctx, "job-cancel", obj{"id": j.ID})
		if _, refused := errors.AsType[*qmp.Error](err); refused {
			err = nil // it is over already
		}
		s.fail(err)
		s.note("job %s", j.ID)
	}
	s.until(changed, "jobs", func() (bool, error) {
		if err := query(); err != nil {
			return false, err
		}
		for _, j := range list {
			if j.Status == "concluded" {
				if err := s.g.run(s.ctx, "job-dismiss", obj{"id": j.ID}); err != nil {
					return false, err
				}
			}
		}
		return len(list) == 0, nil
	})
}

// sweepPatience is how long exports and jobs may take to end.
const sweepPatience = 30 * time.Second

// until waits for done, which is asked after every event and twice a second.
func (s *sweeper) until(events *qmp.Events, what string, done func() (bool, error)) {
	for end := time.Now().Add(sweepPatience); ; {
		ok, err := done()
		if err != nil || ok {
			s.fail(err)
			return
		}
		if time.Now().After(end) {
			s.fail(fmt.Errorf("QEMU: the %s do not end", what))
			return
		}
		wait, cancel := context.WithTimeout(s.ctx, time.Second/2)
		_, _ = events.Next(wait) // the state counts, not the event
		cancel()
		if s.ctx.Err() != nil {
			s.fail(context.Cause(s.ctx))
			return
		}
	}
}

// drives gives the devices their own nodes back. What reads through the filters
// goes first.
func (s *sweeper) drives(homes []home) {
	s.remove(func(name string) bool { return strings.HasPrefix(name, accessNode) })
	for _, h := range homes {
		at, err := s.g.nodeOf(s.ctx, h.Device)
		if err != nil {
			s.fail(err)
		} else if at == h.Filter {
			s.do("filter of "+h.Device, "qom-set", obj{"path": h.Device, "property": "drive", "value": h.Node})
		}
	}
}

// nodeOf is the node that a device has now.
func (g *Guest) nodeOf(ctx context.Context, device string) (string, error) {
	var drives []blockInfo
	if err := g.qmp.Run(ctx, "query-block", nil, &drives); err != nil {
		return "", err
	}
	for _, b := range drives {
		if b.QDev != "" && devicePath(b.QDev) == device && b.Inserted != nil {
			return b.Inserted.NodeName, nil
		}
	}
	return "", nil // unplugged
}

// nodes removes the rest in whatever order works.
func (s *sweeper) nodes() { s.remove(func(string) bool { return true }) }

func (s *sweeper) remove(which func(name string) bool) {
	for {
		list, err := s.g.ourNodes(s.ctx)
		if err != nil {
			s.fail(err)
			return
		}
		removed := 0
		var errs []error
		for _, n := range list {
			if !which(n) {
				continue
			}
			if err := s.g.run(s.ctx, "blockdev-del", obj{"node-name": n}); err != nil {
				errs = append(errs, err)
				continue
			}
			s.note("node %s", n)
			removed++
		}
		if len(errs) == 0 {
			return
		}
		if removed == 0 {
			s.fail(errors.Join(errs...))
			return
		}
	}
}

// ourNodes lists block nodes. While one is still being opened, for a monitor that
// has gone meanwhile, QEMU refuses the question.
func (g *Guest) ourNodes(ctx context.Context) (names []string, err error) {
	var list []struct {
		Name string `json:"node-name"`
	}
	for range 20 {
		err = g.qmp.Run(ctx, "query-named-block-nodes", obj{"flat": true}, &list)
		if _, refused := errors.AsType[*qmp.Error](err); !refused {
			break
		}
		select {
		case <-time.After(time.Second / 10):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	for _, n := range list {
		if ours(n.Name) {
			names = append(names, n.Name)
		}
	}
	return names, err
}

// copies removes frozen copies of bitmaps.
func (s *sweeper) copies() {
	all, err := s.g.disks(s.ctx)
	if err != nil {
		s.fail(err)
		return
	}
	for _, d := range all {
		for _, b := range d.Bitmaps {
			if b.Name == incBitmap {
				s.fail(s.g.removeBitmap(s.ctx, d.Node, b.Name))
			}
		}
	}
}

func (g *Guest) removeBitmap(ctx context.Context, node, name string) error {
	return g.run(ctx, "block-dirty-bitmap-remove", obj{"node": node, "name": name})
}

// eachBitmap calls f for every bitmap that has a name of ours.
func (g *Guest) eachBitmap(ctx context.Context, f func(Disk, guest.Bitmap) error) error {
	all, err := g.disks(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range all {
		for _, m := range d.Bitmaps {
			if b, err := guest.ParseBitmap(m.Name); err == nil {
				errs = append(errs, f(d, b))
			}
		}
	}
	return errors.Join(errs...)
}

func ours(name string) bool { return strings.HasPrefix(name, guest.Prefix) }
