package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
)

const (
	// stores is how often an entry is stored whose fate is unknown.
	stores = 6
	// pause is the wait before the second time; it doubles.
	pause = 100 * time.Millisecond
)

// append makes e the entry behind s. made is false when there is another one.
func (l *Ledger) append(ctx context.Context, s State, e entry) (made bool, err error) {
	f, body, err := l.sign(e)
	if err != nil {
		return false, err
	}
	if made, err := l.create(ctx, e.N, body); err != nil || !made {
		return false, err
	}
	if err := l.confirm(ctx, e.N); err != nil {
		return false, err
	}
	next, err := s.apply(f)
	if err != nil {
		return false, err
	}
	l.set(next)
	l.keep(ctx, next)
	return true, nil
}

// sign gives an entry a name of its own, and the bytes in which it is stored.
func (l *Ledger) sign(e entry) (fetched, []byte, error) {
	r, err := l.random()
	if err != nil {
		return fetched{}, nil, err
	}
	e.By = fmt.Sprintf("%s/%016x", l.opt.Who, r)
	e.At = l.opt.Now().UTC().Round(0)
	body, sum, err := e.format()
	return fetched{e, sum}, body, err
}

func (l *Ledger) random() (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(l.opt.Rand, b[:]); err != nil {
		return 0, fmt.Errorf("no random number can be had: %w", err)
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

// create stores entry n, or learns that another one is there.
func (l *Ledger) create(ctx context.Context, n uint64, body []byte) (made bool, err error) {
	sent := false // a request may have stored it, or may do so yet
	wait := pause
	for range stores {
		_, err = l.s.Put(ctx, name(logPrefix, n), bytes.NewReader(body), objstore.PutOptions{If: objstore.IfAbsent, Retain: l.opt.Retain()})
		switch busy, answered := outcome(err); {
		case err == nil:
			return true, nil
		case errors.Is(err, objstore.ErrPrecondition):
			// Even the first request may have met itself, if the network doubled it.
			there, gerr := l.is(ctx, n, body)
			if gerr == nil {
				return there, nil
			}
			if !errors.Is(gerr, objstore.ErrNotFound) {
				return false, l.unknown(n, gerr)
			}
			// Somebody's request that came to nothing was in the way, or it was trimmed
			// meanwhile: then the confirmation says so.
			sent, err = true, errThere
		case answered && !sent:
			return false, fmt.Errorf("entry %d of the log of %s could not be stored, nothing was changed: %w", n, l.s.Location(), err)
		case !busy && !answered:
			sent = true
			if there, gerr := l.is(ctx, n, body); gerr == nil {
				return there, nil
			}
		}
		if stop := cancel.Sleep(ctx, wait); stop != nil {
			err = errors.Join(stop, err)
			break
		}
		wait *= 2
	}
	if sent {
		return false, l.unknown(n, err)
	}
	return false, fmt.Errorf("entry %d of the log of %s could not be stored, nothing was changed: %w", n, l.s.Location(), err)
}

// errThere is a store that contradicts itself.
var errThere = errors.New("the store says that the object is there, and that it is not; " +
	"if that stays so, a crash of the engine has left what only its own tools remove")

// outcome reports whether an error of a Put says that nothing was done: for now, or as an answer.
func outcome(err error) (busy, answered bool) {
	_, busy = errors.AsType[*objstore.BusyError](err)
	for _, kind := range []error{objstore.ErrPrecondition, objstore.ErrDenied, objstore.ErrBucket, objstore.ErrKey} {
		answered = answered || errors.Is(err, kind)
	}
	return busy, answered
}

// is reports whether body is what is stored as entry n.
func (l *Ledger) is(ctx context.Context, n uint64, body []byte) (bool, error) {
	b, _, err := resume.ReadAll(ctx, l.s, name(logPrefix, n), maxEntry)
	return bytes.Equal(b, body), err
}

// confirm makes sure that entry n, which was created just now, was not created before
// by somebody else and trimmed.
func (l *Ledger) confirm(ctx context.Context, n uint64) error {
	newest, err := l.newest(ctx)
	if err == nil && newest >= n+l.opt.Sizes.Ahead {
		err = fmt.Errorf("this process slept while others made %d changes", newest-n)
	}
	if err != nil {
		return l.unknown(n, err)
	}
	return nil
}

// unknown is the error of a change whose fate is not known. The next look at the log is a
// thorough one.
func (l *Ledger) unknown(n uint64, err error) error {
	l.mu.Lock()
	l.looked = time.Time{}
	l.mu.Unlock()
	return fmt.Errorf("entry %d of the log of %s: %w: %w", n, l.s.Location(), ErrUnknown, err)
}
