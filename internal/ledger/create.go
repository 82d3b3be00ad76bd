package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// Create begins a log whose first entry sets these keys. ErrExists: there is one.
// ErrConditions: the store cannot do what a log needs.
func Create(ctx context.Context, s objstore.Store, o Options, first map[string][]byte) error {
	l := &Ledger{s: s, opt: o.whole(), turn: make(chan struct{}, 1)}
	if err := l.conditions(ctx); err != nil {
		return err
	}
	for _, prefix := range []string{statePrefix, logPrefix} {
		list, err := l.list(ctx, prefix, "", 1)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			return fmt.Errorf("%w in %s", ErrExists, s.Location())
		}
	}
	e, _, err := decide(State{}, func(tx *Tx) error {
		for key, value := range first {
			tx.Set(key, value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.N, e.Set = 1, orEmpty(e.Set)
	made, err := l.append(ctx, State{}, e)
	if err == nil && !made {
		err = fmt.Errorf("%w in %s", ErrExists, s.Location())
	}
	return err
}

func orEmpty(m map[string]json.RawMessage) map[string]json.RawMessage {
	if m == nil {
		return map[string]json.RawMessage{}
	}
	return m
}

// conditions creates an object twice: the second time must fail. It is done under a key of
// its own, so that a store that cannot do it loses nothing.
func (l *Ledger) conditions(ctx context.Context) error {
	r, err := l.random()
	if err != nil {
		return err
	}
	key := fmt.Sprintf("%s%016x", clockPrefix, r)
	put := func(body string) error {
		_, err := l.s.Put(ctx, key, bytes.NewReader([]byte(body)), objstore.PutOptions{If: objstore.IfAbsent})
		return err
	}
	if err := put("first"); err != nil {
		return fmt.Errorf("nothing can be stored in %s: %w", l.s.Location(), err)
	}
	err = put("second") // something else, or it would pass for a repetition
	if derr := l.s.Delete(ctx, []string{key}); derr != nil && !errors.Is(derr, objstore.ErrDenied) {
		return fmt.Errorf("object %s in %s could not be removed: %w", key, l.s.Location(), derr)
	}
	switch {
	case err == nil:
		return fmt.Errorf("%s: %w", l.s.Location(), ErrConditions)
	case errors.Is(err, objstore.ErrPrecondition):
		return nil
	}
	return fmt.Errorf("whether %s refuses to create an object twice could not be found out: %w", l.s.Location(), err)
}
