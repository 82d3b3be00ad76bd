// Package repo is the one face of a repository, whatever holds it: a
// directory today, a server's datastore over the network. Commands and the
// pipelines know only this package.
//
// A [Repository] lists and manages; a [Session] writes one snapshot; a
// [Snapshot] reads one. The bytes that pass through are encoded blobs
// (internal/format/blob): a repository neither holds keys nor sees plain data
// of encrypted backups.
//
// # Errors
//
// [ErrNotFound] is wrapped for a repository, namespace, group, snapshot or
// archive that is not there, [ErrChunkMissing] for a chunk that an index names
// and the store lacks, [*CorruptError] for bytes that are not what they should
// be, [ErrLocked] when another operation holds what is needed, [ErrProtected]
// for a snapshot that must not be removed. Everything else is the operating
// system's own error: the answer could not be found out.
package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// The kinds of failure that callers tell apart.
var (
	ErrNotFound     = errors.New("not found")
	ErrExists       = errors.New("exists already")
	ErrChunkMissing = errors.New("chunk missing")
	ErrLocked       = vfs.ErrLocked
	ErrProtected    = errors.New("snapshot is protected")
	ErrOwner        = errors.New("backup group belongs to someone else")
)

// CorruptError reports stored bytes that are not what they should be.
type CorruptError struct {
	What string // "chunk 3f…", "index vm/100/…/disk.img.fidx", "manifest of vm/100/…"
	Err  error  // the reason
}

func (e *CorruptError) Error() string { return fmt.Sprintf("%s is corrupt: %v", e.What, e.Err) }
func (e *CorruptError) Unwrap() error { return e.Err }

// Repository is a place that holds backups.
type Repository interface {
	// Location names the repository for people.
	Location() string

	Namespaces(ctx context.Context, parent names.Namespace) ([]names.Namespace, error) // recursive, sorted, without parent itself
	CreateNamespace(ctx context.Context, ns names.Namespace) error
	// DeleteNamespace removes a namespace and those below it; groups inside
	// are removed with it only if withGroups, else it fails when there are any.
	DeleteNamespace(ctx context.Context, ns names.Namespace, withGroups bool) error

	Groups(ctx context.Context, ns names.Namespace) ([]GroupInfo, error)
	// Snapshots lists one group, or all groups of the namespace when group is
	// nil; oldest first within a group. Listing does not open indexes.
	Snapshots(ctx context.Context, ns names.Namespace, group *names.Group) ([]SnapshotInfo, error)
	Forget(ctx context.Context, s names.Snapshot) error
	ForgetGroup(ctx context.Context, ns names.Namespace, g names.Group) (ForgetGroupResult, error)
	GroupNotes(ctx context.Context, ns names.Namespace, g names.Group) (string, error)
	SetGroupNotes(ctx context.Context, ns names.Namespace, g names.Group, text string) error
	SetOwner(ctx context.Context, ns names.Namespace, g names.Group, owner string) error
	SetNotes(ctx context.Context, s names.Snapshot, text string) error
	SetProtected(ctx context.Context, s names.Snapshot, protected bool) error
	// PutLog stores an encoded blob beside a finished snapshot, as
	// names.ClientLog: the log of the run that made it. It fails with ErrExists
	// if there is one. No manifest lists it, so nothing vouches for its content.
	PutLog(ctx context.Context, s names.Snapshot, raw []byte) error

	// Open opens a finished snapshot for reading, under a shared lock.
	Open(ctx context.Context, s names.Snapshot) (Snapshot, error)
	// Begin starts a backup, which may end with ctx.
	Begin(ctx context.Context, b Begin) (Session, error)

	Prune(ctx context.Context, p PruneOptions) ([]PruneResult, error)
	Verify(ctx context.Context, v VerifyOptions) (VerifyReport, error)
	GC(ctx context.Context, g GCOptions) (GCStatus, error)
	LastGC(ctx context.Context) (GCStatus, error) // of the last finished run; zero value when none
	Usage(ctx context.Context) (vfs.Usage, error)

	Close() error
}

