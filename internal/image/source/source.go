// Package source opens what a user names as a disk image: it decides between
// raw and qcow2 and refuses what would be read wrongly.
//
// # Whose word on the format
//
// A guest can write anything into its raw disk, also a qcow2 header that names
// files of the host, or a small disk in place of a large one. Content alone
// therefore decides only where it can do no harm:
//
//	format given   it counts; qcow2 may name files in its own directory
//	block device   raw
//	no qcow2 header   raw
//	header, name ends in .qcow2   qcow2, may name files in its own directory
//	header, name ends in .raw     refused: the format must be given
//	header, other name   qcow2, may name no other file
//
// # Writers
//
// An image that a virtual machine has open for writing is refused with
// [ErrInUse]: what is read would be a mixture of times. [Options.Shared] reads
// it all the same.
package source

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2"
)

// ErrInUse is wrapped when a virtual machine writes to the image.
var ErrInUse = image.ErrInUse

// Format is how the bytes of a file make a disk.
type Format string

// The formats. Auto is the rule of the package comment.
const (
	Auto  Format = ""
	Raw   Format = "raw"
	Qcow2 Format = "qcow2"
)

// ParseFormat reads the name of a format; "auto" is Auto.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case Auto, Raw, Qcow2:
		return f, nil
	case "auto":
		return Auto, nil
	}
	return "", fmt.Errorf("unknown image format %q: use raw, qcow2 or auto", s)
}

// Options says how an image is opened.
type Options struct {
	Format Format
	Shared bool // also while a virtual machine writes to it
	File   image.FileOptions
	Qcow2  qcow2.Options // its File is taken from above
}

// Image is an open source.
type Image interface {
	image.Image
	image.Extenter
	io.Closer
	// Writer reports whether a virtual machine has it open for writing.
	Writer() bool
}

// Open opens the image at path for reading.
func Open(path string, opts Options) (Image, error) {
	img, err := open(path, opts)
	if err != nil {
		return nil, err
	}
	if !opts.Shared && img.Writer() {
		_ = img.Close()
		return nil, fmt.Errorf("image %s is %w, which changes it while it is read: "+
			"shut the machine down, read from a snapshot, or accept a torn image", path, ErrInUse)
	}
	return img, nil
}

func open(path string, opts Options) (Image, error) {
	format, alone, err := decide(path, opts.Format)
	if err != nil {
		return nil, err
	}
	if format == Raw {
		img, err := image.OpenFile(path, opts.File)
		if err != nil {
			return nil, err // not img: a nil pointer in an interface
		}
		return img, nil
	}
	q := opts.Qcow2
	q.File = opts.File
	q.Alone = q.Alone || alone
	img, err := qcow2.Open(path, q)
	if err != nil {
		return nil, err
	}
	return img, nil
}

// decide is the table of the package comment.
func decide(path string, given Format) (f Format, alone bool, err error) {
	if given != Auto {
		return given, false, nil
	}
	found, err := qcow2.Probe(path)
	switch {
	case err != nil:
		return "", false, err
	case !found:
		return Raw, false, nil
	case qcow2.TrustedName(path):
		return Qcow2, false, nil
	case strings.EqualFold(filepath.Ext(path), ".raw"):
		return "", false, fmt.Errorf("image %s is called raw and begins with a qcow2 header, which a guest can write: say which format it has", path)
	}
	return Qcow2, true, nil
}
