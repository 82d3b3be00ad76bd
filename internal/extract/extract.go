// Package extract turns a pxar archive into a directory, a tar, a zip or
// another pxar stream.
//
// # Sources
//
// A [Source] yields the entries of an archive in a row: a *pxar.Reader, or a
// [Walker], which has random access and yields a part: one path, or what patterns
// select.
//
// # To a directory
//
// Nothing outside the target is touched, whatever the archive says and whoever
// else works there: every step goes from the descriptor of one directory to a
// name in it, and no symbolic link is followed. Hard links are made to files
// below the target, found in the same way.
//
// A file has no name until it is complete, with content and metadata, so that no
// crash leaves one that only looks whole; where a file system has no files
// without a name it is a hidden one, ".XXXX.holdfast-part". Directories are
// private until everything in them is done, and get their metadata then. Runs of
// zeros of 32 KiB become holes. What is there already stays, unless [Options]
// say otherwise, and what is replaced is replaced in one step.
//
// Metadata that cannot be set is counted by kind, and so are entries that cannot
// be made. What ends all of it: an archive that cannot be read, a target without
// space, a name that is taken.
//
// # In place
//
// [Options.InPlace] makes an existing directory that of the archive. A file is
// taken to be the same if kind, size and modification time are (and the content,
// with Checksum); then only metadata that differs is set. Everything else is
// replaced, by a new file under the same name. A file with several links is
// replaced as well: what is changed of it would change behind other names.
//
// # Order and memory
//
//	one goroutine reads the archive, makes directories and hard links, and
//	writes files above 128 KiB; several others make the rest
//
// Batches of at most 64 entries and 256 KiB of content pass between them, two
// more than twice the others. One descriptor for each directory that is open: at
// most 256 of those on the path to the current entry, and about 128 that wait for
// files in them. With Delete, 8 bytes for each name in the directories on the path.
// Nothing grows with the archive.
//
// # Errors
//
// Errors of the source come back as they are. What cannot be made in the target
// and ends everything is an fs.PathError, or wraps [ErrExists].
package extract

import (
	"errors"
	"io"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// ErrExists is wrapped when something is in the place of an entry and the
// options do not say that it may be replaced.
var ErrExists = errors.New("exists already")

// ErrMismatch is wrapped when what was made is not what the archive has.
var ErrMismatch = errors.New("differs from the archive")

// Source yields an archive as a [pxar.Reader] does: the root first, behind the
// entries of a directory one of the kind End, io.EOF behind that of the root.
// Between two calls of Next it reads the content of the file. Paths lead from
// the root that it yields, and so do the targets of hard links.
type Source interface {
	io.Reader
	Next() (*pxar.Entry, error)
	Path() []string
}

var (
	_ Source = (*pxar.Reader)(nil)
	_ Source = (*Walker)(nil)
)
