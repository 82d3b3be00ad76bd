package extract

import (
	"fmt"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/idmap"
)

// Existing is a set of what the target may have already.
type Existing uint8

// What may exist. A directory is entered and gets the metadata of the archive;
// anything else is replaced, and never a directory.
const (
	Dirs      Existing = 1 << iota // directories where the archive has one
	Files                          // anything but a directory where the archive has a file
	Symlinks                       // ... where it has a symbolic link
	Hardlinks                      // ... a hard link
	Others                         // ... a device, FIFO or socket

	// Anything is all of them but Dirs.
	Anything = Files | Symlinks | Hardlinks | Others
)

// Options says how a directory is filled. The zero value makes everything, and
// sets all metadata.
type Options struct {
	Existing Existing
	InPlace  bool // see the package comment; Existing does not count then
	Checksum bool // with InPlace: contents are compared
	Delete   bool // with InPlace: what the archive does not have is removed

	Skip        filemeta.Set // metadata that is not set: what new files get is left
	SkipDevices bool         // a device that may not be made is not missed
	KeepRoot    bool         // the metadata of the target directory stays, and it does not count
	// Damaged reports whether an error of reading content is about this file alone:
	// it is left out then. nil: every error ends everything. Only a Walker can go on.
	Damaged func(error) bool

	IDs     *idmap.Map // the owners are those of a container, and become the host's; nil: as they are
	Workers int        // goroutines that make files; 0: by the number of CPUs

	named, byProc bool // as where files without a name are not to be had, or only through /proc; for tests

	Problem  func(Problem) // called from one goroutine at a time; nil: problems are only counted
	Counters *Counters     // progress; nil: not counted
}

// Counters counts progress; read it at any time.
type Counters struct {
	Entries atomic.Int64
	Bytes   atomic.Int64 // of contents, those that were the same included
}

// Problem is an entry that could not be made, or not be compared.
type Problem struct {
	Path string // in the archive, with a leading slash
	Kind pxar.Kind
	Err  error
}

func (p Problem) String() string { return p.Path + ": " + p.Err.Error() }

// Count is a number of entries by kind, and the bytes of their contents.
type Count struct {
	Files, Dirs, Symlinks, Hardlinks, Devices, FIFOs, Sockets int64
	Bytes                                                     int64
}

// Entries is how many there are in all.
func (c Count) Entries() int64 {
	return c.Files + c.Dirs + c.Symlinks + c.Hardlinks + c.Devices + c.FIFOs + c.Sockets
}

func (c *Count) add(kind pxar.Kind, size int64) {
	switch kind {
	case pxar.File:
		c.Files++
		c.Bytes += size
	case pxar.Directory:
		c.Dirs++
	case pxar.Symlink:
		c.Symlinks++
	case pxar.Hardlink:
		c.Hardlinks++
	case pxar.CharDevice, pxar.BlockDevice:
		c.Devices++
	case pxar.FIFO:
		c.FIFOs++
	case pxar.Socket:
		c.Sockets++
	}
}

func (c *Count) plus(o Count) {
	c.Files += o.Files
	c.Dirs += o.Dirs
	c.Symlinks += o.Symlinks
	c.Hardlinks += o.Hardlinks
	c.Devices += o.Devices
	c.FIFOs += o.FIFOs
	c.Sockets += o.Sockets
	c.Bytes += o.Bytes
}

// Missed is metadata of one kind that could not be set.
type Missed struct {
	Count       int64 // entries
	Unsupported int64 // of these, by a file system that does not have it
	Path        string
	Err         error // the first one, not Unsupported if there is another
}

// Result says what became of an archive. The root counts as a directory, unless
// KeepRoot is set.
type Result struct {
	Asked   Count // in the source
	Made    Count // new, replaced or, of directories, entered
	Same    Count // in place: was there
	Changed Count // of Same: metadata was set anew
	Failed  Count // could not be made, or not be written to the format; with problems
	Damaged Count // of Failed: the content could not be read
	Devices int64 // of Failed: devices that may not be made here
	Deleted int64 // entries that the archive does not have
	Left    int64 // ... that were not deleted: a mount point is among them

	NotSet [filemeta.Kinds]Missed

	kept       bool // the root does not count
	devicesToo bool // Devices are missed
}

// Nothing reports whether the source had no more than its root.
func (r *Result) Nothing() bool { return r.Asked == Count{} || r.Asked == Count{Dirs: 1} && !r.kept }

// Complete reports whether all that was asked for is there, metadata included.
func (r *Result) Complete() bool {
	failed := r.Failed
	if !r.devicesToo {
		failed.Devices -= r.Devices
	}
	if failed != (Count{}) || r.Left > 0 {
		return false
	}
	for _, m := range r.NotSet {
		if m.Count > 0 {
			return false
		}
	}
	return true
}

// check compares what was asked for with what became of it.
func (r *Result) check() error {
	done := r.Made
	done.plus(r.Same)
	done.plus(r.Failed)
	if done != r.Asked {
		return fmt.Errorf("the target %w: of %+v there is only %+v", ErrMismatch, r.Asked, done)
	}
	return nil
}
