package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// run is one extraction. Its goroutine reads the source.
type run struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	src    Source
	o      Options
	self   process
	names  *temporary

	stack     []*dir       // from the target to the directory of the next entry
	opened    int          // those before, but for the target, have no descriptor
	batch     *batch       // that is being filled
	lingering atomic.Int64 // directories that were left and are not complete
	jobs      chan *batch
	free      chan *batch
	piece     []byte // of a large file
	old       []byte // of one that is compared

	tally
	mu    sync.Mutex
	total Result // under mu: what goroutines have summed up, and NotSet
}

// tally is what one goroutine did.
type tally struct {
	asked, made, same, changed, failed, damaged Count
	devices, deleted, left                      int64
}

// Directory fills target with what src yields, and makes it if it is missing. An
// error ends it early; what then is there is complete as far as it goes, but
// directories may still have the mode 0700 and other times.
func Directory(ctx context.Context, src Source, target string, o Options) (Result, error) {
	r := &run{src: src, o: o, self: thisProcess(), names: newTemporary(), opened: 1}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	defer r.cancel(nil)
	r.total.devicesToo = !o.SkipDevices
	r.names.byProc.Store(o.byProc)
	root, err := r.openTarget(target)
	if err != nil {
		return Result{}, err
	}
	workers := o.Workers
	if workers <= 0 {
		workers = min(runtime.GOMAXPROCS(0), 8)
	}
	r.startBatches(2*workers + 2)
	var all sync.WaitGroup
	for range workers {
		all.Go(r.work)
	}
	if err := r.read(root); err != nil {
		r.cancel(err)
	}
	r.send()
	close(r.jobs)
	all.Wait()
	for len(r.stack) > 0 {
		r.pop().release()
	}
	r.sum(&r.tally)
	if r.ctx.Err() != nil {
		return r.total, context.Cause(r.ctx)
	}
	return r.total, r.total.check()
}

// sum adds what a goroutine did.
func (r *run) sum(t *tally) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total.Asked.plus(t.asked)
	r.total.Made.plus(t.made)
	r.total.Same.plus(t.same)
	r.total.Changed.plus(t.changed)
	r.total.Failed.plus(t.failed)
	r.total.Damaged.plus(t.damaged)
	r.total.Devices += t.devices
	r.total.Deleted += t.deleted
	r.total.Left += t.left
}

