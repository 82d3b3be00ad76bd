// Package catalog is what a repository in a bucket says of itself: the records
// that its log carries, by key, and every decision on them.
//
// The log (internal/ledger) is a map from keys to JSON values that changes in
// one order for everybody. Here the values have types, and what may become of
// them is said once: each function that takes a [Tx] looks at the state and
// changes it, or returns why not, and has no other effect. It may run several
// times, each time on a newer state. So the safety of the repository is in
// these functions and nowhere else:
//
//   - One session at a time writes into a group ([Begin]).
//   - A session that others have ended commits nothing ([Commit]): its record is
//     gone.
//   - A snapshot that is removed stays counted, as gone, until a garbage
//     collection has taken its references off ([Forget], and a [Commit] that
//     replaces one).
//   - A snapshot that names a chunk found damaged appears only with a sound one.
//   - No snapshot appears that needs a pack which is being removed, and one that
//     needs a condemned pack takes it off its list.
//
// docs/formats/bucket.md lists the keys.
//
// # Errors
//
// Those of internal/repo, with what they are about: repo.ErrNotFound,
// repo.ErrExists, repo.ErrOwner, repo.ErrProtected; a [*LockedError], which is a
// repo.ErrLocked, where a session is in the way; a *repo.CorruptError for a
// record that is none.
package catalog

import (
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Reader is the state at a moment. *ledger.Tx and ledger.State are some.
type Reader interface {
	Get(key string) ([]byte, bool)
	Scan(prefix string) iter.Seq2[string, []byte] // in the order of keys
}

// Tx is a change in the making.
type Tx interface {
	Reader
	Set(key string, value []byte)
	Delete(key string)
	Seq() uint64 // number of the entry that it becomes
}

// Keys, and what keys begin with.
const (
	MetaKey = "meta"
	GCKey   = "gc"

	NamespacePrefix = "ns/"
	GroupPrefix     = "group/"
	SnapshotPrefix  = "snap/"
	SessionPrefix   = "session/"
	EndedPrefix     = "ended/"
	GonePrefix      = "gone/"
	RunPrefix       = "run/"
	DeadPrefix      = "dead/"
	MovedPrefix     = "moved/"
	BadPrefix       = "bad/"
)

// NamespaceKey is the key of a namespace other than the root.
func NamespaceKey(ns names.Namespace) string { return NamespacePrefix + ns.String() }

// GroupKey is the key of a group.
func GroupKey(ns names.Namespace, g names.Group) string {
	return GroupPrefix + ns.String() + "|" + g.String()
}

// SnapshotKey is the key of a finished snapshot.
func SnapshotKey(s names.Snapshot) string {
	return SnapshotPrefix + s.NS.String() + "|" + s.String()
}

// SessionKey is the key of a session that runs.
func SessionKey(n Number) string { return SessionPrefix + n.String() }

// EndedKey is the key of a session that came to nothing.
func EndedKey(n Number) string { return EndedPrefix + n.String() }

// GoneKey is the key of a snapshot that was removed, by its session.
func GoneKey(n Number) string { return GonePrefix + n.String() }

// RunKey is the key of an index.
func RunKey(n Number, i uint32) string { return fmt.Sprintf("%s%s/%08x", RunPrefix, n, i) }

// DeadKey is the key of a list of what was condemned by the entry n.
func DeadKey(n Number, i int) string { return fmt.Sprintf("%s%s/%08x", DeadPrefix, n, i) }

// MovedKey is the key of a pack whose chunks lie elsewhere.
func MovedKey(p pack.ID) string { return MovedPrefix + p.String() }

// BadKey is the key of a chunk found damaged.
func BadKey(d digest.Digest) string { return BadPrefix + d.String() }

// ParseSnapshotKey is the inverse of SnapshotKey.
func ParseSnapshotKey(key string) (names.Snapshot, error) {
	ns, rest, err := parseKey(key, SnapshotPrefix)
	if err != nil {
		return names.Snapshot{}, err
	}
	s, err := names.ParseSnapshot(rest)
	s.NS = ns
	if err == nil && SnapshotKey(s) != key {
		err = fmt.Errorf("key %q is not how it is written", key)
	}
	return s, err
}

// ParseGroupKey is the inverse of GroupKey.
func ParseGroupKey(key string) (names.Namespace, names.Group, error) {
	ns, rest, err := parseKey(key, GroupPrefix)
	if err != nil {
		return "", names.Group{}, err
	}
	g, err := names.ParseGroup(rest)
	if err == nil && GroupKey(ns, g) != key {
		err = fmt.Errorf("key %q is not how it is written", key)
	}
	return ns, g, err
}

func parseKey(key, prefix string) (names.Namespace, string, error) {
	space, rest, ok := strings.Cut(strings.TrimPrefix(key, prefix), "|")
	if !ok || !strings.HasPrefix(key, prefix) {
		return "", "", fmt.Errorf("key %q: want %s<namespace>| and more", key, prefix)
	}
	ns, err := names.ParseNamespace(space)
	return ns, rest, err
}

// Get reads a record. ok is false when there is none.
func Get[T any](r Reader, key string) (v T, ok bool, err error) {
	raw, ok := r.Get(key)
	if !ok {
		return v, false, nil
	}
	v, err = Parse[T](key, raw)
	return v, err == nil, err
}

// Parse reads the value of a record.
func Parse[T any](key string, raw []byte) (v T, err error) {
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, &repo.CorruptError{What: "record " + key + " of the repository", Err: err}
	}
	return v, nil
}

// Set writes a record.
func Set[T any](tx Tx, key string, v T) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("record %s: %w", key, err)
	}
	tx.Set(key, raw)
	return nil
}
