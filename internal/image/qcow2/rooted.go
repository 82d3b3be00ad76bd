package qcow2

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
)

// MaxRooted is the number of files behind each other that OpenIn opens at most.
const MaxRooted = 1000

// Root is a directory that chains must not leave.
type Root struct {
	// Dir is its absolute path, so that absolute names below it can be told from
	// others; "": there are none.
	Dir string
	// Open opens a regular file by its name below the root, slash separated and
	// without "." or "..", and follows no symbolic link.
	Open func(name string) (File, error)
}

// OpenIn opens the image that has a name below a root, and its chain, under the
// rules for a storage.
func OpenIn(root Root, name string) (*Image, error) {
	img := &Image{decoders: newDecoders()}
	if err := img.openIn(root, name); err != nil {
		_ = img.Close()
		return nil, err
	}
	return img, nil
}

func (i *Image) openIn(root Root, name string) error {
	tables := newCache()
	var seen []string
	for {
		f, err := root.Open(name)
		if err != nil {
			return i.behind(err)
		}
		l, err := newLayer(f, false, tables)
		if err != nil {
			_ = f.Close()
			return i.behind(err)
		}
		i.layers = append(i.layers, l)
		seen = append(seen, name)
		next, err := root.behind(name, &l.h)
		switch {
		case err != nil:
			return fmt.Errorf("image %s: %w", f.Path(), err)
		case next == "":
			return nil
		case slices.Contains(seen, next):
			return fmt.Errorf("image %s: %w: its backing file %q is in the chain already", f.Path(), format.ErrFormat, l.h.BackingFile)
		case len(seen) == MaxRooted:
			return fmt.Errorf("image %s: more than %d files behind each other: %w", i.layers[0].file.Path(), MaxRooted, format.ErrUnsupported)
		}
		name = next
	}
}

// behind returns the name of the backing file that the header of an image has,
// "" for none.
func (r Root) behind(from string, h *format.Header) (string, error) {
	refuse := func(text string, args ...any) (string, error) {
		return "", fmt.Errorf("%w: %s", ErrNotAllowed, fmt.Sprintf(text, args...))
	}
	name := h.BackingFile
	switch {
	case h.HasDataFile():
		return refuse("its data is in another file (%q)", h.DataFile)
	case name == "":
		return "", nil
	case h.BackingFormat != "" && h.BackingFormat != "qcow2":
		return refuse("its backing file %q has the format %q, not qcow2", name, h.BackingFormat)
	case strings.ContainsRune(name, 0) || hasProtocol(name):
		return refuse("its backing file %q is no file", name)
	}
	if path.IsAbs(name) {
		below, ok := strings.CutPrefix(path.Clean(name), strings.TrimSuffix(r.Dir, "/")+"/")
		if !ok || r.Dir == "" {
			return refuse("its backing file %q lies outside of the storage", name)
		}
		name = below
	} else {
		name = path.Join(path.Dir(from), name)
	}
	if !fs.ValidPath(name) || name == "." {
		return refuse("its backing file %q lies outside of the storage", h.BackingFile)
	}
	return name, nil
}
