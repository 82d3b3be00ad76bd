// Package throttle holds a stream of bytes to a rate.
package throttle

import (
	"context"
	"math"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"golang.org/x/time/rate"
)

// minBurst is what passes at once however low the rate: below it the waits
// would be many and short.
const minBurst = 64 << 10

// Limiter lets a number of bytes a second pass, shared by everybody who waits
// on it. A nil Limiter lets everything pass.
type Limiter struct{ l *rate.Limiter }

// New returns a limiter, nil when bytesPerSecond is zero or less. What was not
// used is saved up for a tenth of a second at most.
func New(bytesPerSecond int64) *Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	burst := min(max(bytesPerSecond/10, minBurst), math.MaxInt32)
	return &Limiter{rate.NewLimiter(rate.Limit(bytesPerSecond), int(burst))}
}

// Wait returns when n more bytes may pass, or with the cause when ctx ends.
func (t *Limiter) Wait(ctx context.Context, n int) error {
	if t == nil {
		return nil
	}
	for n > 0 {
		k := min(n, t.l.Burst())
		n -= k
		r := t.l.ReserveN(time.Now(), k)
		if err := cancel.Sleep(ctx, r.Delay()); err != nil {
			r.Cancel()
			return err
		}
	}
	return nil
}
