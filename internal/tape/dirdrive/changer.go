package dirdrive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/drivelock"
)

// magazine is the size of a magazine: there is a whole number of them.
const magazine = 8

// Changer is the magazine of a directory.
type Changer struct{ dir dir }

var _ tape.Changer = (*Changer)(nil)

// NewChanger returns the changer of a directory.
func NewChanger(path string) *Changer { return &Changer{dir(path)} }

// Status lists the tapes of the directory.
func (c *Changer) Status(context.Context) (tape.ChangerStatus, error) {
	labels, err := c.dir.labels()
	if err != nil {
		return tape.ChangerStatus{}, err
	}
	s, err := c.dir.status()
	if err != nil {
		return tape.ChangerStatus{}, err
	}
	out := tape.ChangerStatus{
		Drives: make([]tape.DriveElement, 1),
		Slots:  make([]tape.Slot, (len(labels)/magazine+1)*magazine),
	}
	for i, l := range labels {
		out.Slots[i].Content = tape.Content{Full: true, Label: l}
	}
	if s.Tape != nil {
		out.Drives[0].Content = tape.Content{Full: true, Label: s.Tape.Name}
		if i, ok := slices.BinarySearch(labels, s.Tape.Name); ok {
			out.Drives[0].From = i + 1
			out.Slots[i].Content = tape.Content{}
		}
	}
	return out, nil
}

// Load puts the tape of a slot into the drive.
func (c *Changer) Load(ctx context.Context, slot, drive int) error {
	labels, err := c.dir.labels()
	if err != nil {
		return err
	}
	switch {
	case drive != 0:
		return fmt.Errorf("a directory has one drive, not a drive %d", drive)
	case slot < 1 || slot > (len(labels)/magazine+1)*magazine:
		return fmt.Errorf("slot %d: %w", slot, tape.ErrNoSuchSlot)
	case slot > len(labels):
		return fmt.Errorf("slot %d: %w", slot, tape.ErrNoMedium)
	}
	return c.change(ctx, func(s status) (status, error) {
		if s.Tape != nil {
			return s, fmt.Errorf("%s is in the drive already", s.Tape.Name)
		}
		return status{&loaded{Name: labels[slot-1]}}, nil
	})
}

// Unload puts the tape back, to where its label belongs whatever the slot.
func (c *Changer) Unload(ctx context.Context, drive, _ int) error {
	if drive != 0 {
		return fmt.Errorf("a directory has one drive, not a drive %d", drive)
	}
	return c.change(ctx, func(s status) (status, error) {
		if s.Tape == nil {
			return s, tape.ErrNoMedium
		}
		return status{}, nil
	})
}

// Transfer cannot be done: the order of labels is the order of slots.
func (c *Changer) Transfer(context.Context, int, int) error {
	return fmt.Errorf("moving tapes between the slots of a directory: %w", tape.ErrUnsupported)
}

// Insert puts a new, empty tape into the magazine.
func (c *Changer) Insert(ctx context.Context, label string) error {
	if err := goodLabel(label); err != nil {
		return err
	}
	return c.locked(ctx, func() error {
		if _, err := c.dir.index(label); !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				err = fmt.Errorf("tape %s: %w", label, fs.ErrExist)
			}
			return err
		}
		return c.dir.setIndex(label, index{})
	})
}

// Close does nothing.
func (c *Changer) Close() error { return nil }

// change moves a tape.
func (c *Changer) change(ctx context.Context, f func(status) (status, error)) error {
	return c.locked(ctx, func() error {
		s, err := c.dir.status()
		if err != nil {
			return err
		}
		if s, err = f(s); err != nil {
			return err
		}
		return c.dir.setStatus(s)
	})
}

func (c *Changer) locked(ctx context.Context, f func() error) error {
	l, err := drivelock.Take(ctx, c.dir.path(lockFile))
	if err != nil {
		return err
	}
	return errors.Join(f(), l.Unlock())
}
