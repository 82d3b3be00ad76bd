// Package sweep decides, from times alone, which chunks a garbage collection
// removes.
//
// # Rule
//
// The first phase of a collection touches every chunk that an index names; a
// writer touches every chunk that it stores or finds. The second phase compares
// the access time of each chunk with two times, in whole seconds:
//
//	atime < min_atime             remove
//	min_atime <= atime < oldest   pending: unused for a while, kept
//	oldest <= atime               in use
//
// oldest is the start of the oldest writer that is still at work, or of the
// collection when there is none. min_atime keeps what was touched within the
// cutoff before the collection (24 h 5 min unless configured: enough for mounts
// with relatime) and everything since shortly before the oldest writer.
//
// Servers since 3.4 compute
//
//	m = start - cutoff; if oldest < m then m = oldest - 300 s
//
// which leaves no margin when the oldest writer started within the cutoff, and
// shows with a short cutoff: one minute, say, and a writer whose clock is a
// little off. [ServerMinAtime] is that rule. [MinAtime] always keeps the
// 300 seconds, as servers up to 3.3 did; it never removes what the other keeps.
//
// # Source
//
// proxmox-backup: pbs-datastore/src/chunk_store.rs, datastore.rs.
package sweep

import "time"

// Bounds of the cutoff.
const (
	DefaultCutoff = 24*time.Hour + 5*time.Minute
	MinCutoff     = time.Minute
	MaxCutoff     = 2880 * time.Minute
)

// margin before the start of the oldest writer.
const margin = 300 * time.Second

// Verdict is the decision on a chunk.
type Verdict uint8

// Verdicts; the zero Verdict keeps.
const (
	InUse Verdict = iota
	Pending
	Remove
)

// String returns "in use", "pending" or "remove".
func (v Verdict) String() string {
	switch v {
	case Pending:
		return "pending"
	case Remove:
		return "remove"
	}
	return "in use"
}

// MinAtime returns the access time below which a chunk is removed.
// oldestWriter is start when nobody writes.
func MinAtime(start, oldestWriter time.Time, cutoff time.Duration) time.Time {
	m, w := start.Add(-cutoff), oldestWriter.Add(-margin)
	if w.Before(m) {
		return w
	}
	return m
}

// ServerMinAtime is the rule of the servers since 3.4. It is here to compare
// with, see the package comment.
func ServerMinAtime(start, oldestWriter time.Time, cutoff time.Duration) time.Time {
	m := start.Add(-cutoff)
	if oldestWriter.Before(m) {
		return oldestWriter.Add(-margin)
	}
	return m
}

// Decide returns what happens to a chunk with the given access time.
func Decide(atime, minAtime, oldest time.Time) Verdict {
	switch at := atime.Unix(); {
	case at < minAtime.Unix():
		return Remove
	case at < oldest.Unix():
		return Pending
	}
	return InUse
}
