package changer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// Timeouts of commands, and how long a changer that is not ready is waited for.
const (
	asking      = 5 * time.Minute
	stocktaking = 30 * time.Minute
	moving      = 45 * time.Minute
	patience    = 5 * time.Minute
	pause       = time.Second
	attentions  = 8
)

// waitReady waits until the changer is ready, and takes what it has to tell.
func (c *Changer) waitReady(ctx context.Context) error {
	for n := 1; ; n++ {
		err := c.busy(ctx, func() error { return scsi.CheckReady(c.t) })
		s, ok := scsi.AsSense(err)
		switch {
		case err == nil:
			return nil
		case !ok || s.Key != scsi.UnitAttention || n > attentions:
			return explain(err)
		}
	}
}

// busy repeats a command while the changer does not take it, which it says
// without beginning with it.
func (c *Changer) busy(ctx context.Context, do func() error) error {
	for start := time.Now(); ; {
		err := do()
		switch {
		case err == nil || !later(err):
			return err
		case time.Since(start) > patience:
			return fmt.Errorf("the changer was not ready after %v: %w", patience, err)
		}
		if stop := cancel.Sleep(ctx, pause); stop != nil {
			return errors.Join(stop, err)
		}
	}
}

// later reports whether a changer will take the command by and by.
func later(err error) bool {
	if s, ok := errors.AsType[*scsi.StatusError](err); ok {
		return s.Status == scsi.Busy || s.Status == scsi.TaskSetFull
	}
	s, ok := scsi.AsSense(err)
	return ok && s.Key == scsi.NotReady && (s.Code() == 0x0401 || s.Code() == 0x0407)
}