// openTarget opens the directory that is filled, and makes it if it is missing,
// with those above it. Links on the way to it are the caller's.
func (r *run) openTarget(target string) (*dir, error) {
	made := false
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(target)), 0o777); err != nil { //nolint:gosec // as mkdir -p does
		return nil, err
	}
	switch err := os.Mkdir(target, 0o700); {
	case err == nil:
		made = true
	case !errors.Is(err, fs.ErrExist):
		return nil, err
	}
	fd, err := retry(func() (int, error) {
		return unix.Open(target, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: target, Err: err}
	}
	d := &dir{run: r, fd: fd}
	d.pending.Store(1)
	if err := d.look(made); err != nil {
		d.close()
		return nil, err
	}
	if made {
		d.dropDefaultACL()
		return d, nil
	}
	if err := d.unlock(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// read goes through the source.
func (r *run) read(root *dir) error {
	e, err := r.src.Next()
	if err == nil && e.Kind != pxar.Directory {
		err = fmt.Errorf("%w: it begins with a %s", pxar.ErrFormat, e.Kind)
	}
	r.push(root)
	if err != nil {
		return err
	}
	switch {
	case r.o.KeepRoot: // it is not the archive's
		r.total.kept = true
	case r.o.InPlace && !root.made:
		r.asked.add(e.Kind, 0)
		r.same.add(e.Kind, 0)
	default:
		r.asked.add(e.Kind, 0)
		r.made.add(e.Kind, 0)
	}
	root.meta, root.keep = e.Metadata, r.o.KeepRoot
	root.skip = r.prepare(&root.meta, root, "")
	for {
		if err := context.Cause(r.ctx); err != nil {
			return err
		}
		e, err := r.src.Next()
		switch {
		case errors.Is(err, io.EOF) && len(r.stack) > 0:
			return fmt.Errorf("%w: it ends within a directory", pxar.ErrFormat)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case e.Kind == pxar.End:
			err = r.leave()
		default:
			err = r.entry(e)
		}
		if err != nil {
			return err
		}
	}
}

// entry makes one entry, or has it made.
func (r *run) entry(e *pxar.Entry) error {
	r.asked.add(e.Kind, e.Size)
	if len(r.stack) == 0 {
		return fmt.Errorf("%w: an entry behind the end of the root", pxar.ErrFormat)
	}
	d := r.stack[len(r.stack)-1]
	if r.o.Counters != nil {
		r.o.Counters.Entries.Add(1)
	}
	if d.failed {
		r.failed.add(e.Kind, e.Size)
		if e.Kind == pxar.Directory {
			r.push(&dir{run: r, parent: d, name: e.Name, fd: -1, failed: true})
		}
		return nil
	}
	if e.Name <= d.last {
		// Archives are sorted. In one that is not a name may come twice, and then
		// the second has to find the first.
		if err := r.drain(); err != nil {
			return err
		}
	}
	d.last = e.Name
	if r.o.Delete {
		d.names = append(d.names, pxar.NameHash(e.Name))
	}
	switch {
	case e.Kind == pxar.Directory:
		return r.enter(d, e)
	case e.Kind == pxar.Hardlink:
		return r.link(d, e)
	case r.o.InPlace:
		if done, err := r.keep(d, e); done || err != nil {
			return err
		}
	}
	if e.Kind == pxar.File && e.Size > smallFile {
		return r.large(d, e)
	}
	return r.put(d, e)
}

// outcome counts an entry that the reading goroutine made itself.
func (r *run) outcome(d *dir, e *pxar.Entry, err error) error {
	if err == nil {
		r.made.add(e.Kind, e.Size)
		return nil
	}
	return r.problem(&r.tally, d, e.Name, e.Kind, e.Size, err)
}

// problem counts an entry that could not be made. It returns the error if that
// ends everything.
func (r *run) problem(t *tally, d *dir, name string, kind pxar.Kind, size int64, err error) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	if fatal(err) {
		return &fs.PathError{Op: "extract", Path: d.pathOf(name), Err: err}
	}
	t.failed.add(kind, size)
	if errors.Is(err, errDevice) {
		t.devices++
		return nil
	}
	r.tell(Problem{d.pathOf(name), kind, err})
	return nil
}

func (r *run) tell(p Problem) {
	if r.o.Problem != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.o.Problem(p)
	}
}

// fatal reports whether an error will meet all further entries too, or whether
// the caller has to decide something.
func fatal(err error) bool {
	for _, is := range []error{
		ErrExists, unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO,
		unix.ENOMEM, unix.EMFILE, unix.ENFILE, unix.ESTALE, unix.ENODEV, unix.ESHUTDOWN,
	} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// missed counts metadata that could not be set.
func (r *run) missed(d *dir, name string, w filemeta.What, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &r.total.NotSet[w]
	m.Count++
	unsupported := errors.Is(err, unix.EOPNOTSUPP)
	if unsupported {
		m.Unsupported++
	}
	if m.Err == nil || !unsupported && errors.Is(m.Err, unix.EOPNOTSUPP) {
		m.Path, m.Err = d.pathOf(name), err
	}
}

// prepare makes the metadata of an archive that of an entry in the target, and
// returns what is not set of it. It is called name in d, or is d. Where modes are
// ignored, what is new gets one all the same: that of any new file.
func (r *run) prepare(m *pxar.Metadata, d *dir, name string) filemeta.Set {
	skip := r.o.Skip
	if !r.o.IDs.Empty() {
		lost := filemeta.Shift(m, r.o.IDs.Users().ToHost, r.o.IDs.Groups().ToHost) &^ skip
		for w := range filemeta.Kinds {
			if lost.Has(w) {
				r.missed(d, name, w, errNoID)
			}
		}
		skip |= lost & filemeta.SetOf(filemeta.Owner)
	}
	if skip.Has(filemeta.Mode) {
		m.Mode = m.Mode&pxar.ModeType | r.self.defaultMode(m.Mode)
	}
	return skip
}

// errNoID is why an owner is not set.
var errNoID = errors.New("an id has no counterpart in the id map")
