package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// lockPoll is how often a backup asks whether a removal has ended.
const lockPoll = 200 * time.Millisecond

// draft is a backup that is being made.
type draft struct {
	s     *Store
	a     provider.Archive
	dir   string
	locks []vfs.Unlocker
}

// begin makes the directory of a draft, with the small files in it.
func (s *Store) begin(ctx context.Context, a provider.Archive, c provider.Configs) (_ *draft, err error) {
	id := a.Guest.ID
	if err := s.mkdir(guestDir(id)); err != nil {
		return nil, fmt.Errorf("begin backup %s: %w", a.Name, err)
	}
	d := &draft{s: s, a: a, dir: hidden(a, partSuffix)}
	defer func() {
		if err != nil {
			d.release()
		}
	}()
	u, err := s.lock(id, makingByte, vfs.Exclusive)
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("another backup of guest %d is being made: %w", id, err)
	}
	if err != nil {
		return nil, err
	}
	d.locks = append(d.locks, u)
	if u, err = s.waitForChain(ctx, id); err != nil {
		return nil, err
	}
	d.locks = append(d.locks, u)

	if _, err := s.fs.Lstat(dirOf(a)); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("backup %s: %w", a.Name, repo.ErrExists), err)
	}
	if err := s.clearDrafts(id); err != nil {
		return nil, err
	}
	if err := s.fs.Mkdir(d.dir, dirMode); err != nil {
		return nil, err
	}
	if err := d.configs(c); err != nil {
		return nil, errors.Join(err, s.clear(d.dir))
	}
	return d, nil
}

// waitForChain waits until nobody merges or removes backups of the guest.
func (s *Store) waitForChain(ctx context.Context, id int) (vfs.Unlocker, error) {
	for {
		u, err := s.lock(id, chainByte, vfs.Shared)
		if !errors.Is(err, vfs.ErrLocked) {
			return u, err
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return nil, fmt.Errorf("backups of guest %d are being removed: %w", id, context.Cause(ctx))
		}
	}
}

func (d *draft) configs(c provider.Configs) error {
	if err := d.s.write(path.Join(d.dir, guestFile), c.Guest); err != nil || c.Firewall == nil {
		return err
	}
	return d.s.write(path.Join(d.dir, firewallFile), c.Firewall)
}

// commit shows the backup. All files are synced.
func (d *draft) commit(ctx context.Context, seal func(context.Context) error) error {
	if err := d.s.fs.SyncDir(d.dir); err != nil {
		return err
	}
	if seal != nil {
		if err := seal(ctx); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := d.s.fs.Rename(d.dir, dirOf(d.a)); err != nil {
		return err
	}
	if err := d.s.fs.SyncDir(guestDir(d.a.Guest.ID)); err != nil {
		return errors.Join(err, d.s.fs.Rename(dirOf(d.a), d.dir))
	}
	return nil
}

// abort removes what there is, so that nothing but the log will be kept.
func (d *draft) abort() {
	if err := d.s.clear(d.dir); err != nil {
		d.s.o.Log.Warn("remove what is left of a failed backup; the next job will", "backup", d.a.Name, "error", err)
	}
}

func (d *draft) release() {
	for _, u := range d.locks {
		d.s.free(u)
	}
}

// clearDrafts removes the drafts of a guest. The lock on making is held, so
// nobody works on them.
func (s *Store) clearDrafts(id int) error { return s.clearHidden(id, partSuffix) }
