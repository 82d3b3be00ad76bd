package replicate

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Report is what came of a replication.
type Report struct {
	Stats
	Failures []Failure
}

// Failure is something that could not be done.
type Failure struct {
	What string // "group vm/100", "snapshot vm/100/2026-11-22T10:00:00Z"
	Err  error
}

// Err returns all failures in one error, nil if there is none.
func (r Report) Err() error {
	var errs []error
	for _, f := range r.Failures {
		errs = append(errs, fmt.Errorf("%s: %w", f.What, f.Err))
	}
	return errors.Join(errs...)
}

// Stats counts.
type Stats struct {
	Groups    int64 // looked at
	Snapshots int64 // copied
	Mended    int64 // damaged ones that were stored anew
	Chunks    int64 // copied
	Known     int64 // chunks that needed no copy
	Bytes     int64 // copied, as they are stored

	RemovedSnapshots, RemovedGroups, RemovedNamespaces int64
}

type counters struct {
	groups, snapshots, mended, chunks, known, bytes    atomic.Int64
	removedSnapshots, removedGroups, removedNamespaces atomic.Int64
}

func (c *counters) stats() Stats {
	return Stats{
		Groups: c.groups.Load(), Snapshots: c.snapshots.Load(), Mended: c.mended.Load(),
		Chunks: c.chunks.Load(), Known: c.known.Load(), Bytes: c.bytes.Load(),
		RemovedSnapshots: c.removedSnapshots.Load(), RemovedGroups: c.removedGroups.Load(), RemovedNamespaces: c.removedNamespaces.Load(),
	}
}

func (r *run) logf(format string, args ...any) {
	if r.Logf == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Logf(format, args...)
}

func (r *run) warnf(format string, args ...any) {
	if r.Warnf == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Warnf(format, args...)
}

// fail notes a failure.
func (r *run) fail(what string, err error) {
	r.warnf("%s: %v", what, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Failures = append(r.report.Failures, Failure{what, err})
}

func (r *run) progress() {
	if r.Progress == nil {
		return
	}
	s := r.count.stats()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Progress(s)
}

// sourceError is the source's fault.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "source: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

func atSource(err error) error {
	if err == nil {
		return nil
	}
	return &sourceError{err}
}

// damaged reports that the source lacks a part, or has it wrong: asking again
// would not help.
func damaged(err error) bool {
	s, ok := errors.AsType[*sourceError](err)
	return ok && isDamage(s.err)
}

func isDamage(err error) bool {
	_, corrupt := errors.AsType[*repo.CorruptError](err)
	return corrupt || errors.Is(err, repo.ErrChunkMissing)
}
