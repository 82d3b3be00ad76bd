package job

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/mediacatalog"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// Restore says where the backups of a media set go.
type Restore struct {
	MediaSet uuid.UUID
	// Target finds the repository that takes the backups of a store; nil: they
	// are left out.
	Target   func(store string) *Target
	Progress func(RestoreStats) // called now and then; may be nil
}

// RestoreAll brings all snapshots of a media set back, medium by medium, each
// read once from its beginning to its end. Snapshots that are there already are
// left as they are. Catalogs that are missing are made on the way.
//
// What is damaged, or may not be brought back, is reported and counted; the error
// is why the job could not go on.
func (w *World) RestoreAll(ctx context.Context, r Restore) (stats RestoreStats, err error) {
	unlock, list, err := w.lockSet(ctx, r.MediaSet)
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	w.logf("restoring media set %s, number of media: %d", r.MediaSet, len(list))
	b := w.bringing(r)
	defer func() { err = errors.Join(err, b.close()) }()
	for _, m := range list {
		w.logf("medium %s, number %d of %d", m.Label.Text, m.Set.Seq+1, len(list))
		if err := w.restoreMedium(ctx, b, m); err != nil {
			return b.stats, fmt.Errorf("medium %s: %w", m.Label.Text, err)
		}
	}
	return b.stats, nil
}

// lockSet locks a media set and lists its media in their order.
func (w *World) lockSet(ctx context.Context, set uuid.UUID) (unlock func() error, list []media.Medium, err error) {
	if err := w.UpdateOnline(ctx); err != nil {
		return nil, nil, err
	}
	unlock, err = w.State.LockSet(ctx, set)
	if err != nil {
		return nil, nil, err
	}
	inv, err := w.State.Inventory()
	if err == nil {
		list, err = inv.SetMedia(set)
	}
	if err != nil {
		return nil, nil, errors.Join(err, unlock())
	}
	return unlock, list, nil
}

func (w *World) bringing(r Restore) *bringing {
	b := &bringing{target: r.Target, logf: w.logf, warnf: w.warnf}
	if r.Progress != nil {
		b.moved = func() { r.Progress(b.stats) }
	}
	return b
}

// open brings a medium into the drive, with its key.
func (w *World) open(ctx context.Context, m media.Medium) (tape.Drive, error) {
	d, l, err := w.Station.Load(ctx, m.Label.Text, m.UUID())
	if err != nil {
		return nil, err
	}
	switch {
	case l.Set != nil && l.Set.UUID == m.Set.UUID && l.Set.Seq == m.Set.Seq:
		err = encrypt(ctx, d, l.Set)
	case w.unwritten(m):
		err = errUnwritten
	case l.Set == nil:
		err = errors.New("it belongs to no media set any more: it was formatted or labelled anew")
	default:
		err = fmt.Errorf("it is number %d of media set %s now; update the inventory", l.Set.Seq+1, l.Set.UUID)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// errUnwritten is returned for a medium that a job took for its media set and
// then did not come to write to.
var errUnwritten = errors.New("nothing was written to it yet")

// unwritten reports whether the catalog of a medium is there and empty.
func (w *World) unwritten(m media.Medium) bool {
	empty := true
	_, err := w.State.Catalogued(m, func(r *media.Record) error {
		empty = empty && r.Kind == mediacatalog.Label
		return nil
	})
	return err == nil && empty
}

func (w *World) restoreMedium(ctx context.Context, b *bringing, m media.Medium) (err error) {
	d, err := w.open(ctx, m)
	if errors.Is(err, errUnwritten) {
		w.logf("medium %s: %v", m.Label.Text, err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	v := whole{bringing: b}
	there, err := w.State.HasCatalog(m)
	if err != nil {
		return err
	}
	if !there { // one that is there may know of files that are damaged now
		c, err := w.State.Rebuild(m)
		if err != nil {
			return err
		}
		defer func() {
			if err == nil {
				err = c.Finish()
			}
			err = errors.Join(err, c.Close())
		}()
		v.book = c
	}
	return w.scanAll(ctx, d, v)
}

// scanAll shows all archives of a medium to v.
func (w *World) scanAll(ctx context.Context, d tape.Drive, v whole) error {
	err := d.Locate(ctx, firstArchive)
	if errors.Is(err, tape.ErrEndOfData) {
		return nil
	}
	if err != nil {
		return err
	}
	return scan(ctx, d, firstArchive, v, func(format string, args ...any) {
		v.stats.Damaged++
		w.warnf(format, args...)
	})
}

func (w *World) logf(format string, args ...any) {
	if w.Logf != nil {
		w.Logf(format, args...)
	}
}

func (w *World) warnf(format string, args ...any) {
	if w.Warnf != nil {
		w.Warnf(format, args...)
	}
}
