package ledger

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// Trim removes what is so old that nobody asks for it. It keeps a sound checkpoint before the oldest
// entry that it keeps, so that [Ledger.Past] works for all of them. What the store
// does not let go of, because of credentials or a retention, stays.
func (l *Ledger) Trim(ctx context.Context) error {
	tip, err := l.list(ctx, logPrefix, "", 1)
	if err != nil || len(tip) == 0 {
		return err
	}
	states, err := l.list(ctx, statePrefix, "", -1)
	if err != nil {
		return err
	}
	for i, c := range states {
		if !l.aged(c, tip[0]) {
			continue
		}
		if _, err := l.checkpointed(ctx, c.n, c.n); err != nil {
			if _, corrupt := errors.AsType[*CorruptError](err); corrupt {
				continue
			}
			return err
		}
		entries, err := l.list(ctx, logPrefix, name(logPrefix, c.n+1), -1) // the oldest are last, and what came late
		if err != nil {
			return err
		}
		return l.remove(ctx, append(states[i+1:], entries...))
	}
	return nil
}

// aged reports whether entries up to this one may be removed.
func (l *Ledger) aged(c, tip numbered) bool {
	age := l.opt.Sizes.Age
	if r := l.opt.Retain(); !r.IsZero() {
		age = max(age, r.Until.Sub(l.opt.Now())) // younger ones are locked
	}
	return c.n+l.opt.Sizes.Behind <= tip.n && c.Modified.Add(age).Before(tip.Modified)
}

func (l *Ledger) remove(ctx context.Context, list []numbered) error {
	for len(list) > 0 {
		n := min(len(list), objstore.MaxDelete)
		keys := make([]string, n)
		for i, o := range list[:n] {
			keys[i] = o.Key
		}
		if err := l.s.Delete(ctx, keys); err != nil && !onlyDenied(err) {
			return l.unread(ctx, err)
		}
		list = list[n:]
	}
	return nil
}

// onlyDenied reports whether nothing but a refusal kept objects from being removed.
func onlyDenied(err error) bool {
	left, ok := errors.AsType[objstore.DeleteError](err)
	if !ok {
		return errors.Is(err, objstore.ErrDenied)
	}
	for _, reason := range left {
		if !errors.Is(reason, objstore.ErrDenied) {
			return false
		}
	}
	return true
}
