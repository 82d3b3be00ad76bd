package job

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// Station is a drive, and what brings media to it.
type Station struct {
	Name string // of the drive
	// Open opens the drive with the medium that is in it.
	Open func(ctx context.Context) (tape.Drive, error)

	Changer     tape.Changer // nil: people change media
	ChangerName string
	Number      int   // of the drive in the changer, from 0
	Exports     []int // slots that count as import and export besides
	EjectFirst  bool  // the drive has to eject a medium before the changer can take it

	// Ask is called with what people have to do, each time that changes; it may
	// send a message. May be nil.
	Ask  func(what string)
	Logf func(format string, args ...any) // may be nil
	// Sleep waits, or returns early with the context's cause; nil: as it is.
	Sleep func(context.Context, time.Duration) error
}

func (s *Station) logf(format string, args ...any) {
	if s.Logf != nil {
		s.Logf(format, args...)
	}
}

// Where is the place that people put media into, for messages.
func (s *Station) Where() string {
	if s.Changer != nil {
		return fmt.Sprintf("changer %q", s.ChangerName)
	}
	return fmt.Sprintf("drive %q", s.Name)
}

// loadEvery is how long Load waits between two attempts.
const loadEvery = 5 * time.Second

// Load brings a medium into the drive and opens it. What is wrong is told each
// time it changes, and tried again until it is right or ctx ends.
func (s *Station) Load(ctx context.Context, text string, id uuid.UUID) (tape.Drive, Labels, error) {
	told := ""
	for {
		d, l, err := s.try(ctx, text, id)
		if err == nil {
			s.logf("medium %s (%s) is in the drive", l.Medium.Text, l.Medium.UUID)
			return d, l, nil
		}
		if ctx.Err() != nil {
			return nil, Labels{}, context.Cause(ctx)
		}
		if problem := err.Error(); problem != told {
			told = problem
			s.logf("%s", problem)
			what := fmt.Sprintf("medium %s is wanted in %s: insert it", text, s.Where())
			s.logf("%s", what)
			if s.Ask != nil {
				s.Ask(what)
			}
		}
		if err := s.sleep(ctx, loadEvery); err != nil {
			return nil, Labels{}, err
		}
	}
}

func (s *Station) sleep(ctx context.Context, d time.Duration) error {
	if s.Sleep != nil {
		return s.Sleep(ctx, d)
	}
	return cancel.Sleep(ctx, d)
}

func (s *Station) try(ctx context.Context, text string, id uuid.UUID) (_ tape.Drive, _ Labels, err error) {
	if s.Changer != nil {
		if err := s.Bring(ctx, text); err != nil {
			return nil, Labels{}, err
		}
	}
	d, err := s.Open(ctx)
	if err != nil {
		return nil, Labels{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	l, err := ReadLabels(ctx, d)
	switch {
	case errors.Is(err, ErrEmpty):
		return nil, Labels{}, errors.New("found an empty medium, which has no label")
	case errors.Is(err, tape.ErrForeign):
		return nil, Labels{}, fmt.Errorf("found a medium that somebody else wrote: %w", err)
	case err != nil:
		return nil, Labels{}, err
	case l.Medium.UUID != id:
		return nil, Labels{}, fmt.Errorf("found medium %s (%s), which is another one", l.Medium.Text, l.Medium.UUID)
	}
	return d, l, nil
}

// element is where a medium is.
type element struct {
	slot, drive int // the one that is not -1
}

// find looks for a medium by its barcode.
func (s *Station) find(st tape.ChangerStatus, text string) (element, bool) {
	for i, d := range st.Drives {
		if d.Full && d.Label == text {
			return element{-1, i}, true
		}
	}
	for i, sl := range st.Slots {
		if sl.Full && sl.Label == text {
			return element{i + 1, -1}, true
		}
	}
	return element{}, false
}

// isExport reports whether media of a slot are on their way out or in.
func (s *Station) isExport(st tape.ChangerStatus, slot int) bool {
	if st.Slots[slot-1].ImportExport {
		return true
	}
	for _, n := range s.Exports {
		if n == slot {
			return true
		}
	}
	return false
}

// Bring puts the medium with a barcode into the drive, which must be closed.
func (s *Station) Bring(ctx context.Context, text string) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	at, ok := s.find(st, text)
	switch {
	case !ok:
		return fmt.Errorf("medium %s is not in changer %s: %w", text, s.ChangerName, tape.ErrNoSuchMedium)
	case at.drive == s.Number:
		return nil
	case at.drive >= 0:
		return fmt.Errorf("medium %s is in drive %d of changer %s, not in drive %d", text, at.drive, s.ChangerName, s.Number)
	case s.isExport(st, at.slot):
		return fmt.Errorf("medium %s is in slot %d of changer %s, which is for import and export", text, at.slot, s.ChangerName)
	}
	return s.exchange(ctx, st, at.slot)
}

// BringSlot puts the medium of a slot into the drive.
func (s *Station) BringSlot(ctx context.Context, slot int) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if slot < 1 || slot > len(st.Slots) {
		return fmt.Errorf("slot %d of changer %s, which has %d: %w", slot, s.ChangerName, len(st.Slots), tape.ErrNoSuchSlot)
	}
	if !st.Slots[slot-1].Full {
		return fmt.Errorf("slot %d of changer %s: %w", slot, s.ChangerName, tape.ErrNoMedium)
	}
	return s.exchange(ctx, st, slot)
}

