package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"golang.org/x/sync/errgroup"
)

// inFlight is how many entries are read at a time.
const inFlight = 16

// fetched is an entry as it was read.
type fetched struct {
	entry
	sum digest.Digest
}

// get reads entry n. ErrNotFound of objstore: it is not there.
func (l *Ledger) get(ctx context.Context, n uint64) (fetched, error) {
	b, _, err := resume.ReadAll(ctx, l.s, name(logPrefix, n), maxEntry)
	if err != nil {
		return fetched{}, l.unread(ctx, err)
	}
	e, sum, err := parseEntry(b, n)
	if err != nil {
		return fetched{}, corruptEntry(n, err)
	}
	return fetched{e, sum}, nil
}

func (l *Ledger) unread(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, objstore.ErrNotFound):
		return err
	}
	return fmt.Errorf("the log could not be read: %w", err)
}

func corruptEntry(n uint64, err error) error {
	return &CorruptError{fmt.Sprintf("entry %d of the log", n), err}
}

// apply is the state after e, which must follow on s.
func (s State) apply(f fetched) (State, error) {
	if f.Prev != s.sum {
		return State{}, corruptEntry(f.N, errors.New("it was not made after the entry before it; entries were lost, and others made in their place"))
	}
	return s.with(f.entry, f.sum), nil
}

// errGone is an entry that must be there and is not. It may have been trimmed since it was
// heard of.
var errGone = errors.New("it is gone")

// follow applies all entries up to number to.
func (l *Ledger) follow(ctx context.Context, s State, to uint64) (State, error) {
	for s.seq < to {
		list := make([]fetched, min(to-s.seq, 4*inFlight))
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(inFlight)
		for i := range list {
			g.Go(func() (err error) {
				n := s.seq + 1 + uint64(i)
				if list[i], err = l.get(gctx, n); errors.Is(err, objstore.ErrNotFound) {
					return corruptEntry(n, errGone)
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return State{}, err
		}
		for _, f := range list {
			next, err := s.apply(f)
			if err != nil {
				return State{}, err
			}
			s = next
		}
	}
	return s, nil
}

// newest is the highest number of an entry that a listing has; 0: none.
func (l *Ledger) newest(ctx context.Context) (uint64, error) {
	list, err := l.list(ctx, logPrefix, "", 1)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[0].n, nil
}

// numbered is an object of the log.
type numbered struct {
	n uint64
	objstore.Info
}

// list gives objects below a prefix, the newest first. What does not belong there is
// left out.
func (l *Ledger) list(ctx context.Context, prefix, after string, limit int) (list []numbered, err error) {
	for i, err := range objstore.All(ctx, l.s, prefix, after) {
		if err != nil {
			return nil, l.unread(ctx, err)
		}
		if n, ok := number(prefix, i.Key); ok {
			list = append(list, numbered{n, i})
		}
		if len(list) == limit {
			break
		}
	}
	return list, nil
}
