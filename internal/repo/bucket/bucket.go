// Package bucket is a repository in an object store, which any number of
// processes share with nothing else between them. docs/formats/bucket.md says what
// lies there and why it is safe; internal/repo/bucket/catalog decides.
//
// # Rooms
//
// catalog has the records and the decisions, reading opens snapshots, lookup
// finds chunks in the indexes, collect removes what nobody needs, extsort sorts
// what does not fit into memory, process names who runs a session. Here is what
// ties them together, and what writes.
//
// # A backup
//
// Its beginning is an entry of the log. Chunks are copied into packs in the order
// in which they come; [repo.Session.Put] returns when that is done, and a full
// pack is stored while others are filled. At the end the last pack, the index of
// the new chunks and the object of the snapshot are stored side by side, and another
// entry makes the snapshot visible. So a small backup takes five writes, and
// one that has nothing new takes three.
//
// A failed or aborted session is ended by an entry, and what it stored is
// removed. Who has no right to remove leaves it to a garbage collection.
//
// # Leases
//
// A session says four times in the time of its lease that it lives. One in the way
// that says nothing for longer, or whose process on this host is dead, is ended by
// whoever wants to begin. It then fails in Finish, because that needs its record.
//
// # Memory
//
// For a session: the packs that are filled or on their way, which are
// Options.Uploads+1 times the size of a pack (168 MiB); what is known of its
// chunks, 48 MiB at most; 24 MiB for sorting, and at its end 40 bytes for each pack of
// the snapshot. Everything else is in temporary files. For a repository: its
// state.
//
// # Errors
//
// Those of internal/repo. A [*catalog.LockedError] says whose session is in the
// way; [catalog.ErrFenced] is a session that others ended, [catalog.ErrRemoved]
// one whose chunks were removed. [ledger.ErrUnknown] is a change of which nobody
// knows whether it was made.
package bucket

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/lookup"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/process"
)

// Options configure an open repository; the zero value is right for use.
type Options struct {
	Location string // for people; "": the store's
	// Engine is what verifications read from: the store without a cache that may be
	// around it. nil: the store.
	Engine objstore.Store

	At      time.Time     // as it was then, for reading only; zero: as it is
	Recent  time.Duration // what was the newest state so short a time ago is read from without a question
	Lease   time.Duration // default DefaultLease
	Uploads int           // packs on their way at a time, default 2

	Process catalog.Process            // who we are; zero: this process
	Dead    func(catalog.Process) bool // nil: process.Dead
	Now     func() time.Time           // nil: time.Now
	Rand    io.Reader                  // nil: the system's
	Log     ledger.Sizes               // zero: those of the format; others are for simulations, in which all have the same
}

// DefaultLease is how long a session lives without a sign of life.
const DefaultLease = 10 * time.Minute

const defaultUploads = 2

func (o Options) whole(s objstore.Store) Options {
	if o.Location == "" {
		o.Location = s.Location()
	}
	if o.Engine == nil {
		o.Engine = s
	}
	if o.Lease == 0 {
		o.Lease = DefaultLease
	}
	if o.Uploads == 0 {
		o.Uploads = defaultUploads
	}
	if o.Process == (catalog.Process{}) {
		o.Process = process.Self()
	}
	if o.Dead == nil {
		o.Dead = process.Dead
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	return o
}

// Repository is an open repository. It is safe for concurrent use.
type Repository struct {
	store objstore.Store
	log   *ledger.Ledger
	past  *ledger.State // what Options.At asks for; nil: as it is
	meta  catalog.Meta
	opt   Options

	indexes *lookup.Indexes
	moves   *lookup.Moves
	listed  listed
}

// movesMost bounds the lists of moved chunks in memory, in bytes.
const movesMost = 8 << 20

var _ repo.Repository = (*Repository)(nil)

// version of the format that this package knows.
const version = 1

// Open opens the repository below the address of s. It fails with
// repo.ErrNotFound when there is none, and writes nothing.
func Open(ctx context.Context, s objstore.Store, o Options) (*Repository, error) {
	r := &Repository{
		store: s, opt: o.whole(s),
		indexes: lookup.New(s, lookup.Options{}), moves: lookup.NewMoves(s, movesMost),
	}
	if err := r.open(ctx); err != nil {
		return nil, fmt.Errorf("open repository %s: %w", r.Location(), err)
	}
	return r, nil
}

func (r *Repository) open(ctx context.Context) (err error) {
	o := ledgerOptions(r.opt)
	o.Retain = func() objstore.Retention { return r.retention() } // what meta says, once it is read
	r.log, err = ledger.Open(ctx, r.store, o)
	if errors.Is(err, ledger.ErrNotFound) {
		return fmt.Errorf("%w: it holds no repository", repo.ErrNotFound)
	}
	if err != nil {
		return broken(err)
	}
	meta, ok, err := catalog.Get[catalog.Meta](r.log.Seen(), catalog.MetaKey)
	switch {
	case err != nil:
		return err
	case !ok:
		return &repo.CorruptError{What: "the repository's log", Err: errors.New("it does not say which repository it is of")}
	case meta.Version != version:
		return fmt.Errorf("it has version %d of the format, this program knows version %d", meta.Version, version)
	}
	r.meta = meta
	if r.opt.At.IsZero() {
		return nil
	}
	past, err := r.log.Past(ctx, r.opt.At)
	if errors.Is(err, ledger.ErrNotFound) {
		return fmt.Errorf("%w: its log does not go back to %s", repo.ErrNotFound, r.opt.At.UTC().Format(time.RFC3339))
	}
	r.past = &past
	return broken(err)
}

func ledgerOptions(o Options) ledger.Options {
	return ledger.Options{
		Who: fmt.Sprintf("%s/%d", o.Process.Host, o.Process.PID), Now: o.Now, Rand: o.Rand, Sizes: o.Log,
	}
}

// broken is an error of the log as callers of repositories know it.
func broken(err error) error {
	if bad, ok := errors.AsType[*ledger.CorruptError](err); ok {
		return &repo.CorruptError{What: bad.What, Err: bad.Err}
	}
	return err
}

// Location names the repository for people.
func (r *Repository) Location() string { return r.opt.Location }

// Close ends the use of the repository. Sessions and snapshots end before.
func (r *Repository) Close() error { return nil }

// retention is that of an object written now.
func (r *Repository) retention() objstore.Retention { return r.meta.Retention.From(r.opt.Now()) }

// view is the state as it is now, give or take Options.Recent, or as it was at Options.At.
func (r *Repository) view(ctx context.Context) (ledger.State, error) {
	if r.past != nil {
		return *r.past, context.Cause(ctx)
	}
	s, err := r.log.Recent(ctx, r.opt.Recent)
	return s, broken(err)
}

// now is the state as it is now.
func (r *Repository) now(ctx context.Context) (ledger.State, error) {
	s, err := r.log.View(ctx)
	return s, broken(err)
}

// ErrPast is wrapped by what a repository refuses that was opened as it was at a time.
var ErrPast = errors.New("what was cannot be changed")

// writable refuses to change the past.
func (r *Repository) writable() error {
	if r.past == nil {
		return nil
	}
	return fmt.Errorf("%w: %s is as it was at %s", ErrPast, r.Location(), r.opt.At.UTC().Format(time.RFC3339))
}

// update makes a change by one of the catalog's decisions.
func (r *Repository) update(ctx context.Context, decide func(catalog.Tx) error) (uint64, error) {
	if err := r.writable(); err != nil {
		return 0, err
	}
	seq, err := r.log.Update(ctx, func(tx *ledger.Tx) error { return decide(tx) })
	return seq, broken(err)
}
