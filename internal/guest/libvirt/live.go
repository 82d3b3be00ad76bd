package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/domxml"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// LiveOptions says how a live restore goes on.
type LiveOptions struct {
	RestoreOptions
	RunDir     string // as in [Options]
	StateDir   string // for [LiveState]
	Repository string // noted in the state
	// Patience is how long a guest's reads wait when this program is gone; 0: ten
	// minutes.
	Patience time.Duration
	// Cache is memory for chunks in bytes; 0: that of an archive.
	Cache int64
	// Rate bounds what is copied a second for each disk, in bytes; 0: no bound.
	Rate int64
	// Progress is told what is copied; may be nil.
	Progress func(done, total int64)
}

const defaultPatience = 10 * time.Minute

func (o LiveOptions) filled() LiveOptions {
	o.RestoreOptions = o.RestoreOptions.filled()
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	return o
}

// RestoreLive starts the domain at once and returns when its files are complete.
// After an error before the start nothing is left; after one later the restore
// goes on with [Conn.ResumeLive].
func (c *Conn) RestoreLive(ctx context.Context, snap repo.Snapshot, o LiveOptions) (Restored, error) {
	o = o.filled()
	l, err := readLayout(snap, o.RestoreOptions)
	if err != nil {
		return Restored{}, err
	}
	if err := l.liveable(o); err != nil {
		return Restored{}, err
	}
	lock, err := lockLive(o.StateDir, l.uuid)
	if err != nil {
		return Restored{}, err
	}
	r, err := c.restoreLive(ctx, snap, l, o)
	return r, errors.Join(err, unlockFile(lock))
}

// liveable refuses what cannot be restored so.
func (l *layout) liveable(o LiveOptions) error {
	if o.Replace {
		return errors.New("a live restore replaces nothing: choose a new name with new identities, and a directory")
	}
	for _, d := range l.disks {
		if d.Place.Block || d.Place.Format != "qcow2" {
			return fmt.Errorf("disk %s would be %s in format %s: a guest can be started before its disks are complete only on new qcow2 files", d.Target, d.Place.Path, d.Place.Format)
		}
	}
	return nil
}

func lockLive(dir, uuid string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory for live restores: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, uuid+".lock"))
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("domain %s: %w: a live restore of it is under way in another process", uuid, ErrBusy)
	}
	return lock, err
}

