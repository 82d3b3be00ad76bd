package qcow2

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// MaxDepth is the number of files behind each other at most.
const MaxDepth = 200

// open opens path and what is behind it.
func (i *Image) open(path string, opts Options) error {
	g, err := newGuard(path, opts)
	if err != nil {
		return err
	}
	tables := newCache()
	for {
		if len(i.layers) == MaxDepth {
			return fmt.Errorf("image %s: more than %d files behind each other: %w", i.layers[0].file.Path(), MaxDepth, format.ErrUnsupported)
		}
		l, err := openLayer(path, g, tables)
		if err != nil {
			return i.behind(err)
		}
		i.layers = append(i.layers, l)
		if l.h.BackingFile == "" {
			return nil
		}
		if path, err = g.resolve(l.file.Path(), "backing file", l.h.BackingFile); err != nil {
			return err
		}
		raw, err := g.backingIsRaw(path, l)
		if err != nil {
			return i.behind(err)
		}
		if raw {
			base, err := image.OpenFile(path, opts.File)
			if err != nil {
				return i.behind(err)
			}
			i.base = base
			return nil
		}
	}
}

// behind says which image the trouble is behind.
func (i *Image) behind(err error) error {
	if len(i.layers) == 0 {
		return err
	}
	return fmt.Errorf("backing file of %s: %w", i.layers[len(i.layers)-1].file.Path(), err)
}

func openLayer(path string, g *guard, tables *cache) (_ *layer, err error) {
	f, err := image.OpenFile(path, g.opts.File)
	if err != nil {
		return nil, err
	}
	l, err := newLayer(f, g.opts.Force, tables)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = l.close()
		}
	}()
	if !l.h.HasDataFile() {
		return l, nil
	}
	if l.h.DataFile == "" {
		return nil, fmt.Errorf("image %s: %w: it has a data file and does not name it", path, format.ErrFormat)
	}
	name, err := g.resolve(path, "data file", l.h.DataFile)
	if err != nil {
		return nil, err
	}
	data, err := image.OpenFile(name, g.opts.File)
	if err != nil {
		return nil, fmt.Errorf("data file of %s: %w", path, err)
	}
	l.data = data
	return l, nil
}

// newLayer reads the header of an open file.
func newLayer(f File, force bool, tables *cache) (*layer, error) {
	h, err := readHeader(f)
	switch {
	case err != nil:
		return nil, err
	case h.Crypt == format.CryptLUKS:
		return nil, fmt.Errorf("image %s is encrypted with LUKS: decrypt it with qemu-img convert first (%w)", f.Path(), format.ErrUnsupported)
	case h.Crypt != format.CryptNone:
		return nil, fmt.Errorf("image %s is encrypted with AES: decrypt it with qemu-img convert first (%w)", f.Path(), format.ErrUnsupported)
	case h.Incompatible&format.IncompatCorrupt != 0 && !force:
		return nil, fmt.Errorf("image %s is marked as corrupt (%w): repair it with qemu-img check -r all, or convert it with qemu-img", f.Path(), format.ErrFormat)
	}
	return &layer{h: h, file: f, data: f, cache: tables}, nil
}

// guard decides which files an image may name.
type guard struct {
	opts Options
	dirs []string // absolute and without symbolic links
	seen []os.FileInfo
}

func newGuard(path string, opts Options) (*guard, error) {
	g := &guard{opts: opts}
	// The directory that the user named, and where the image really is.
	dirs := append([]string{filepath.Dir(path)}, opts.AllowDirs...)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		dirs = append(dirs, filepath.Dir(real))
	}
	for n, dir := range dirs {
		real, err := realPath(dir)
		if err != nil {
			if n == 0 {
				return g, nil // opening says why
			}
			return nil, fmt.Errorf("allowed directory %s: %w", dir, err)
		}
		g.dirs = append(g.dirs, real)
	}
	if info, err := os.Stat(path); err == nil {
		g.seen = append(g.seen, info)
	}
	return g, nil
}

func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// resolve makes a path of a name that the image at from has in its header.
func (g *guard) resolve(from, what, name string) (string, error) {
	refuse := func(format string, args ...any) (string, error) {
		return "", fmt.Errorf("image %s names the %s %q, which is %w: %s", from, what, name, ErrNotAllowed, fmt.Sprintf(format, args...))
	}
	if hasProtocol(name) {
		return refuse("only files are read, not what other programs or machines serve; convert it with qemu-img first")
	}
	if strings.ContainsRune(name, 0) {
		return refuse("it is no file name")
	}
	if g.opts.Alone && !g.opts.AllowAny {
		return refuse("the image may be a guest's own writing; say that its format is qcow2 if you trust it")
	}
	// Cleaned, so that the path that is checked is the one that is opened also
	// where ".." follows a symbolic link.
	if filepath.IsAbs(name) {
		name = filepath.Clean(name)
	} else {
		name = filepath.Join(filepath.Dir(from), name)
	}
	real, err := realPath(name)
	if err != nil {
		return "", fmt.Errorf("%s of image %s: %w", what, from, err)
	}
	if !g.opts.AllowAny && !g.inside(real) {
		return refuse("an image can name any file of this machine; allow its directory %s if you trust the image", filepath.Dir(real))
	}
	info, err := os.Stat(real)
	if err != nil {
		return "", fmt.Errorf("%s of image %s: %w", what, from, err)
	}
	for _, s := range g.seen {
		if os.SameFile(s, info) {
			return "", fmt.Errorf("image %s: %w: its %s %s is in the chain already", from, format.ErrFormat, what, name)
		}
	}
	g.seen = append(g.seen, info)
	return name, nil // relative names in that file count from here, as in QEMU
}

func (g *guard) inside(path string) bool {
	for _, dir := range g.dirs {
		if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}

// hasProtocol follows QEMU: a colon before the first slash ends a protocol.
func hasProtocol(name string) bool {
	n := strings.IndexAny(name, ":/")
	if runtime.GOOS == "windows" {
		n = strings.IndexAny(name, `:/\`)
		if n == 1 {
			return false // a drive's letter
		}
	}
	return n >= 0 && name[n] == ':'
}

// backingIsRaw decides how a backing file is read.
func (g *guard) backingIsRaw(path string, overlay *layer) (bool, error) {
	switch overlay.h.BackingFormat {
	case "qcow2":
		return false, nil
	case "raw", "file", "host_device":
		return true, nil
	case "":
	default:
		return false, fmt.Errorf("%s has the format %q: %w: qcow2 and raw are read", path, overlay.h.BackingFormat, format.ErrUnsupported)
	}
	found, err := Probe(path)
	if err != nil || !found {
		return true, err
	}
	if !TrustedName(path) && !g.opts.AllowAny {
		return false, fmt.Errorf("the format of %s is not recorded, and its content is qcow2 although its name does not end in .qcow2, so that it is %w: "+
			"a guest may have written that; record the format with qemu-img rebase -u -F", path, ErrNotAllowed)
	}
	return false, nil
}

// Probe reports whether a regular file begins with a qcow2 header. That says
// what the bytes are, not who wrote them. A block device is never probed: a
// guest writes its first bytes.
func Probe(path string) (bool, error) {
	f, err := image.OpenFile(path, image.FileOptions{})
	if err != nil {
		return false, err
	}
	defer f.Close()
	if f.IsDevice() {
		return false, nil
	}
	b, err := head(f, 4)
	return format.IsQcow2(b), err
}

// TrustedName reports a name by which an administrator says that the file is
// qcow2. A guest writes content, never names.
func TrustedName(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".qcow2", ".qcow":
		return true
	}
	return false
}
