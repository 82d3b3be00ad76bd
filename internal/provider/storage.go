package provider

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/tree"
)

// ErrNeeded is wrapped when an archive cannot be removed because others are
// incremental to it and cannot be merged with it.
var ErrNeeded = errors.New("other backups build on it")

// Storage keeps archives. All of it is safe for concurrent use, also with other
// processes and hosts that use the same place.
//
// Errors are those of package repo: repo.ErrNotFound, repo.ErrProtected,
// *repo.CorruptError, and [ErrNeeded]; everything else could not be found out.
type Storage interface {
	// Name is what the storage is called in logs.
	Name() string
	// Archive names the backup of a guest that starts now. No two archives of
	// one guest have the same start, which is in seconds.
	Archive(g Guest, start time.Time) Archive
	// Parse reads a name that Archive or List made.
	Parse(name string) (Archive, error)

	// Prepare is called once before the backups of a job: the storage can be
	// reached and written to. It removes what killed backups left, if nobody
	// works on it.
	Prepare(ctx context.Context) error
	// Reusable says on which disks of the archive base the next backup of its
	// guest may build: base is the newest archive of the guest, complete, not
	// found damaged, made with the same key, and its disk has the given size. What
	// is not there is no error.
	Reusable(ctx context.Context, base Archive, sizes map[string]int64) (map[string]bool, error)

	// BackupVM stores a consistent point of a machine. When it returns nil the
	// archive is complete, durable and listed; after an error or the end of ctx
	// nothing of it is listed, and other archives are as they were.
	BackupVM(ctx context.Context, a Archive, vm VM) (Result, error)
	// BackupContainer does the same for a container.
	BackupContainer(ctx context.Context, a Archive, ct Container) (Result, error)
	// PutLog keeps the log of a task: beside the archive if it is complete, else
	// where a storage keeps logs of failed tasks, if it does.
	PutLog(ctx context.Context, a Archive, log []byte) error

	// List lists the complete archives, of one guest or, if g is nil, of all;
	// those of a guest from old to new.
	List(ctx context.Context, g *Guest) ([]Entry, error)
	// Entry describes one archive.
	Entry(ctx context.Context, a Archive) (Entry, error)
	SetNotes(ctx context.Context, a Archive, text string) error
	SetProtected(ctx context.Context, a Archive, protected bool) error
	// Free removes an archive. Others stay restorable: it merges, or refuses with
	// ErrNeeded.
	Free(ctx context.Context, a Archive) error
	// Prune removes what a retention policy does not keep, with the same care.
	Prune(ctx context.Context, p PruneOptions) ([]Pruned, error)
	Usage(ctx context.Context) (Usage, error)
	// Identity names the place that the storage is, not how it is reached; ""
	// where there is no name.
	Identity(ctx context.Context) (string, error)

	// Configs returns what was kept beside the data; it is quick.
	Configs(ctx context.Context, a Archive) (Configs, error)
	// Open opens an archive to restore from, after checking that it is sound as
	// far as that can be told without reading it all: what it names is there, and
	// is nothing outside of the storage.
	Open(ctx context.Context, a Archive) (Source, error)

	Close() error
}

// Kind says what a guest is, in the words of Proxmox VE.
type Kind string

// The kinds.
const (
	QEMU Kind = "qemu"
	LXC  Kind = "lxc"
)

// Guest is whose backup it is.
type Guest struct {
	Kind Kind
	ID   int // 1 to 999999999
}

// Archive names one backup of one guest.
type Archive struct {
	Name  string // of bytes that Proxmox VE takes: letters, digits, and -.+=_/:
	Guest Guest
	Start int64 // seconds since 1970-01-01 UTC
}

// Configs are the small files of an archive.
type Configs struct {
	Guest    []byte // as it came: restoring finds devices by its last lines
	Firewall []byte // nil: there was none
}

// Mode says what the dirty bitmap of a disk was used for.
type Mode string

// The modes.
const (
	ModeNone  Mode = "none"  // there is no bitmap
	ModeNew   Mode = "new"   // it begins with this backup; everything is read
	ModeReuse Mode = "reuse" // it tells what changed since the base
)

// VM is a consistent point of a machine.
type VM struct {
	Configs
	Volumes []Volume
	// Base is the archive that Unchanged extents refer to, the one that Reusable
	// was asked about. It is set if a volume has ModeReuse. BackupVM fails if it is
	// not usable any more.
	Base Archive
	// Seal is called once, when everything is stored and the archive is not yet
	// visible. Its error ends the backup. May be nil.
	Seal func(ctx context.Context) error
}

// Volume is one disk. Its image tells extents, as image.Extenter: with ModeReuse
// what is Unchanged cannot be read. If it is an image.Consumer it is to be told
// what was stored.
type Volume struct {
	Device string // "drive-scsi0"
	Image  image.Image
	Mode   Mode
}

// Container is the file tree of a container, which somebody else reads with
// the container's own rights.
type Container struct {
	Configs
	Walk Walk
}

// Walk makes a file archive of the tree, once, as tree.Archive does: of version
// 1 if out has no Payload, else of version 2. What is archived is decided already;
// ids are those of the container. out.Catalog must be nil. base is the archive
// before, of version 2, or nil.
type Walk func(ctx context.Context, out tree.Output, base *Base) (tree.Report, error)

// Base is an archive that contents may be taken over from, as in package tree.
type Base struct {
	Meta    io.Reader   // its metadata stream, from the beginning
	Payload *didx.Index // of its payload stream
}

// Result says what a backup took.
type Result struct {
	Size    int64 // bytes of the archive as lists show it
	Read    int64 // bytes read from the guest
	Stored  int64 // bytes that were new in the storage
	Skipped int64 // entries of a tree that could not be read
}

// Entry describes an archive.
type Entry struct {
	Archive
	Size      int64  // bytes
	Format    string // of the archive, for people: "pbs-vm", "qcow2"; [FormatTar] is restored as such
	Parent    string // the archive that this one cannot be restored without; "" for none
	Notes     string
	Protected bool
	Encrypted string // fingerprint of the key; "" for none
	Verified  string // "ok" or "failed"; "" when it was never verified
	Verifier  string // the task that verified, as a UPID
}

// FormatTar is the format of archives whose Source gives a tar file.
const FormatTar = "tar"

// PruneOptions says what to prune.
type PruneOptions struct {
	Guest  *Guest // nil: all
	Kind   Kind   // "": both
	Keep   retention.Options
	DryRun bool
}

// Pruned is the verdict on one archive.
type Pruned struct {
	Archive
	Mark retention.Mark
	Err  error // why an archive that was to be removed is still there
}

// Usage is the space of the place that holds a storage, in bytes.
type Usage struct {
	Total, Free, Used int64
}

// Source is an archive open for restoring.
type Source interface {
	// Volumes lists the disks in the order of their devices' names.
	Volumes() []VolumeInfo
	// Volume opens a disk. The image lives until Close.
	Volume(ctx context.Context, device string) (Image, error)
	// Tree makes the file tree of a container available; it may use dir, an empty
	// private directory, and leaves it empty when it is released.
	Tree(ctx context.Context, dir string) (Tree, error)
	Close() error
}

// VolumeInfo is a disk of an archive.
type VolumeInfo struct {
	Device string
	Size   int64 // bytes
}

// Image is an open disk.
type Image interface {
	image.Image
	io.Closer
}

// Tree is the file tree of a container: either as a tar file or as a directory.
type Tree struct {
	Tar     string
	Dir     string
	Release func(ctx context.Context) error // not nil
}
