package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
)

// decisions is how often an update is decided anew because somebody was faster.
const decisions = 100

// Update changes the state, and returns the number of the entry. The function decides what
// is changed from the state that it is given; it may run several times and must do nothing
// else. Its error ends the update and is returned as it is. Where it changes nothing,
// nothing is written, and the number is that of the last entry.
//
// Updates of one Ledger take turns. ErrUnknown: the change was made, or not, or will
// yet be made.
func (l *Ledger) Update(ctx context.Context, f func(*Tx) error) (seq uint64, err error) {
	if err := l.take(ctx); err != nil {
		return 0, err
	}
	defer l.give()
	for n := range decisions {
		s := l.Seen()
		e, changed, refusal := decide(s, f)
		if refusal == nil && changed {
			made, err := l.append(ctx, s, e)
			if made || err != nil {
				return e.N, err
			}
			if err := l.yield(ctx, n); err != nil {
				return 0, err
			}
		}
		if err := l.forward(ctx); err != nil {
			return 0, err
		}
		if (refusal != nil || !changed) && l.Seen().seq == s.seq {
			return s.seq, refusal
		}
	}
	return 0, fmt.Errorf("the log of %s was changed %d times while a change was being made: %w", l.s.Location(), decisions, ErrContended)
}

// decide runs f on s.
func decide(s State, f func(*Tx) error) (e entry, changed bool, err error) {
	tx := newTx(s)
	if err := f(tx); err != nil {
		return entry{}, false, err
	}
	if tx.err != nil {
		return entry{}, false, tx.err
	}
	e, changed = tx.entry()
	return e, changed, nil
}

// yield lets others go first, after the n-th time that somebody was faster.
func (l *Ledger) yield(ctx context.Context, n int) error {
	if n < 2 {
		return nil
	}
	r, err := l.random()
	if err != nil {
		return err
	}
	longest := min(time.Second, 10*time.Millisecond<<min(n, 10))
	return cancel.Sleep(ctx, time.Duration(r%uint64(longest)))
}
