// Package backupserver is the server's end of the backup protocol
// (internal/proto/backupv1): it writes what a client sends into a session of a
// repository.
//
// [Begin] starts a session when the client has been let in; its errors are the
// answer to the request to upgrade. [Session.Serve] then answers the calls on
// the connection until it ends. A session that was not finished by then is
// aborted, and nothing of it is visible.
//
// # What is checked
//
// Everything that a client says. Plain chunks are decoded and compared with their
// digest and length; of encrypted ones only the form can be checked. The CRC of
// a chunk is computed anew, that of a blob is checked. An index takes known
// chunks only (see backupv1), so that knowing a digest is not having the data.
// The manifest must list what was written: an archive of another size or
// checksum, or that is not there, ends the backup. A server that let that pass
// would show a snapshot that cannot be restored.
//
// # Memory
//
// [Memory] is shared by the sessions of a server: bodies that are being received
// or wait for a worker, and the workers with one decoded chunk each. It also divides
// what clients may send ahead of that: the n-th session at a time may have 128 MiB
// divided by n on its way, at most 32 MiB and at least one. In a session
// there are 5 to 10 bytes for each chunk of the indexes that the client fetched,
// about 60 for each one that it uploaded, and the manifest.
package backupserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/repoerr"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Beginner is the part of a repository that a session needs.
type Beginner interface {
	Begin(ctx context.Context, b repo.Begin) (repo.Session, error)
}

// Config says what a session is to be.
type Config struct {
	Repo    Beginner
	Request upgrade.Request
	Auth    names.AuthID // who asks; may back up into the namespace
	Memory  *Memory      // shared with other sessions; nil: its own
	// Hidden says which files of the previous snapshot the client may not have; nil:
	// none. The manifest and the indexes are needed to write.
	Hidden func(names.Archive) bool
	// Log tells people what happens, a line at a time; may be nil. It must be safe
	// for concurrent use.
	Log func(format string, args ...any)
	// Trouble hears of what goes wrong on the connection; nil: nobody.
	Trouble *slog.Logger
}

// The group into which benchmarks go.
const (
	benchmarkType = names.Host
	benchmarkID   = "benchmark"
)

// ErrUnfinished is wrapped by the error of a session whose client left before
// the end.
var ErrUnfinished = errors.New("the backup was not finished")

// Session writes one snapshot for a client. It implements http.Handler.
type Session struct {
	conf   Config
	ses    repo.Session
	own    bool // conf.Memory
	window int  // bytes that the client may send before they are read
	known  known

	// gate is held shared by calls that change something, and alone by finish.
	gate     sync.RWMutex
	finished bool
	ended    bool

	mu       sync.Mutex
	writers  map[int]*writer        // that are open
	files    map[names.Archive]file // that are complete
	manifest []byte                 // as it was uploaded
	spoilt   error                  // why there can be no snapshot any more

	creating sync.Mutex
	lastWid  int

	notes atomic.Int64 // lines that note wrote
}

// file is what a manifest has to say of an archive.
type file struct {
	size uint64
	sum  digest.Digest
}

// Begin starts the snapshot. Its errors have the status of the answer.
func Begin(ctx context.Context, c Config) (*Session, error) {
	s := c.Request.Snapshot
	isBenchmark := s.Type == benchmarkType && s.ID == benchmarkID
	switch {
	case c.Request.Benchmark && (!isBenchmark || s.NS != names.Root):
		return nil, rest.Errorf(http.StatusBadRequest, "a benchmark belongs to %s/%s in the root namespace", benchmarkType, benchmarkID)
	case isBenchmark && !c.Request.Benchmark:
		return nil, rest.Errorf(http.StatusBadRequest, "the group %s/%s is for benchmarks only", benchmarkType, benchmarkID)
	}
	ses, err := c.Repo.Begin(ctx, repo.Begin{Snapshot: s, Owner: c.Auth.String(), Benchmark: c.Request.Benchmark})
	if errors.Is(err, repo.ErrNotFound) { // of the group everything is made: it is the namespace
		return nil, repoerr.WithStatus(err, http.StatusNotFound)
	}
	if err != nil {
		return nil, repoerr.ToWire(err)
	}
	b := &Session{
		conf: c, ses: ses,
		known:   known{uploaded: map[digest.Digest]uint32{}},
		writers: map[int]*writer{}, files: map[names.Archive]file{},
	}
	if b.conf.Memory == nil {
		b.conf.Memory, b.own = NewMemory(MemoryOptions{}), true
	}
	b.window = b.conf.Memory.enter()
	if b.conf.Trouble == nil {
		b.conf.Trouble = slog.New(slog.DiscardHandler)
	}
	b.log("starting backup %s", s.Path())
	if p := ses.Previous(); p != nil {
		b.log("previous backup is %s", p.Name())
	}
	return b, nil
}

// maxNotes bounds the lines of a log that a client can cause as often as it likes.
const maxNotes = 20_000

// note is log for what a client can do again and again, and with names as long as it
// likes.
func (b *Session) note(format string, args ...any) {
	switch n := b.notes.Add(1); {
	case n < maxNotes:
		b.log("%.512s", fmt.Sprintf(format, args...))
	case n == maxNotes:
		b.log("more of such is not noted")
	}
}

func (b *Session) log(format string, args ...any) {
	if b.conf.Log != nil {
		b.conf.Log(format, args...)
	}
}

// Serve answers the calls on the connection until it ends, and ends the session.
// The error says why there is no snapshot; ErrUnfinished if the client simply
// left. A connection that breaks after the end is none.
func (b *Session) Serve(ctx context.Context, conn *upgrade.Conn) error {
	conn.Narrow(b.window)
	err := conn.Serve(ctx, b, b.conf.Trouble)
	return b.End(err)
}

// End ends the session after its connection, of which why is the error.
func (b *Session) End(why error) error {
	b.gate.Lock()
	finished, ended := b.finished, b.ended
	b.ended = true
	b.gate.Unlock()
	if ended {
		return nil
	}
	err := b.known.previous.Close()
	b.conf.Memory.leave()
	if b.own {
		b.conf.Memory.Close()
	}
	if finished {
		b.log("backup finished")
		return nil // what closing an index that was only read had to say does not matter
	}
	err = errors.Join(err, b.ses.Abort())
	if b.conf.Request.Benchmark && why == nil && err == nil {
		b.log("benchmark finished")
		return nil
	}
	b.log("backup was not finished: its snapshot is removed")
	switch {
	case why != nil:
		why = fmt.Errorf("%w: %w", ErrUnfinished, why)
	default:
		why = ErrUnfinished
	}
	if err != nil {
		return errors.Join(why, fmt.Errorf("remove the unfinished snapshot %s: %w", b.ses.Snapshot(), err))
	}
	return why
}

// change runs f, which changes something, unless the session is at its end.
func (b *Session) change(f func() error) error {
	b.gate.RLock()
	defer b.gate.RUnlock()
	if err := b.over(); err != nil {
		return err
	}
	return f()
}

func (b *Session) over() error {
	switch {
	case b.ended:
		return errors.New("the session has ended")
	case b.finished:
		return errors.New("backup already marked as finished")
	}
	return nil
}
