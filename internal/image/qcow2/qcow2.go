// Package qcow2 reads qcow2 disk images with their chain of backing files.
//
// Read are versions 2 and 3 with all that QEMU 9 writes: compressed clusters
// (zlib and zstd), zero clusters, subclusters, external data files, backing
// files in qcow2 and raw format. Reading takes constant memory, whatever the
// size of the disk: table pages come and go in a cache of [cacheBytes] for the
// whole chain, and each concurrent reader of compressed clusters has its
// buffers. The format itself is described in the package of the same name
// among the formats.
//
// # Other files
//
// A header names other files: backing files and data files. Whoever wrote the
// header chose them, and that may be a guest, which can write such a header
// into its raw disk, or whoever made an image for us to import. Without care
// that is a way to read any file of the host. So:
//
//   - other files must lie in the directory of the image that the user named,
//     or below it, symbolic links resolved; [Options] widens or closes that;
//   - names that are no paths (nbd:, json:, …) are refused;
//   - the format of a backing file is the one that its overlay records. Where
//     it records none, content decides, but a qcow2 header in a file whose name
//     does not end in .qcow2 is refused: it may be the guest's.
//
// # Failures
//
// Damaged metadata, also a reference behind the end of the file, wraps
// [format.ErrFormat]; what is sound and not understood (encryption among it)
// wraps [format.ErrUnsupported]; a file that may not be opened wraps
// [ErrNotAllowed]. All others are the system's own. Nothing that cannot be
// read is returned as zeros.
//
// # A storage of chains
//
// [OpenIn] is for images in a place of their own, of which nothing is known but
// that strangers may have written there. Its rules are narrower: every file is
// qcow2, whatever the headers say; all lie below one root, and are found without
// passing a symbolic link; data files are refused; a name that comes twice ends
// it, and so do more than [MaxRooted] files.
//
// An image that a virtual machine writes meanwhile is read torn; see
// [image.File.Writer].
package qcow2

import (
	"errors"
	"fmt"
	"io"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// ErrNotAllowed is wrapped when an image names another file that it may not
// make us open.
var ErrNotAllowed = errors.New("not allowed")

// File is one file of a chain, open for reading.
type File interface {
	image.Image
	image.Extenter
	Path() string // in messages
	// Writer reports whether a virtual machine has it open for writing.
	Writer() bool
	Close() error
}

var _ File = (*image.File)(nil)

// Options says how an image is opened.
type Options struct {
	// AllowDirs are directories from which other files may be opened, besides
	// the directory of the image.
	AllowDirs []string
	// AllowAny lets the image name any file. It wins over Alone.
	AllowAny bool
	// Alone lets the image name no other file at all.
	Alone bool
	// Force opens an image that is marked as corrupt.
	Force bool
	// File says how the files are read.
	File image.FileOptions
}

// Image is an open chain. It is safe for concurrent use.
type Image struct {
	layers   []*layer // the image first, then what is behind it
	base     File     // raw file at the end of the chain, or nil
	decoders decoders
}

var (
	_ image.Image    = (*Image)(nil)
	_ image.Extenter = (*Image)(nil)
)

// Open opens the image at path and all files of its chain, for reading.
func Open(path string, opts Options) (*Image, error) {
	img := &Image{decoders: newDecoders()}
	if err := img.open(path, opts); err != nil {
		_ = img.Close()
		return nil, err
	}
	return img, nil
}

// Size is the size of the disk in bytes.
func (i *Image) Size() int64 { return i.layers[0].h.Size }

// Cluster is the size of the image's clusters in bytes.
func (i *Image) Cluster() int64 { return i.layers[0].h.Cluster() }

// Files names all files of the chain, the image first.
func (i *Image) Files() []string {
	var all []string
	for _, l := range i.layers {
		all = append(all, l.file.Path())
		if l.data != l.file {
			all = append(all, l.data.Path())
		}
	}
	if i.base != nil {
		all = append(all, i.base.Path())
	}
	return all
}

// Writer reports whether a virtual machine has a file of the chain open for
// writing.
func (i *Image) Writer() bool {
	for _, l := range i.layers {
		if l.file.Writer() || l.data.Writer() {
			return true
		}
	}
	return i.base != nil && i.base.Writer()
}

// ReadAt reads from the disk.
func (i *Image) ReadAt(p []byte, off int64) (int, error) {
	return image.ReadWithin(p, off, i.Size(), i.read)
}

func (i *Image) read(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		pl, err := i.locate(at, int64(len(p)-done))
		if err == nil {
			err = i.readPlace(p[done:done+int(pl.length)], pl)
		}
		if err != nil {
			return done, i.failed(pl.layer, at, err)
		}
		done += int(pl.length)
	}
	return done, nil
}

func (i *Image) readPlace(p []byte, pl place) error {
	switch pl.kind {
	case format.Zero:
		clear(p)
		return nil
	case format.Compressed:
		return i.readCompressed(p, pl)
	}
	n, err := pl.file.ReadAt(p, pl.host)
	if n < len(p) && errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: data at offset %d of %s, which ends at %d", format.ErrFormat, pl.host, pl.file.Path(), pl.file.Size())
	}
	if n == len(p) {
		return nil
	}
	return err
}

// failed says where on which disk.
func (i *Image) failed(l *layer, off int64, err error) error {
	if l == nil {
		l = i.layers[0]
	}
	return fmt.Errorf("image %s, disk offset %d: %w", l.file.Path(), off, err)
}

// Close closes all files.
func (i *Image) Close() error {
	i.decoders.close()
	var first error
	for _, l := range i.layers {
		if err := l.close(); first == nil {
			first = err
		}
	}
	if i.base != nil {
		if err := i.base.Close(); first == nil {
			first = err
		}
	}
	return first
}