// Mender is a Repository whose damaged snapshots can be mended by whoever has
// another copy of them.
type Mender interface {
	// Mend starts to store a finished snapshot anew. The session knows no
	// previous one and takes a manifest that lists the same archives as the one
	// that is there, if that can be read. Until Finish nothing of the snapshot
	// changes but that chunks come back; Abort leaves it as it was. Notes stay;
	// the verdict of a verification goes.
	Mend(ctx context.Context, s names.Snapshot) (Session, error)
}

// Refiller is a Repository that takes back what is kept elsewhere: chunks first,
// in any order, then the snapshots that name them.
type Refiller interface {
	Refill(ctx context.Context) (Refill, error)
}

// Refill is backups on their way back. Has and Put are safe for concurrent use.
type Refill interface {
	// Has reports whether a sound chunk is stored. No garbage collection removes
	// it before Close.
	Has(ctx context.Context, d digest.Digest) (bool, error)
	// Put stores an encoded chunk. stored is false when a sound one was there.
	Put(ctx context.Context, d digest.Digest, raw []byte) (stored bool, err error)
	// Begin starts a snapshot that may be older than others of its group. The
	// session has no previous one, and its Finish fails with ErrChunkMissing if
	// a chunk is not there that an index names.
	Begin(ctx context.Context, b Begin) (RefillSession, error)
	Close() error
}

// RefillSession is a Session that takes indexes as they are.
type RefillSession interface {
	Session
	// PutIndex stores all bytes of an index, and returns what a manifest says of
	// it: the size of the archive and the checksum. Bytes that are no index are
	// a *CorruptError.
	PutIndex(ctx context.Context, name names.Archive, r io.Reader) (size uint64, csum digest.Digest, err error)
}

// Mover is a Repository in which backups can change their namespace.
type Mover interface {
	// MoveGroup moves a group. With merge its snapshots join a group of the same
	// name and owner, if they are all newer.
	MoveGroup(ctx context.Context, from names.Namespace, g names.Group, to names.Namespace, merge bool) error
	// MoveNamespace moves the groups of a namespace and of those below it. What
	// cannot be moved stays, and the error says so.
	MoveNamespace(ctx context.Context, from names.Namespace, opt MoveNamespaceOptions) error
}

// MoveNamespaceOptions says where the groups of a namespace go.
type MoveNamespaceOptions struct {
	To         names.Namespace // made if only its last part is missing
	Depth      int             // levels below that move too; negative: all
	Merge      bool            // see MoveGroup
	KeepSource bool            // do not remove namespaces that have become empty
}

// StoredFile is an archive as it is stored with a snapshot.
type StoredFile struct {
	Name names.Archive
	Size int64 // of the file: of an index that is not the size of the archive
}

// GroupInfo describes a group in a listing.
type GroupInfo struct {
	Namespace  names.Namespace
	Group      names.Group
	Owner      string
	Count      int       // finished snapshots
	LastBackup time.Time // of the newest finished snapshot; zero when none
	Files      []string  // of the newest finished snapshot
	Comment    string    // first line of the group's notes
}

// SnapshotInfo describes a snapshot in a listing. Size, Files and the fields
// after them come from the manifest; Problem says why it could not be read.
type SnapshotInfo struct {
	Snapshot    names.Snapshot
	Finished    bool
	Protected   bool
	Size        int64 // sum of the archives' logical sizes in bytes
	Files       []manifest.File
	Notes       string
	Signed      bool                  // the manifest has a signature, good or not
	Verify      *manifest.VerifyState // nil when never verified
	Fingerprint string                // of the encryption key, "" when none
	Owner       string
	Problem     error
	// Stored is what is stored with the snapshot, as StoredFiles of a server's
	// datastore has it, where the listing knows that anyway; nil otherwise.
	Stored []StoredFile
}

