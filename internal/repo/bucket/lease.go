package bucket

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// lease tells others that a session lives.
type lease struct {
	repo   *Repository
	number catalog.Number
	stop   context.CancelFunc
	done   chan struct{}
	signs  uint32 // that may have been given
}

// hold begins to give signs of life, until the lease is let go of.
func (r *Repository) hold(n catalog.Number) *lease {
	ctx, stop := context.WithCancel(context.Background())
	l := &lease{repo: r, number: n, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.beat(ctx)
	}()
	return l
}

// beat gives a sign of life four times in the time that the lease lasts. One that
// fails is not mourned: the next comes, and whether the session still counts is
// decided where it succeeds.
func (l *lease) beat(ctx context.Context) {
	for cancel.Sleep(ctx, l.repo.opt.Lease/4) == nil {
		_, _ = l.repo.store.Put(ctx, catalog.LeaseKey(l.number, l.signs), bytes.NewReader(nil), objstore.PutOptions{If: objstore.IfAbsent}) // see above
		l.signs++
	}
}

// end stops the signs, and returns the keys of those that may be there.
func (l *lease) end() (keys []string) {
	l.stop()
	<-l.done
	for i := range l.signs {
		keys = append(keys, catalog.LeaseKey(l.number, i))
	}
	return keys
}

// over reports whether a session is known to be dead, or its lease to have run out;
// if not it says when that will be, by the clock of the store.
func (r *Repository) over(ctx context.Context, s catalog.Running) (bool, time.Time, error) {
	if r.opt.Dead(s.Process) {
		return true, time.Time{}, nil
	}
	last, err := r.lastSign(ctx, s.Number)
	if err != nil {
		return false, time.Time{}, fmt.Errorf("look for signs of life of session %s: %w", s.Number, err)
	}
	now, err := r.clock(ctx)
	if err != nil {
		return false, time.Time{}, fmt.Errorf("ask the store what time it is: %w", err)
	}
	until := last.Add(s.LeaseTime())
	return now.After(until), until, nil
}

// lastSign is when a session gave its last sign of life.
func (r *Repository) lastSign(ctx context.Context, n catalog.Number) (last time.Time, err error) {
	for i, err := range objstore.All(ctx, r.store, catalog.LeaseDir(n), "") {
		if err != nil {
			return last, err
		}
		if i.Modified.After(last) {
			last = i.Modified
		}
	}
	if !last.IsZero() {
		return last, nil
	}
	// The entry that began it, or the oldest that is left of the log: that came later.
	for i, err := range objstore.All(ctx, r.store, "log/", "") {
		if err != nil {
			return last, err
		}
		if i.Key > entryKey(n) { // older ones
			break
		}
		last = i.Modified
	}
	if last.IsZero() {
		return last, errors.New("the log has no entries")
	}
	return last, nil
}

// entryKey is the key of the log's entry n.
func entryKey(n catalog.Number) string { return fmt.Sprintf("log/%016x", math.MaxUint64-uint64(n)) }

// clock is the time by the clock of the store.
func (r *Repository) clock(ctx context.Context) (time.Time, error) {
	var id [8]byte
	if _, err := io.ReadFull(r.opt.Rand, id[:]); err != nil {
		return time.Time{}, err
	}
	key := "clock/" + hex.EncodeToString(id[:])
	if _, err := r.store.Put(ctx, key, bytes.NewReader(nil), objstore.PutOptions{}); err != nil {
		return time.Time{}, err
	}
	info, err := r.store.Stat(ctx, key)
	_ = r.store.Delete(ctx, []string{key}) // whoever has no right to remove leaves it to a collection
	return info.Modified, err
}
