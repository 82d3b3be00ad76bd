package catalog

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Number names a session: the number of the entry that began it. As text it has
// 16 hex digits.
type Number uint64

func (n Number) String() string { return fmt.Sprintf("%016x", uint64(n)) }

// MarshalText is String.
func (n Number) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (n *Number) UnmarshalText(b []byte) (err error) {
	*n, err = ParseNumber(string(b))
	return err
}

// ParseNumber is the inverse of String.
func ParseNumber(s string) (Number, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || Number(n).String() != s {
		return 0, fmt.Errorf("session %.40q: want 16 hex digits", s)
	}
	return Number(n), nil
}

// Meta is what holds for the whole repository.
type Meta struct {
	Version   int        `json:"version"`
	ID        string     `json:"id"`
	PackSize  int64      `json:"pack_size"` // bytes that a pack is filled to
	Retention *Retention `json:"retention,omitempty"`
}

// Retention says how long objects are locked from the day on which they were
// written.
type Retention struct {
	Mode string `json:"mode"` // Governance or Compliance
	Days int    `json:"days"`
}

// Modes of retention.
const (
	Governance = "governance"
	Compliance = "compliance"
)

// From is the retention of an object that is written now; nil gives none.
func (r *Retention) From(now time.Time) objstore.Retention {
	if r == nil || r.Days <= 0 {
		return objstore.Retention{}
	}
	mode := objstore.Governance
	if r.Mode == Compliance {
		mode = objstore.Compliance
	}
	return objstore.Retention{Mode: mode, Until: now.AddDate(0, 0, r.Days)}
}

// Group is a backup group.
type Group struct {
	Owner string `json:"owner"`
	Notes string `json:"notes,omitempty"`
}

// Span is where a part of an object lies.
type Span struct {
	Off int64 `json:"off"`
	Len int64 `json:"len"`
}

// File is an archive in the object of its snapshot.
type File struct {
	Name names.Archive `json:"name"`
	Span
}

// Snapshot is a finished snapshot.
type Snapshot struct {
	Session   Number          `json:"session"` // that wrote its object
	Files     []File          `json:"files"`
	Map       Span            `json:"map"`
	Manifest  json.RawMessage `json:"manifest"`
	Protected bool            `json:"protected,omitempty"`
	Log       int64           `json:"log,omitempty"` // bytes of the client's log; 0: there is none
}

// File returns where an archive lies.
func (s *Snapshot) File(name names.Archive) (Span, bool) {
	for _, f := range s.Files {
		if f.Name == name {
			return f.Span, true
		}
	}
	return Span{}, false
}

// ParseManifest reads the manifest of the snapshot n.
func (s *Snapshot) ParseManifest(n names.Snapshot) (*manifest.Manifest, error) {
	m, err := manifest.Parse(s.Manifest)
	if err == nil && !m.Describes(n) {
		err = fmt.Errorf("it belongs to %s/%s/%s", m.BackupType, m.BackupID, names.FormatTime(m.BackupTime))
	}
	if err != nil {
		return nil, &repo.CorruptError{What: "manifest of " + n.String(), Err: err}
	}
	return m, nil
}

// Kind is what a session does.
type Kind string

// The kinds of sessions.
const (
	Backup Kind = "backup"
	Refill Kind = "refill"
	Mend   Kind = "mend"
	GC     Kind = "gc"
)

// Session is one that runs.
type Session struct {
	Kind     Kind         `json:"kind"`
	Snapshot SnapshotName `json:"snapshot,omitzero"`
	Owner    string       `json:"owner,omitempty"`
	NewGroup bool         `json:"new_group,omitempty"` // the group came with it
	Guard    Number       `json:"guard,omitempty"`     // a session that must run as well, for this one to succeed
	Process               // who runs it
	Lease    int          `json:"lease"` // seconds
}

// Process is a process among all that ever ran on all hosts.
type Process struct {
	Host  string `json:"host"`
	Boot  string `json:"boot,omitempty"` // which run of the host, and which of its process tables
	PID   int    `json:"pid"`
	Start uint64 `json:"start,omitempty"` // when it began, in the host's own units
}

// LeaseTime is how long a session lives after its last sign of life.
func (s Session) LeaseTime() time.Duration { return time.Duration(s.Lease) * time.Second }

// SnapshotName is the name of a snapshot as JSON: its path.
type SnapshotName struct{ names.Snapshot }

// IsZero reports whether it names none.
func (s SnapshotName) IsZero() bool { return s == SnapshotName{} }

// MarshalText is the path of the snapshot.
func (s SnapshotName) MarshalText() ([]byte, error) { return []byte(s.Path()), nil }

