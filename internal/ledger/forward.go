package ledger

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// asleep is how long one can not have looked before it proves nothing that the
// next number is absent: it may have been trimmed. Entries live much longer.
const asleep = time.Minute

// next reads the entry behind s. found is false when there was none at a moment after
// the call.
func (l *Ledger) next(ctx context.Context, s State) (f fetched, found bool, err error) {
	begin := l.opt.Now()
	f, err = l.get(ctx, s.seq+1)
	if err != nil && !errors.Is(err, objstore.ErrNotFound) {
		return f, false, err
	}
	found = err == nil
	if l.slept() {
		newest, err := l.newest(ctx)
		if err != nil {
			return f, false, err
		}
		// Not there, it may have been trimmed; there, it may have been made after that.
		if !found && newest > s.seq || newest > s.seq+l.opt.Sizes.Ahead {
			return f, false, corruptEntry(s.seq+1, errGone)
		}
	}
	l.look(begin)
	return f, found, nil
}

// slept reports whether the log may have been trimmed behind the state in memory, by
// the clock that runs while the machine does and by the one that people set.
func (l *Ledger) slept() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.opt.Now()
	awake, wall := now.Sub(l.looked), now.Round(0).Sub(l.looked.Round(0))
	return awake >= asleep || wall >= asleep || wall < 0
}

// look notes that at t nothing behind the state in memory had been trimmed.
func (l *Ledger) look(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.After(l.looked) {
		l.looked = t
	}
}

// forward reads all that is behind the state in memory. Who calls it has the turn.
func (l *Ledger) forward(ctx context.Context) error {
	err := l.onward(ctx)
	if errors.Is(err, errGone) {
		return l.load(ctx)
	}
	return err
}

// onward asks for number after number until one is not there. Where there are more than a few
// a listing says how many.
func (l *Ledger) onward(ctx context.Context) error {
	for i := 1; ; i++ {
		s := l.Seen()
		f, found, err := l.next(ctx, s)
		if err != nil || !found {
			return err
		}
		if s, err = s.apply(f); err != nil {
			return err
		}
		l.set(s)
		if i >= 2 && i&(i-1) == 0 { // rarely, where the listing does not know them yet
			if err := l.leap(ctx); err != nil {
				return err
			}
		}
	}
}

// leap reads what a listing says to be there: the entries side by side, or a checkpoint where
// that is less.
func (l *Ledger) leap(ctx context.Context) error {
	s := l.Seen()
	newest, err := l.newest(ctx)
	switch {
	case err != nil || newest <= s.seq:
		return err
	case newest-s.seq > 2*l.opt.Sizes.Checkpoint:
		return l.cold(ctx)
	}
	if s, err = l.follow(ctx, s, newest); err != nil {
		return err
	}
	l.set(s)
	return nil
}