// exchange loads from a slot after the drive was emptied.
func (s *Station) exchange(ctx context.Context, st tape.ChangerStatus, slot int) error {
	if st.Drives[s.Number].Full {
		to, err := s.home(st)
		if err != nil {
			return err
		}
		if err := s.takeOut(ctx, s.Number, to); err != nil {
			return err
		}
	}
	if err := s.Changer.Load(ctx, slot, s.Number); err != nil {
		return fmt.Errorf("load slot %d into drive %s: %w", slot, s.Name, err)
	}
	return nil
}

func (s *Station) status(ctx context.Context) (tape.ChangerStatus, error) {
	if s.Changer == nil {
		return tape.ChangerStatus{}, fmt.Errorf("drive %s has no changer: %w", s.Name, tape.ErrUnsupported)
	}
	st, err := s.Changer.Status(ctx)
	if err != nil {
		return st, fmt.Errorf("changer %s: %w", s.ChangerName, err)
	}
	if s.Number >= len(st.Drives) {
		return st, fmt.Errorf("changer %s has %d drives and no drive %d", s.ChangerName, len(st.Drives), s.Number)
	}
	return st, nil
}

// home is the slot for the medium in the drive: that it came from, or else any
// free one.
func (s *Station) home(st tape.ChangerStatus) (int, error) {
	free := func(slot int) bool { return !st.Slots[slot-1].Full && !s.isExport(st, slot) }
	if from := st.Drives[s.Number].From; from >= 1 && from <= len(st.Slots) && free(from) {
		return from, nil
	}
	for slot := 1; slot <= len(st.Slots); slot++ {
		if free(slot) {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("changer %s has no free slot for the medium in drive %s", s.ChangerName, s.Name)
}

// Unload takes the medium out of the drive: into a slot, if it is not 0, else
// where it belongs. An empty drive is left as it is. The drive must be closed.
func (s *Station) Unload(ctx context.Context, slot int) error {
	if s.Changer == nil {
		return s.Eject(ctx)
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if !st.Drives[s.Number].Full {
		return nil
	}
	if slot == 0 {
		if slot, err = s.home(st); err != nil {
			return err
		}
	}
	return s.takeOut(ctx, s.Number, slot)
}

// takeOut brings the medium of a drive into a slot.
func (s *Station) takeOut(ctx context.Context, drive, slot int) error {
	if s.EjectFirst && drive == s.Number {
		if err := s.Eject(ctx); err != nil {
			return fmt.Errorf("eject from drive %s: %w", s.Name, err)
		}
	}
	if err := s.Changer.Unload(ctx, drive, slot); err != nil {
		return fmt.Errorf("unload drive %d of changer %s into slot %d: %w", drive, s.ChangerName, slot, err)
	}
	return nil
}

// Eject makes the drive give its medium out.
func (s *Station) Eject(ctx context.Context) error {
	d, err := s.Open(ctx)
	if errors.Is(err, tape.ErrNoMedium) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(d.Eject(ctx), d.Close())
}

// Export moves the medium with a barcode to a free slot for import and export,
// and returns that slot. The drive must be closed.
func (s *Station) Export(ctx context.Context, text string) (int, error) {
	st, err := s.status(ctx)
	if err != nil {
		return 0, err
	}
	at, ok := s.find(st, text)
	if !ok {
		return 0, fmt.Errorf("medium %s is not in changer %s: %w", text, s.ChangerName, tape.ErrNoSuchMedium)
	}
	if at.drive < 0 && s.isExport(st, at.slot) {
		return at.slot, nil
	}
	for slot := 1; slot <= len(st.Slots); slot++ {
		if !s.isExport(st, slot) || st.Slots[slot-1].Full {
			continue
		}
		if at.drive >= 0 {
			err = s.takeOut(ctx, at.drive, slot)
		} else {
			err = s.Changer.Transfer(ctx, at.slot, slot)
		}
		if err != nil {
			return 0, fmt.Errorf("move medium %s to slot %d: %w", text, slot, err)
		}
		return slot, nil
	}
	return 0, fmt.Errorf("changer %s has no free slot for export", s.ChangerName)
}