// UnmarshalText is the inverse of MarshalText.
func (s *SnapshotName) UnmarshalText(b []byte) (err error) {
	s.Snapshot, err = names.ParseSnapshot(string(b))
	return err
}

// Ended is a session that came to nothing.
type Ended struct {
	Kind Kind      `json:"kind"`
	Seen time.Time `json:"seen,omitzero"` // by the first garbage collection after it, by the clock of the store
}

// Gone is a snapshot that was removed and is still counted.
type Gone struct {
	Snapshot SnapshotName `json:"snapshot,omitzero"`
	Map      Span         `json:"map"`
}

// Run is an index that counts.
type Run struct {
	Chunks int64     `json:"chunks"`
	Packs  int64     `json:"packs"`
	Bytes  int64     `json:"bytes"`           // of all its object
	Head   int64     `json:"head"`            // of them behind its blocks
	First  Number    `json:"first,omitempty"` // sessions whose packs are in it; zero: the one in the key
	Last   Number    `json:"last,omitempty"`
	Void   []pack.ID `json:"void,omitempty"` // packs in it that are not there any more

	// Inline is the head itself, of an index that is so small that who opens the repository
	// has it with the log: backups of many machines leave many of these.
	Inline []byte `json:"inline,omitempty"`
}

// InlineMost is how many bytes a head may have to be inline: those of 300 chunks.
const InlineMost = 1 << 10

// Dead is what a garbage collection condemned.
type Dead struct {
	At       time.Time `json:"at"`              // by the clock of the store
	Locked   time.Time `json:"locked,omitzero"` // until when some of it is
	Packs    []pack.ID `json:"packs,omitempty"`
	Objects  []string  `json:"objects,omitempty"`  // keys of others
	Moved    []pack.ID `json:"moved,omitempty"`    // packs that nobody names: where their chunks went can be forgotten
	Sessions []Number  `json:"sessions,omitempty"` // that must have ended and been counted before it goes
	Doomed   Number    `json:"doomed,omitempty"`   // the entry that doomed it; zero: none
	Removed  bool      `json:"removed,omitempty"`  // nothing of it is there any more
}

// Empty reports whether nothing is on the list.
func (d Dead) Empty() bool { return len(d.Packs)+len(d.Objects)+len(d.Moved) == 0 }

// Moved is a pack whose chunks lie elsewhere: which bytes of which object say
// where.
type Moved struct {
	In string `json:"in"`
	Span
	Void bool `json:"void,omitempty"` // the pack is not there any more
}

// Bad is a chunk found damaged, and where a sound one lies.
type Bad struct {
	Pack pack.ID `json:"pack,omitzero"` // zero: nobody has a sound one
	Off  uint32  `json:"off,omitempty"`
	Len  uint32  `json:"len,omitempty"`
}

// Lost reports whether no sound one is known.
func (b Bad) Lost() bool { return b.Len == 0 }

// Place is where the sound one lies.
func (b Bad) Place() pack.Location { return pack.Location{Pack: b.Pack, Off: b.Off, Len: b.Len} }

// Collected is what the last garbage collection left.
type Collected struct {
	State  string        `json:"state,omitempty"` // key of the object that counts references
	Status repo.GCStatus `json:"status"`
}

// Keys of objects.

// LeasePrefix is what the keys of all signs of life begin with. They are apart from
// what sessions leave, so that one listing finds those that came late.
const LeasePrefix = "lease/"

// MarkerKey says that there is a repository.
const MarkerKey = "holdfast.json"

// SessionsDir begins the keys of all that sessions wrote but their leases.
const SessionsDir = "s/"

// SessionDir is what all keys of a session begin with.
func SessionDir(n Number) string { return SessionsDir + n.String() + "/" }

// IndexKey is the key of an index.
func IndexKey(n Number, i uint32) string { return fmt.Sprintf("%si%08x", SessionDir(n), i) }

// SnapshotObject is the key of the files of a snapshot.
func SnapshotObject(n Number) string { return SessionDir(n) + "snapshot" }

// LogObject is the key of the client's log.
func LogObject(n Number) string { return SessionDir(n) + "log" }

// LeaseKey is the key of a sign of life.
func LeaseKey(n Number, i uint32) string { return fmt.Sprintf("%s%08x", LeaseDir(n), i) }

// LeaseDir is what the keys of all signs of life of a session begin with.
func LeaseDir(n Number) string { return LeasePrefix + n.String() + "/" }

// LeaseSession is the session of which a key is a sign of life.
func LeaseSession(key string) (Number, error) {
	n, _, _ := strings.Cut(strings.TrimPrefix(key, LeasePrefix), "/")
	return ParseNumber(n)
}
