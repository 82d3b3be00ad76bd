package fsread

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// ReadFull fills p from off. What lies behind the end of the image is damage of
// the layer that points there; an error of the image comes back wrapped.
func ReadFull(img image.Image, layer string, p []byte, off int64) error {
	if off < 0 || off > img.Size()-int64(len(p)) {
		return Corrupt(layer, "%d bytes at %d lie behind the end, the image has %d", len(p), off, img.Size())
	}
	if n, err := img.ReadAt(p, off); n < len(p) {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("%s: read %d bytes at %d: %w", layer, len(p), off, err)
	}
	return nil
}

// LookupLinear finds a name by reading the directory, for file systems and
// directories without an index.
func LookupLinear(f FS, dir ID, name string) (Entry, error) {
	return LookupFunc(f, dir, func(e Entry) bool { return e.Name == name })
}

// LookupFunc finds the first entry that is wanted. It is ErrNotExist if there is
// none.
func LookupFunc(f FS, dir ID, wanted func(Entry) bool) (Entry, error) {
	var found *Entry
	err := f.ReadDir(dir, func(e Entry) error {
		if !wanted(e) {
			return nil
		}
		found = &e
		return errFound
	})
	if found != nil {
		return *found, nil
	}
	if err != nil {
		return Entry{}, err
	}
	return Entry{}, ErrNotExist
}

// LookupFolded is [LookupLinear] for names whose case does not count: the one that is
// written exactly so wins over the first that differs in case.
func LookupFolded(f FS, dir ID, name string) (Entry, error) {
	var exact, other *Entry
	err := f.ReadDir(dir, func(e Entry) error {
		switch {
		case e.Name == name:
			exact = &e
			return errFound
		case other == nil && strings.EqualFold(e.Name, name):
			other = &e
		}
		return nil
	})
	switch {
	case exact != nil:
		return *exact, nil
	case err != nil:
		return Entry{}, err
	case other != nil:
		return *other, nil
	}
	return Entry{}, ErrNotExist
}

var errFound = errors.New("found")
