package job

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// World is where jobs work: a drive, and what is known of media.
type World struct {
	State   *media.State
	Station *Station
	// KeyFile returns the key with a fingerprint under its password, as it goes
	// onto media: who has lost everything else can get at the data with it.
	KeyFile func(chunkcrypt.Fingerprint) ([]byte, error)
	Now     func() time.Time

	Logf  func(format string, args ...any) // what is done
	Warnf func(format string, args ...any) // what failed and did not end the job
}

// Backup writes snapshots to the media of a pool. With an error, what was
// committed before counts.
func (w *World) Backup(ctx context.Context, p media.Pool, b Backup) (stats Stats, err error) {
	if err := w.UpdateOnline(ctx); err != nil {
		return stats, err
	}
	mw, err := w.State.Write(ctx, p, w.Station.ChangerName, w.Now(), b.ForceMediaSet)
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, mw.Close()) }()
	if why := mw.NewSet(); why != "" {
		w.logf("starting new media set %s: %s", mw.Set(), why)
	} else {
		w.logf("media set %s goes on", mw.Set())
	}
	set := &poolSet{
		state: w.State, w: mw, station: w.Station, keyFile: w.KeyFile, now: w.Now, logf: w.logf, warnf: w.warnf,
		namespaces: b.Namespaced(),
	}
	defer func() { err = errors.Join(err, set.close()) }()
	if err := set.load(); err != nil {
		return stats, err
	}
	run := &writing{Backup: b, set: set, logf: w.logf, warnf: w.warnf}
	err = run.run(ctx)
	if err != nil {
		return run.stats, err
	}
	switch {
	case b.ExportSet:
		err = w.exportSet(ctx, mw)
	case b.EjectMedia:
		err = w.Station.Unload(ctx, 0)
	}
	return run.stats, err
}

// exportSet moves the media of the set that was written to slots for export.
func (w *World) exportSet(ctx context.Context, mw *media.Writing) error {
	list, err := mw.Media()
	if err != nil {
		return err
	}
	if w.Station.Changer == nil {
		return w.Station.Eject(ctx)
	}
	var errs []error
	for _, m := range list {
		slot, err := w.Station.Export(ctx, m.Label.Text)
		switch {
		case errors.Is(err, tape.ErrNoSuchMedium):
			w.warnf("export medium %s: it is not in changer %s", m.Label.Text, w.Station.ChangerName)
		case err != nil:
			errs = append(errs, err)
		default:
			w.logf("exported medium %s to slot %d", m.Label.Text, slot)
		}
	}
	return errors.Join(errs...)
}

// UpdateOnline tells the inventory what the changer holds.
func (w *World) UpdateOnline(ctx context.Context) error {
	s := w.Station
	if s.Changer == nil {
		return nil
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	return w.State.UpdateOnline(ctx, map[string][]string{s.ChangerName: s.labels(st)})
}

// labels lists the media in a changer that are not on their way out.
func (s *Station) labels(st tape.ChangerStatus) []string {
	list := []string{}
	for _, d := range st.Drives {
		if d.Full && d.Label != "" {
			list = append(list, d.Label)
		}
	}
	for i, sl := range st.Slots {
		if sl.Full && sl.Label != "" && !s.isExport(st, i+1) {
			list = append(list, sl.Label)
		}
	}
	return list
}

// errLabelled is wrapped for a medium that is not to be labelled.
var errLabelled = errors.New("the medium is not empty; format it first")

// Label gives the empty medium in the drive a label, reserved for a pool if that
// is not "".
func (w *World) Label(ctx context.Context, text, pool string) (l tapefile.Label, err error) {
	d, err := w.Station.Open(ctx)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return w.label(ctx, d, text, pool)
}

func (w *World) label(ctx context.Context, d tape.Drive, text, pool string) (l tapefile.Label, err error) {
	inv, err := w.State.Inventory()
	if err != nil {
		return l, err
	}
	if m, err := inv.FindLabel(text); !errors.Is(err, media.ErrUnknownMedium) {
		if err == nil {
			err = fmt.Errorf("label %q is taken by medium %s", text, m.UUID())
		}
		return l, err
	}
	was, err := ReadLabels(ctx, d)
	switch {
	case errors.Is(err, ErrEmpty):
	case err == nil:
		return l, fmt.Errorf("found label %s: %w", was.Medium.Text, errLabelled)
	case errors.Is(err, tape.ErrForeign), isDamage(err), errors.Is(err, tape.ErrKey):
		return l, fmt.Errorf("%w: %w", errLabelled, err)
	default:
		return l, err
	}
	if l, err = writeLabel(ctx, d, text, pool, w.Now()); err != nil {
		return l, err
	}
	now, err := ReadLabels(ctx, d)
	if err != nil {
		return l, fmt.Errorf("read the label back: %w", err)
	}
	if now.Medium != l {
		return l, fmt.Errorf("the label was written, and another one is read: %+v", now.Medium)
	}
	c, err := w.State.NewCatalog(media.Medium{Label: l})
	if err != nil {
		return l, err
	}
	if err := c.Close(); err != nil {
		return l, err
	}
	if err := w.State.Store(ctx, l, nil, true); err != nil {
		return l, err
	}
	if marker, ok := d.(tape.Marker); ok {
		if err := marker.Mark(ctx, text, pool); err != nil {
			w.warnf("memory of cartridge %s: %v", text, err) // nothing depends on it
		}
	}
	w.logf("labelled medium %s (%s)", text, l.UUID)
	return l, w.UpdateOnline(ctx)
}

// BarcodeLabel gives every medium in the changer whose barcode is not known a
// label with that text. Cleaning media are left out, and so are media that are
// not empty: they are reported.
func (w *World) BarcodeLabel(ctx context.Context, pool string) (made []tapefile.Label, err error) {
	st, err := w.Station.status(ctx)
	if err != nil {
		return nil, err
	}
	inv, err := w.State.Inventory()
	if err != nil {
		return nil, err
	}
	for _, text := range sortedLabels(w.Station.labels(st)) {
		if _, err := inv.FindLabel(text); err == nil {
			w.logf("medium %s is known", text)
			continue
		}
		if err := w.Station.Bring(ctx, text); err != nil {
			w.warnf("%v", err)
			continue
		}
		l, err := w.Label(ctx, text, pool)
		if err != nil {
			if ctx.Err() != nil {
				return made, context.Cause(ctx)
			}
			w.warnf("medium %s: %v", text, err)
			continue
		}
		made = append(made, l)
	}
	return made, nil
}