func (c *Conn) restoreLive(ctx context.Context, snap repo.Snapshot, l *layout, o LiveOptions) (r Restored, err error) {
	st := LiveState{
		Version: liveVersion, Name: l.name, UUID: l.uuid, Repository: o.Repository, Snapshot: snap.Name().Path(), Phase: preparing,
		Socket: filepath.Join(o.RunDir, "live-"+l.uuid, "nbd"), Patience: int64(o.Patience / time.Second), Files: l.paths(), Definition: l.def.String(),
	}
	for _, d := range l.disks {
		st.Disks = append(st.Disks, LiveDisk{d.Target, d.Archive, d.Place.Path, d.Size})
	}
	if err := st.takeBack(o.StateDir); err != nil {
		return r, err
	}
	if err := c.free(l, false); err != nil {
		return r, err
	}
	if err := st.save(o.StateDir); err != nil {
		return r, err
	}
	var made made
	undo := func(err error) (Restored, error) {
		return Restored{}, errors.Join(err, made.remove(), os.Remove(st.file(o.StateDir)))
	}
	s, err := c.serve(ctx, snap, st, o)
	if err != nil {
		return undo(err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, d := range l.disks {
		if err := overlay(ctx, d, st.uri(d.Target), o, &made); err != nil {
			return undo(fmt.Errorf("disk %s: %w", d.Target, err))
		}
	}
	if err := restoreFiles(ctx, snap, l, o.RestoreOptions, &made); err != nil {
		return undo(err)
	}
	missing(l, o.RestoreOptions)
	st.Phase = runningLive
	if err := st.save(o.StateDir); err != nil {
		return undo(err)
	}
	dom, err := c.startLive(st)
	if err != nil {
		return undo(err)
	}
	return st.restored(), c.finishLive(ctx, dom, st, o)
}

// takeBack removes what a restore of the same domain made that died before the
// guest ran. One that ran is to be resumed.
func (s LiveState) takeBack(dir string) error {
	old, err := FindLive(dir, s.UUID)
	switch {
	case errors.Is(err, ErrLive):
		return nil
	case err != nil:
		return err
	case old.Phase != preparing:
		return fmt.Errorf("%w: a live restore of domain %s is not done: resume it", ErrExists, old.Name)
	}
	for _, p := range old.Files {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	return os.Remove(old.file(dir))
}

// uri is the address of a disk's export.
func (s LiveState) uri(target string) string {
	return nbd.URI{Socket: s.Socket, Export: target}.String()
}

func (s LiveState) restored() Restored {
	r := Restored{Name: s.Name, UUID: s.UUID}
	for _, d := range s.Disks {
		r.Disks = append(r.Disks, RestoredDisk{Target: d.Target, Path: d.Path, Format: "qcow2"})
	}
	return r
}

// overlay makes an empty qcow2 file with the export behind it.
func overlay(ctx context.Context, d diskPlace, uri string, o LiveOptions, made *made) error {
	path := d.Place.Path
	if err := makeReachable(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // the name is ours from here on
	if err != nil {
		return err
	}
	made.add(path)
	if err := f.Close(); err != nil {
		return err
	}
	return qemuImg(ctx, o.QemuImg, "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", uri, path, strconv.FormatInt(d.Size, 10))
}

// startLive starts the domain with its exports behind its disks, and with what is
// to happen when they go away. It is not defined yet: nobody can start it without
// them.
func (c *Conn) startLive(st LiveState) (lv.Domain, error) {
	def, err := domxml.Parse(st.Definition)
	if err != nil {
		return lv.Domain{}, err
	}
	for _, d := range st.Disks {
		def.SetDisk(d.Target, domxml.Place{
			Path: d.Path, Format: "qcow2",
			Backing: &domxml.Export{Socket: st.Socket, Name: d.Target, Patience: time.Duration(st.Patience) * time.Second},
		})
	}
	dom, err := c.l.DomainCreateXML(def.String(), 0)
	if err != nil {
		return dom, fmt.Errorf("start domain %s: %w", st.Name, err)
	}
	return dom, nil
}

// ResumeLive goes on with a live restore that was interrupted, and returns when
// it is done. snap is the snapshot that the state names.
func (c *Conn) ResumeLive(ctx context.Context, snap repo.Snapshot, st LiveState, o LiveOptions) (r Restored, err error) {
	o = o.filled()
	if snap.Name().Path() != st.Snapshot {
		return r, fmt.Errorf("domain %s is restored from snapshot %s, not from %s", st.Name, st.Snapshot, snap.Name().Path())
	}
	if st.Phase != runningLive {
		return r, fmt.Errorf("%w for domain %s: it ended before the guest was started; begin anew", ErrLive, st.Name)
	}
	lock, err := lockLive(o.StateDir, st.UUID)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, unlockFile(lock)) }()
	s, err := c.serve(ctx, snap, st, o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	dom, err := c.staying(ctx, st.UUID)
	if errors.Is(err, ErrNoDomain) {
		dom, err = c.startLive(st)
	}
	if err != nil {
		return r, err
	}
	return st.restored(), c.finishLive(ctx, dom, st, o)
}

// staying looks a domain up. One that is not defined and whose QEMU ended is
// still found for a moment before libvirt forgets it: that moment is waited for.
func (c *Conn) staying(ctx context.Context, uuid string) (lv.Domain, error) {
	for {
		dom, err := c.lookup(uuid)
		if err != nil {
			return dom, err
		}
		persistent, perr := c.l.DomainIsPersistent(dom)
		active, aerr := c.l.DomainIsActive(dom)
		switch {
		case is(perr, lv.ErrNoDomain), is(aerr, lv.ErrNoDomain): // it went meanwhile: the next lookup says so
		case perr != nil || aerr != nil:
			return dom, fmt.Errorf("domain %s: %w", dom.Name, errors.Join(perr, aerr))
		case persistent != 0 || active != 0:
			return dom, nil
		}
		select {
		case <-ctx.Done():
			return dom, context.Cause(ctx)
		case <-time.After(lookLive):
		}
	}
}

// archive is the archive of a disk, checked.
func (d LiveDisk) archive() (names.Archive, error) { return names.ParseArchive(d.Archive) }
