package job

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// CatalogOptions say how the catalog of a medium is made.
type CatalogOptions struct {
	Scan  bool // read the whole medium, also where a catalog is on it
	Force bool // replace a catalog that is there
}

// ErrCatalogExists is returned where a catalog would have to be replaced.
var ErrCatalogExists = errors.New("the catalog of the medium exists; --force replaces it")

// Catalog makes the catalog of the medium in the drive, which it takes into the
// inventory: from the last catalog archive, if that is the last file of the medium,
// and else from all that is on it.
func (w *World) Catalog(ctx context.Context, o CatalogOptions) (stats RestoreStats, err error) {
	d, err := w.Station.Open(ctx)
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return w.catalog(ctx, d, o)
}

func (w *World) catalog(ctx context.Context, d tape.Drive, o CatalogOptions) (stats RestoreStats, err error) {
	l, err := ReadLabels(ctx, d)
	if err != nil {
		return stats, err
	}
	m := media.Medium{Label: l.Medium, Set: l.Set}
	if m.InSet() {
		unlock, err := w.State.LockSet(ctx, m.Set.UUID)
		if err != nil {
			return stats, err
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	there, err := w.State.HasCatalog(m)
	if err != nil {
		return stats, err
	}
	if there && !o.Force {
		return stats, ErrCatalogExists
	}
	if err := w.State.Store(ctx, l.Medium, l.Set, false); err != nil {
		return stats, err
	}
	if !m.InSet() {
		w.logf("medium %s is empty", m.Label.Text)
		c, err := w.State.NewCatalog(m)
		if err != nil {
			return stats, err
		}
		return stats, c.Close()
	}
	if err := encrypt(ctx, d, l.Set); err != nil {
		return stats, err
	}
	if !o.Scan {
		done, err := w.fastCatalog(ctx, d, m)
		if done || err != nil {
			return stats, err
		}
		w.logf("the last file of medium %s is no catalog: reading the whole medium", m.Label.Text)
	}
	return w.scanCatalog(ctx, d, m)
}

// fastCatalog looks for the catalog of a medium on it, and for those of earlier
// media of its set that are missing here. done says that there was one that knows
// everything.
func (w *World) fastCatalog(ctx context.Context, d tape.Drive, m media.Medium) (done bool, err error) {
	file := uint64(firstArchive)
	for ; ; file++ {
		err := d.Locate(ctx, file)
		if errors.Is(err, tape.ErrEndOfData) {
			break
		}
		if err != nil {
			return false, err
		}
		is, own, err := w.importCatalog(ctx, d, file, m)
		if err != nil {
			return false, err
		}
		done = own
		if !is {
			break
		}
	}
	next, err := d.EndOfData(ctx)
	if err != nil {
		return false, err
	}
	if next <= file { // that was the last file
		return done, nil
	}
	if err := d.Locate(ctx, next-1); err != nil {
		return false, err
	}
	_, done, err = w.importCatalog(ctx, d, next-1, m)
	return done, err
}

// importCatalog takes the catalog that a file may be. own says that it was that of
// the medium itself, and whole.
func (w *World) importCatalog(ctx context.Context, d tape.Drive, file uint64, m media.Medium) (is, own bool, err error) {
	t, err := tape.NewReader(d)
	if errors.Is(err, tape.ErrEndOfData) || errors.Is(err, tape.ErrFilemark) || isDamage(err) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	h, err := tapefile.ReadHeader(t)
	if err != nil || !h.Content.IsCatalog() {
		if isDamage(err) {
			err = nil
		}
		return false, false, err
	}
	a, err := h.CatalogArchive()
	if err != nil {
		w.warnf("file %d: %v", file, err)
		return true, false, nil
	}
	of, why := w.wantsCatalog(a, m)
	if why != "" {
		w.logf("file %d: catalog of medium %s is left out: %s", file, a.Medium, why)
		return true, false, nil
	}
	err = w.State.Import(of, t)
	switch {
	case err == nil:
		w.logf("file %d: found catalog of medium %s", file, of.Label.Text)
	case ctx.Err() != nil:
		return true, false, context.Cause(ctx)
	default: // what is wrong with it costs no more than a scan
		w.warnf("file %d: %v", file, err)
		return true, false, nil
	}
	return true, of.UUID() == m.UUID(), nil
}

// wantsCatalog finds the medium that a catalog archive is of, or says why it is not
// wanted.
func (w *World) wantsCatalog(a tapefile.CatalogArchive, m media.Medium) (media.Medium, string) {
	if a.MediaSet != m.Set.UUID {
		return m, "it is of another media set"
	}
	if a.Medium == m.UUID() {
		return m, ""
	}
	inv, err := w.State.Inventory()
	if err != nil {
		return m, err.Error()
	}
	of, err := inv.Find(a.Medium)
	if err != nil {
		return m, "the medium is not in the inventory"
	}
	there, err := w.State.HasCatalog(of)
	switch {
	case err != nil:
		return m, err.Error()
	case there:
		return m, "there is one"
	case !of.InSet() || of.Set.UUID != a.MediaSet || of.Set.Seq != a.Seq:
		return m, "the medium is in another media set now"
	}
	return of, ""
}

// scanCatalog makes a catalog of everything on a medium that can be read.
func (w *World) scanCatalog(ctx context.Context, d tape.Drive, m media.Medium) (stats RestoreStats, err error) {
	c, err := w.State.Rebuild(m)
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	b := &bringing{target: func(string) *Target { return nil }, logf: w.logf, warnf: w.warnf}
	if err := w.scanAll(ctx, d, whole{bringing: b, book: c}); err != nil {
		return b.stats, err
	}
	return b.stats, c.Finish()
}

// InventoryOptions say how the inventory is brought up to date.
type InventoryOptions struct {
	ReadAll bool // read all labels, not only those of media that are not known
	Catalog bool // make the catalogs that are missing
}

// Inventory reads the labels of the media in the changer.
func (w *World) Inventory(ctx context.Context, o InventoryOptions) error {
	st, err := w.Station.status(ctx)
	if err != nil {
		return err
	}
	inv, err := w.State.Inventory()
	if err != nil {
		return err
	}
	for _, text := range sortedLabels(w.Station.labels(st)) {
		if m, err := inv.FindLabel(text); err == nil && !o.ReadAll {
			there, err := w.State.HasCatalog(m)
			if err != nil {
				return err
			}
			if there || !o.Catalog {
				w.logf("medium %s is known", text)
				continue
			}
		}
		if err := w.inventorize(ctx, text, o.Catalog); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			w.warnf("medium %s: %v", text, err)
		}
	}
	return w.UpdateOnline(ctx)
}

func (w *World) inventorize(ctx context.Context, text string, catalog bool) (err error) {
	if err := w.Station.Bring(ctx, text); err != nil {
		return err
	}
	d, err := w.Station.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	l, err := ReadLabels(ctx, d)
	if err != nil {
		return err
	}
	if l.Medium.Text != text {
		return fmt.Errorf("its label says %s", l.Medium.Text)
	}
	if !catalog {
		return w.inventorized(ctx, l)
	}
	_, err = w.catalog(ctx, d, CatalogOptions{})
	if errors.Is(err, ErrCatalogExists) {
		err = w.inventorized(ctx, l)
	}
	return err
}

// inventorized takes labels into the inventory.
func (w *World) inventorized(ctx context.Context, l Labels) error {
	if err := w.State.Store(ctx, l.Medium, l.Set, false); err != nil {
		return err
	}
	w.logf("medium %s (%s) is in the inventory", l.Medium.Text, l.Medium.UUID)
	return nil
}

// ReadLabel reads the labels of the medium in the drive, and takes them into the
// inventory if that is asked for.
func (w *World) ReadLabel(ctx context.Context, inventorize bool) (l Labels, err error) {
	d, err := w.Station.Open(ctx)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if l, err = ReadLabels(ctx, d); err != nil || !inventorize {
		return l, err
	}
	if err := w.inventorized(ctx, l); err != nil {
		return l, err
	}
	there, err := w.State.HasCatalog(media.Medium{Label: l.Medium, Set: l.Set})
	if err != nil || there || l.Set != nil {
		return l, err
	}
	c, err := w.State.NewCatalog(media.Medium{Label: l.Medium})
	if err != nil {
		return l, err
	}
	return l, c.Close()
}

// Format makes the medium in the drive empty, and forgets what was on it. text is
// the label that it must have, "" for any; one that is not known is formatted only
// without.
func (w *World) Format(ctx context.Context, text string, fast bool) (err error) {
	d, err := w.Station.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := plain(ctx, d); err != nil {
		return err
	}
	l, err := ReadLabels(ctx, d)
	switch {
	case err == nil:
		w.logf("found medium %s (%s)", l.Medium.Text, l.Medium.UUID)
		if text != "" && l.Medium.Text != text {
			return fmt.Errorf("the medium in the drive is %s, not %s", l.Medium.Text, text)
		}
	case text != "":
		return fmt.Errorf("the medium in the drive is not known to be %s: %w", text, err)
	case errors.Is(err, tape.ErrNoMedium), ctx.Err() != nil:
		return err
	default:
		w.logf("the medium has no label that can be read: %v", err)
	}
	if l.Medium.UUID != (media.Medium{}).UUID() {
		unlock, err := w.lockFor(ctx, l)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unlock()) }()
		if err := w.State.Forget(ctx, l.Medium.UUID); err != nil {
			return err
		}
	}
	return d.Format(ctx, fast)
}

