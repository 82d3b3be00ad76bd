package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"golang.org/x/sync/errgroup"
)

// loads is how often a state is looked for while others trim the log.
const loads = 4

// load finds the state without the one in memory.
func (l *Ledger) load(ctx context.Context) error {
	var err error
	for range loads {
		if err = l.cold(ctx); err == nil {
			err = l.onward(ctx)
		}
		if !errors.Is(err, errGone) {
			return err
		}
	}
	return err
}

// cold reads the newest state that listings know of.
func (l *Ledger) cold(ctx context.Context) error {
	begin := l.opt.Now()
	var states []numbered
	var newest uint64
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		states, err = l.list(gctx, statePrefix, "", objstore.MaxDelete)
		return err
	})
	g.Go(func() (err error) {
		newest, err = l.newest(gctx)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if newest == 0 && len(states) == 0 {
		return fmt.Errorf("%w in %s", ErrNotFound, l.s.Location())
	}
	s, err := l.build(ctx, states, newest)
	if err != nil {
		return err
	}
	l.set(s)
	l.look(begin)
	return nil
}

// build makes the state after entry n from the newest checkpoint that helps. An older one
// serves where one is damaged.
func (l *Ledger) build(ctx context.Context, states []numbered, n uint64) (State, error) {
	var bad error // why an older one is used
	for _, c := range states {
		s, err := l.checkpointed(ctx, c.n, n)
		if err == nil {
			return s, nil
		}
		if _, corrupt := errors.AsType[*CorruptError](err); !corrupt {
			return State{}, err
		}
		bad = errors.Join(bad, err)
	}
	s, err := l.follow(ctx, State{}, n) // before the first entry there is nothing
	if _, corrupt := errors.AsType[*CorruptError](err); corrupt && bad != nil {
		return State{}, bad
	}
	return s, err
}

// checkpointed is the state after entry n, or that of the checkpoint after entry c, if it is
// newer.
func (l *Ledger) checkpointed(ctx context.Context, c, n uint64) (State, error) {
	corrupt := func(err error) error {
		return &CorruptError{fmt.Sprintf("the checkpoint after entry %d of the log", c), err}
	}
	b, _, err := resume.ReadAll(ctx, l.s, name(statePrefix, c), maxCheckpoint)
	switch {
	case errors.Is(err, objstore.ErrNotFound):
		return State{}, corrupt(errGone)
	case err != nil:
		return State{}, l.unread(ctx, err)
	}
	s, err := parseCheckpoint(b, c)
	if err != nil {
		return State{}, corrupt(err)
	}
	return l.follow(ctx, s, n)
}
