package ledger

import (
	"context"
	"fmt"
	"time"
)

// Past is the state as it was at a time, by the clock of the store: for reading what
// somebody removed by mistake or malice. ErrNotFound: the log does not reach back that far.
func (l *Ledger) Past(ctx context.Context, at time.Time) (State, error) {
	entries, err := l.list(ctx, logPrefix, "", -1)
	if err != nil {
		return State{}, err
	}
	for len(entries) > 0 && entries[0].Modified.After(at) {
		entries = entries[1:]
	}
	states, err := l.list(ctx, statePrefix, "", -1)
	if err != nil {
		return State{}, err
	}
	if len(entries) == 0 {
		return State{}, fmt.Errorf("%w of %s in %s: what it has is younger", ErrNotFound, at.Format(time.RFC3339), l.s.Location())
	}
	for len(states) > 0 && states[0].n > entries[0].n {
		states = states[1:]
	}
	return l.build(ctx, states, entries[0].n)
}
