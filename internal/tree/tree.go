// Package tree turns a directory of this machine into a pxar archive.
//
// # Order
//
// The archive is the same for the same tree, however many readers there are:
// directories are listed, what is excluded is left out, the rest is sorted by
// the bytes of the names, and every directory is followed by what it holds.
//
//	walker    lists directories in this order, ahead of the others
//	readers   open, look at and read what the walker found, many at a time;
//	          directories that come next are listed by them too
//	encoder   writes the archive, in order; reads large files itself
//
// How many readers work at a time follows from what they gain; see [Options].
//
// # What is archived
//
// The tree is that of one file system, unless the options say otherwise: a
// mount point is an empty directory. Virtual file systems such as proc are never
// entered. Of hard links the first, in the order of the archive, has the content.
//
// What cannot be had is reported as a [Problem] and does not end the archive:
// files that vanish or may not be read are left out, files that shrink are
// filled up with zeros, files that grow are cut. A file that changes while it
// is read is archived, and reported.
//
// # Contents taken over
//
// With a [Base], the archive of the backup before, files whose metadata and size
// are as they were then are not read. Both trees are sorted, so the archive before
// is read in a row beside the walk. The chunks that hold such files' contents
// are taken over whole, if what else is in them is no more than a tenth.
//
// # Memory
//
// Names of the directories from the root to the current one, at most
// [Options.MaxEntries] (about 30 bytes each); 24 batches of 32 entries with up to
// 512 KiB of content each; listings of up to 64 directories ahead; what pxar.Writer
// needs; up to 4096 entries whose contents may be taken over; about 100 bytes
// for each file with further hard links that have not been met. Each directory from
// the root to the current one holds a descriptor.
//
// # Errors
//
// An error ends the archive: the root cannot be opened, an output fails, too many
// entries, ctx. Everything else is a Problem.
//
// # Source
//
// proxmox-backup: pbs-client/src/pxar/create.rs, look_ahead_cache.rs, for what
// is archived and when contents are taken over; nothing of it is copied.
package tree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/catalog"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/idmap"
)

// ErrTooMany is wrapped when there are more names than [Options.MaxEntries].
var ErrTooMany = errors.New("too many entries")

// MaxReaders is how many files are opened and read at a time at most.
const MaxReaders = 16

// DefaultMaxEntries is how many names the open directories may have together.
const DefaultMaxEntries = 1 << 20

// Options says what is archived and how. The zero value is useful.
type Options struct {
	Exclude          []exclude.Pattern // of the command line, stored in the archive
	SkipLostAndFound bool
	AllFileSystems   bool
	IncludeDev       []string   // paths on further file systems that are entered
	MaxEntries       int        // 0: DefaultMaxEntries
	SkipHugeXattrs   bool       // leave out attributes whose list is too long, else that is an error
	IDs              *idmap.Map // owners become those of a container; nil: as they are

	// LeaveOut are kinds of metadata that are not archived: of Xattrs, FCaps and
	// ACLs. Without an ACL the mode gives the group what the ACL gave it.
	LeaveOut filemeta.Set
	// LeaveOutKinds are kinds of entries that are not archived: devices, FIFOs,
	// sockets.
	LeaveOutKinds []pxar.Kind
	// Outputs are files that the archive is written to. They are not archived if
	// they lie in the tree: the archive would have a part of itself.
	Outputs []*os.File

	// Readers is how many files are opened and read at a time. 0 begins with
	// one on a spinning disk and two elsewhere, and adds readers as long as
	// that brings more.
	Readers  int
	Base     *Base         // nil: everything is read
	Problem  func(Problem) // called from one goroutine at a time; nil: problems are only counted
	Counters *Counters     // progress; nil: not counted
}

// Base is the archive of the backup before, of version 2.
type Base struct {
	Meta    *pxar.Reader // at its beginning; contents are not read
	Payload *didx.Index  // of its payload stream
}

// Output is where an archive goes.
type Output struct {
	Meta    io.Writer       // in version 1 the whole archive
	Payload Payload         // nil: version 1
	Catalog *catalog.Writer // in its current directory; nil: none
}

// Payload is where the contents of version 2 go, in the pieces that
// [pxar.WriterOptions] describes.
type Payload interface {
	io.Writer
	// Hint says that a file begins at this offset, before it does.
	Hint(off int64)
	// Reuse puts chunks of the base here, at the offset at, behind all that was
	// written.
	Reuse(at int64, chunks []Chunk) error
}

// Chunk is a chunk of the base.
type Chunk struct {
	Digest digest.Digest
	Length int // bytes
}

// Report says what became of a tree.
type Report struct {
	Entries     int64 // all but the root
	Directories int64
	Files       int64 // without further hard links
	Hardlinks   int64
	Others      int64 // links, devices, fifos, sockets
	Bytes       int64 // of contents
	ReusedFiles int64 // of Files: taken over unread
	ReusedBytes int64 // of Bytes
	Excluded    int64 // entries, not what is below them
	Foreign     int64 // directories on other file systems, archived empty
	Problems    int64
	BaseError   error // why the rest of the base was of no use; nil: it was
}

// ProblemKind is what went wrong with an entry.
type ProblemKind uint8

// The kinds of problems.
const (
	Vanished   ProblemKind = iota + 1 // gone between listing and opening: left out
	Unreadable                        // left out
	Damaged                           // the rest of its content could not be read: zeros
	Shrunk                            // zeros fill it up
	Grew                              // cut
	Changed                           // while it was read
	Incomplete                        // some attribute or some names of a directory are left out
	Unmapped                          // an owner is not in the id map
	BadPattern                        // a line of a .pxarexclude file
)

var problemWords = [...]string{
	"", "vanished before it could be read, and is left out", "cannot be read, and is left out", "could not be read to its end: zeros stand in its place",
	"shrank while it was read: zeros fill it up", "grew while it was read: what came later is left out", "changed while it was read",
	"is not complete", "has ids that are not in the id map: nobody owns it, or ACLs and capabilities are left out", "holds a line that is no pattern",
}

// Problem is something about an entry that is not as it should be.
type Problem struct {
	Kind ProblemKind
	Path string // from the root of the archive, with a leading slash
	Err  error  // why; may be nil
}

func (p Problem) String() string {
	text := fmt.Sprintf("%s %s", p.Path, problemWords[p.Kind])
	if p.Err != nil {
		text += ": " + p.Err.Error()
	}
	return text
}

// Counters counts progress while the archive is made; read it at any time.
type Counters struct {
	Entries atomic.Int64
	Bytes   atomic.Int64 // of contents, taken over ones included
}