// Describe fills in what the manifest says.
func (i *SnapshotInfo) Describe(m *manifest.Manifest) {
	i.Finished = true
	i.Files = m.Files
	i.Size = 0
	for _, f := range m.Files {
		i.Size += int64(f.Size)
	}
	i.Signed = m.Signed()
	i.Notes = m.Notes()
	i.Verify = m.VerifyState()
	if fp, err := m.KeyFingerprint(); err == nil && fp != (chunkcrypt.Fingerprint{}) {
		i.Fingerprint = fp.String()
	}
}

// Begin says which backup is to start.
type Begin struct {
	Snapshot  names.Snapshot
	Owner     string // auth-id written for a new group, checked for an old one
	Benchmark bool   // nothing will be kept, so it does not matter whose group it is
}

// Session is one backup being written. Has and Put are safe for concurrent
// use. A session that ends without Finish leaves nothing visible.
type Session interface {
	Snapshot() names.Snapshot
	// Previous is the newest finished snapshot of the group whose last
	// verification did not fail, locked for the life of the session; nil when
	// there is none. Its chunks are known: they need neither Has nor Put.
	Previous() Snapshot
	// Has reports whether a sound chunk of that name is stored, and makes
	// sure that it stays. A false answer may also mean that asking is dearer
	// than sending.
	Has(ctx context.Context, d digest.Digest) (bool, error)
	// Put stores an encoded chunk. stored is false when it was there.
	Put(ctx context.Context, d digest.Digest, plain int, raw []byte) (stored bool, err error)
	CreateFixed(name names.Archive, size int64, chunkSize int) (FixedWriter, error)
	CreateDynamic(name names.Archive) (DynamicWriter, error)
	PutBlob(ctx context.Context, name names.Archive, raw []byte) error
	// Finish makes the snapshot visible, after everything that it names is
	// durable. The manifest's UploadStats are filled in by the session.
	Finish(ctx context.Context, m *manifest.Manifest) error
	// Abort removes what the session wrote, except chunks. It does nothing
	// after Finish.
	Abort() error
}

// FixedWriter writes one fixed index. Set is safe for concurrent use.
type FixedWriter interface {
	// Set names the chunk of slot i. Every slot must be set once before Close.
	Set(i int, d digest.Digest) error
	// Grow raises the image size of an archive created with size -1 (a
	// stream): called before the slots that lie behind the old size.
	Grow(size int64) error
	Close() (csum digest.Digest, err error)
}

// DynamicWriter writes one dynamic index, entry by entry and in constant
// memory. It is not safe for concurrent use.
type DynamicWriter interface {
	// Add names the chunk that ends at end, exclusive, and begins where the one
	// before ended. A chunk has 1 to blob.MaxChunk bytes.
	Add(end uint64, d digest.Digest) error
	// Close completes the index, which has at least one entry.
	Close() (size uint64, csum digest.Digest, err error)
}

// Snapshot is a finished snapshot open for reading, safe for concurrent use.
type Snapshot interface {
	Name() names.Snapshot
	Manifest() *manifest.Manifest
	// OpenFixed opens an index after comparing size and checksum with the
	// manifest.
	OpenFixed(name names.Archive) (*fidx.Index, io.Closer, error)
	// OpenDynamic does the same for a dynamic index, all of which it reads once:
	// its ends grow.
	OpenDynamic(name names.Archive) (*didx.Index, io.Closer, error)
	// Blob returns an encoded blob after comparing size and checksum with the
	// manifest; names.ClientLog, which is not in it, as it is.
	Blob(name names.Archive) ([]byte, error)
	// ReadChunk appends the encoded chunk to buf[:0], not yet checked.
	ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error)
	Close() error
}

// ForgetGroupResult counts what was removed with a group.
type ForgetGroupResult struct {
	Removed   int
	Protected int // kept, and the group with them
}

