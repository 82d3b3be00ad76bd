// Package ledger is a map from keys to JSON values that any number of processes
// share through an object store, with nothing else between them. Changes are
// transactions: each is made whole or not at all, all have one order, and each
// was decided from the state that its predecessor left. It knows nothing of
// backups.
//
// # Objects
//
//	log/<16 hex>    entry N, under 2^64-1-N, so that a listing gives the newest first
//	state/<16 hex>  a checkpoint: what all entries up to N made
//	clock/<random>  written twice and removed, to see whether the store can do this
//
// Entries and checkpoints are never replaced. Entries begin with 1 and leave out no number.
//
// An entry is two lines. The first is JSON:
//
//	{"n":<N>,"prev":"<64 hex>","by":"<who>/<random>","at":"<time>","set":{"<key>":<value>,...},"del":["<key>",...]}
//
// The second is the SHA-256 of the first in hex, without the line's end. prev is
// that of the entry before, zeros in the first: so an entry that was lost, or made anew
// after others had been built on it, is noticed. by is different for each try.
//
// A checkpoint is, with integers in little endian:
//
//	offset  size  field
//	0       8     HFSTATE1
//	8       8     N
//	16      8     bytes of the records
//	24      32    SHA-256 of entry N
//	56      32    SHA-256 of what comes before, and of the records
//	88      -     the records, in zstd frames
//
// A record is the length of a key, the key, the length of a value, the value; the
// lengths as in encoding/binary's Uvarint, the keys ascending.
//
// # Reading
//
// The state of a Ledger is kept in memory, and [Ledger.View] asks whether the next
// number is there: a store answers that with what it has, even where its listings
// lag. What is far behind is found by listing, and read side by side, from the newest
// checkpoint that is sound.
//
// # Writing
//
// An update is decided from the state in memory and creates the next number under
// the condition that nobody has. If somebody did, it reads on and decides
// again. When the answer is lost it stores the same bytes again until it knows whose
// entry it is. So an entry of its own is known again even when an old request arrives
// late.
//
// A decision that changes nothing, or fails, is only told when the state that it was
// taken from was the newest after it began.
//
// # Trimming
//
// [Ledger.Trim] removes entries that are both 8,192 numbers and a day older than the
// newest, by the clock of the store, and lie before a sound checkpoint that is as old.
// A process that slept meanwhile could create such a number anew. So whoever created an entry lists the
// newest: if that is 4,096 or more ahead, nobody can tell whether the entry counts: [ErrUnknown]. The distance between the
// two numbers is how far a listing may lag. And to who has not looked for a minute the next number proves nothing,
// neither that it is not there nor that it is, without a listing of the newest.
//
// # Errors
//
// [ErrNotFound] is a store without a log, [ErrUnknown] an update of which nobody knows
// whether it was made, [*CorruptError] a log or a checkpoint without which the state
// cannot be known. Everything else is the store's own error: it could not be found
// out. A request that fails is not repeated here, except to learn what became of
// an entry: that is what objstore/retry is for. What breaks while it is read is read on.
//
// # Memory
//
// All of the state, once for each process; copies share what they have in common. Twice that and the bytes of
// a checkpoint while one is read or written.
package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// The kinds of failure that callers tell apart.
var (
	ErrNotFound   = errors.New("there is no log")
	ErrExists     = errors.New("there is a log already")
	ErrUnknown    = errors.New("nobody knows whether the change was made")
	ErrContended  = errors.New("others were always faster")
	ErrConditions = errors.New("the object store lets two writers create the same object (it does not know If-None-Match), so nothing could be shared in it safely")
)

// CorruptError is a part of the log that is not what it should be.
type CorruptError struct {
	What string // "entry 17 of the log"
	Err  error
}

func (e *CorruptError) Error() string { return fmt.Sprintf("%s is corrupt: %v", e.What, e.Err) }
func (e *CorruptError) Unwrap() error { return e.Err }

// Options say who works on a log, and with what.
type Options struct {
	Who    string                    // "<host>/<pid>", for people
	Now    func() time.Time          // nil: time.Now
	Rand   io.Reader                 // nil: the system's
	Retain func() objstore.Retention // object lock of what is written; nil: none
	Sizes  Sizes                     // zero: those of the format
}

// Sizes are the numbers of the protocol. All who share a log must have the same.
type Sizes struct {
	Checkpoint uint64        // entries from one checkpoint to the next
	Ahead      uint64        // so far ahead of an entry just made, another says that it may be void
	Behind     uint64        // entries that are trimmed are so far behind the newest; more than Ahead
	Age        time.Duration // and so much older
}

// Usual are the sizes of the format.
var Usual = Sizes{Checkpoint: 64, Ahead: 4096, Behind: 8192, Age: 24 * time.Hour}

func (o Options) whole() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Retain == nil {
		o.Retain = func() objstore.Retention { return objstore.Retention{} }
	}
	if o.Sizes == (Sizes{}) {
		o.Sizes = Usual
	}
	return o
}

// Ledger is a log that is open. All methods are safe for concurrent use.
type Ledger struct {
	s   objstore.Store
	opt Options

	// turn is held by the one that reads forward or writes. It is a channel because waiting
	// for it ends with a context.
	turn chan struct{}

	mu     sync.Mutex
	at     State     // the newest that was seen
	looked time.Time // when nothing newer was seen
}

// Open reads the state. ErrNotFound: there is no log.
func Open(ctx context.Context, s objstore.Store, o Options) (*Ledger, error) {
	l := &Ledger{s: s, opt: o.whole(), turn: make(chan struct{}, 1)}
	if err := l.load(ctx); err != nil {
		return nil, err
	}
	return l, nil
}

// Seen is the state as it was when somebody looked last. It asks nobody.
func (l *Ledger) Seen() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}

// View is the state as it is now: all changes are in it that were acknowledged
// to anybody before the call. It is one request when nothing changed.
func (l *Ledger) View(ctx context.Context) (State, error) {
	seen := l.Seen()
	switch _, found, err := l.next(ctx, seen); {
	case err != nil && !errors.Is(err, errGone):
		return State{}, err
	case err == nil && !found:
		return seen, nil
	}
	if err := l.take(ctx); err != nil {
		return State{}, err
	}
	defer l.give()
	if err := l.forward(ctx); err != nil {
		return State{}, err
	}
	return l.Seen(), nil
}

// Recent is like View, but asks nobody when the state was the newest at a moment not
// longer ago than age.
func (l *Ledger) Recent(ctx context.Context, age time.Duration) (State, error) {
	l.mu.Lock()
	s, ago := l.at, l.opt.Now().Sub(l.looked)
	l.mu.Unlock()
	if ago >= 0 && ago < age {
		return s, context.Cause(ctx)
	}
	return l.View(ctx)
}

// take waits for the turn.
func (l *Ledger) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Ledger) give() { <-l.turn }

// set makes s the state, if it is newer.
func (l *Ledger) set(s State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.seq > l.at.seq {
		l.at = s
	}
}