// lockFor keeps jobs away that use the media set of a medium.
func (w *World) lockFor(ctx context.Context, l Labels) (func() error, error) {
	if l.Set == nil {
		return w.State.LockPool(ctx, l.Medium.Pool)
	}
	return w.State.LockSet(ctx, l.Set.UUID)
}

// Clean puts a cleaning cartridge into the drive and takes it back.
func (w *World) Clean(ctx context.Context) error {
	s := w.Station
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	slot := 0
	for i, sl := range st.Slots {
		if sl.Full && IsCleaning(sl.Label) && !s.isExport(st, i+1) {
			slot = i + 1
			break
		}
	}
	if slot == 0 {
		return fmt.Errorf("changer %s has no cleaning cartridge: its label begins with CLN", s.ChangerName)
	}
	if err := s.Unload(ctx, 0); err != nil {
		return err
	}
	w.logf("loading cleaning cartridge from slot %d", slot)
	if err := s.Changer.Load(ctx, slot, s.Number); err != nil {
		return fmt.Errorf("load the cleaning cartridge from slot %d: %w", slot, err)
	}
	// A drive may give the cartridge out by itself, and only when it is done.
	if err := s.takeOut(ctx, s.Number, slot); err != nil {
		return fmt.Errorf("cleaning cartridge: %w", err)
	}
	w.logf("drive %s was cleaned", s.Name)
	return nil
}