// PruneOptions says what to prune.
type PruneOptions struct {
	Namespace names.Namespace
	Group     *names.Group // nil: every group of the namespace
	Keep      retention.Options
	DryRun    bool
	Location  *time.Location
}

// PruneResult is the verdict on one snapshot.
type PruneResult struct {
	Snapshot names.Snapshot
	Mark     retention.Mark
	Err      error // why a snapshot marked for removal is still there; nil when removed (or on a dry run)
}

// VerifyOptions says what to verify. Both nil means everything.
type VerifyOptions struct {
	Namespace      names.Namespace
	Recursive      bool // namespaces below too
	Group          *names.Group
	Snapshot       *names.Snapshot
	IgnoreVerified bool          // skip snapshots that have a verify state ...
	OutdatedAfter  time.Duration // ... unless it is older than this (whole days); 0: never outdated
	Workers        int           // 0: as many as there are CPUs
	// Key, when set, lets the chunks of encrypted archives be decrypted and
	// compared with their digests too. Without it only their CRC is checked.
	Key *chunkcrypt.Key
	// Progress is called now and then with the bytes of chunks read so far
	// and their number; may be nil.
	Progress func(VerifyProgress)
	// Only says which groups are looked at; nil: all.
	Only func(names.Namespace, names.Group) bool
	// Verdict is called with each snapshot when it is done; may be nil.
	Verdict func(VerifiedSnapshot)
	// UPID names the task in the verdicts that are kept; "": one is made up for
	// each.
	UPID string
}

// VerifyProgress is a moment of a verification.
type VerifyProgress struct {
	Snapshot      names.Snapshot
	Done, Total   int   // snapshots
	Chunks, Bytes int64 // encoded bytes read and checked
	PlainBytes    int64
}

// VerifyReport is the result of a verification.
type VerifyReport struct {
	Snapshots []VerifiedSnapshot
	Chunks    int64
	Bytes     int64
	Uncounted bool // nobody has said how many chunks and bytes were read
}

// VerifiedSnapshot is the verdict on one snapshot.
type VerifiedSnapshot struct {
	Snapshot names.Snapshot
	Skipped  string  // why it was not looked at: "verified already", "in use", "vanished"
	Errors   []error // corrupt (*CorruptError, ErrChunkMissing) or could not be found out
}

// GCOptions says how to collect garbage.
type GCOptions struct {
	DryRun         bool
	Cutoff         time.Duration // how long an unused chunk stays; PBS keeps it for sweep.DefaultCutoff
	SkipAtimeCheck bool
	Full           bool // count all references anew, where counts are kept
	// Progress is called now and then; may be nil.
	Progress func(GCProgress)
	UPID     string // names the task in the status that is kept; "": one is made up
}

// GCProgress is a moment of a garbage collection.
type GCProgress struct {
	Phase       string // "mark", "rewrite" or "sweep"
	Done, Total int
	Of          string // what is counted: "indexes", "packs", "objects", "chunk directories", "percent"
}

// GCStatus is the outcome of a garbage collection, in the terms of the
// .gc-status file.
type GCStatus struct {
	UPID           string   `json:"upid"`
	IndexFiles     int64    `json:"index-file-count"`
	IndexDataBytes int64    `json:"index-data-bytes"`
	DiskBytes      int64    `json:"disk-bytes"`
	DiskChunks     int64    `json:"disk-chunks"`
	RemovedBytes   int64    `json:"removed-bytes"`
	RemovedChunks  int64    `json:"removed-chunks"`
	PendingBytes   int64    `json:"pending-bytes"`
	PendingChunks  int64    `json:"pending-chunks"`
	RemovedBad     int64    `json:"removed-bad"`
	StillBad       int64    `json:"still-bad"`
	Warnings       []string `json:"-"` // missing chunks, strange paths
}
