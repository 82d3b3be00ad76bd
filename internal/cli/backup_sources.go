package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image/source"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdclient"
	"github.com/holdfast-backup/holdfast/internal/ui"
)

// backupSource is one argument of backup.
type backupSource struct {
	archive names.Archive
	path    string
	export  *nbd.URI // path is the address of an export; nil: it is not
	mapFile string
	src     backup.Source
	close   func() error
}

// backupSources are all arguments, and how images among them are opened.
type backupSources struct {
	all        []*backupSource
	openWith   source.Options
	exportWith nbdclient.Options
	tree       backup.Tree // what every directory gets
	skipErrors bool
	stdinSize  int64
}

// parseSources reads the arguments without touching what they name.
func (a *app) parseSources(o backupOptions) (*backupSources, error) {
	s := &backupSources{skipErrors: o.skipErrors, stdinSize: image.SizeUnknown}
	format, err := source.ParseFormat(o.sourceFormat)
	if err != nil {
		return nil, usage(fmt.Errorf("--source-format: %w", err))
	}
	s.openWith = source.Options{
		Format: format, Shared: o.forceShare,
		File:  image.FileOptions{Sequential: true, NoHoles: o.readHoles},
		Qcow2: qcow2.Options{AllowDirs: o.allowBacking},
	}
	s.exportWith = o.nbd.options()
	s.exportWith.NoAllocation = o.readHoles
	if s.tree, err = o.tree.tree(); err != nil {
		return nil, err
	}
	if o.stdinSize != "" {
		if s.stdinSize, err = ui.ParseSize(o.stdinSize); err != nil || s.stdinSize <= 0 {
			return nil, usagef("--stdin-size %q is not a size", o.stdinSize)
		}
	}
	byName := map[names.Archive]*backupSource{}
	stdin := ""
	for _, spec := range o.specs {
		src, err := parseSpec(spec)
		if err != nil {
			return nil, err
		}
		if byName[src.archive] != nil {
			return nil, usagef("the archive %s is named twice", src.archive.ClientName())
		}
		if src.export != nil && format == source.Qcow2 {
			return nil, hint(usagef("%s: --source-format qcow2 is for files, and an NBD export is the disk itself", spec), "back it up alone, or leave the flag out")
		}
		if src.path == "-" {
			if stdin != "" {
				return nil, usagef("%s and %s cannot both come from standard input", stdin, src.archive.ClientName())
			}
			stdin = src.archive.ClientName()
		}
		byName[src.archive] = src
		s.all = append(s.all, src)
	}
	for _, arg := range o.changedMaps {
		name, file, ok := strings.Cut(arg, "=")
		archive, err := names.ServerName(name)
		if !ok || file == "" || err != nil {
			return nil, usagef("--changed-map %q is not NAME.img=FILE", arg)
		}
		src := byName[archive]
		if src == nil || archive.Kind() != names.Fidx || src.path == "-" {
			return nil, usagef("--changed-map %s: no image of this name is backed up from a file or device", name)
		}
		src.mapFile = file
	}
	return s, nil
}

func parseSpec(spec string) (*backupSource, error) {
	name, path, ok := strings.Cut(spec, ":")
	if !ok || path == "" {
		return nil, hint(usagef("%q does not say what to back up", spec), "write NAME.img:PATH, NAME.pxar:DIR or NAME.conf:FILE, as disk.img:/dev/sda")
	}
	archive, err := names.ServerName(name)
	if err != nil {
		return nil, hint(usage(err), "end the name in .img for a disk image, in .pxar for a directory, in .conf for a small file")
	}
	if archive.Kind() == names.Didx && !strings.HasSuffix(archive.ClientName(), ".pxar") {
		return nil, hint(usagef("%q: a directory needs a name that ends in .pxar", spec), "whether the archive is split follows from --change-detection-mode")
	}
	if archive.Kind() == names.Didx && path == "-" {
		return nil, hint(usagef("%q: a directory does not come from standard input", spec), "'holdfast pxar' works on archive files")
	}
	b := &backupSource{archive: archive, path: path}
	if !isNBD(path) {
		return b, nil
	}
	if archive.Kind() != names.Fidx {
		return nil, hint(usagef("%q: only a disk image comes over NBD", spec), "end the name in .img for a disk image")
	}
	u, err := parseNBD(path)
	b.export = &u
	return b, err
}

// open opens everything, so that a wrong path fails before the backup starts.
func (s *backupSources) open(ctx context.Context, a *app) error {
	for _, b := range s.all {
		if err := s.openOne(ctx, a, b); err != nil {
			return fmt.Errorf("%s: %w", b.archive.ClientName(), err)
		}
	}
	return nil
}

func (s *backupSources) openOne(ctx context.Context, a *app, b *backupSource) (err error) {
	b.src.Name = b.archive
	switch {
	case b.archive.Kind() == names.Blob:
		b.src.Data, err = a.smallFile(b.path)
		return err
	case b.archive.Kind() == names.Didx:
		return s.openTree(a, b)
	case b.path == "-":
		b.src.Stream = image.NewStream(a.Stdin, s.stdinSize)
		return nil
	}
	if err := s.openImage(ctx, b); err != nil {
		return err
	}
	if s.skipErrors {
		if b.src.Image, err = image.NewBadSectors(b.src.Image, 0, 0); err != nil {
			return err
		}
	}
	if b.mapFile != "" {
		b.src.Changes, err = readMap(b.mapFile)
	}
	return err
}

func (s *backupSources) openImage(ctx context.Context, b *backupSource) error {
	if b.export != nil {
		img, err := nbdclient.Open(ctx, *b.export, s.exportWith)
		if err != nil {
			return err
		}
		b.src.Image, b.close = img, img.Close
		return nil
	}
	img, err := source.Open(b.path, s.openWith)
	if err != nil {
		return explainSource(err)
	}
	b.src.Image, b.close = img, img.Close
	return nil
}

func readMap(path string) (*backup.ChangedMap, error) {
	f, _, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, pathError(err)
	}
	c, err := backup.ReadChangedMap(f)
	if err != nil {
		return nil, explainBackup(fmt.Errorf("%s: %w", path, err))
	}
	return c, nil
}

// smallFile reads what becomes a blob.
func (a *app) smallFile(path string) ([]byte, error) {
	if path != "-" {
		return readSmall(path, blob.MaxChunk)
	}
	b, err := io.ReadAll(io.LimitReader(a.Stdin, blob.MaxChunk+1))
	if err == nil && len(b) > blob.MaxChunk {
		err = fmt.Errorf("what comes from standard input is longer than %s", ui.Size(blob.MaxChunk))
	}
	return b, err
}

func explainSource(err error) error {
	if errors.Is(err, source.ErrInUse) {
		return hint(err, "--force-share accepts it as it is")
	}
	return err
}

// list is what the pipeline gets.
func (s *backupSources) list() []backup.Source {
	var out []backup.Source
	for _, b := range s.all {
		out = append(out, b.src)
	}
	return out
}

// size is the sum of all sources, 0 when one comes from a pipe of unknown length.
func (s *backupSources) size() int64 {
	var n int64
	for _, b := range s.all {
		k := b.size()
		if k < 0 {
			return 0
		}
		n += k
	}
	return n
}

// size is -1 when it is not known.
func (b *backupSource) size() int64 {
	switch {
	case b.src.Image != nil:
		return b.src.Image.Size()
	case b.src.Tree != nil:
		return image.SizeUnknown
	case b.src.Stream != nil:
		if s, ok := b.src.Stream.(interface{ Size() int64 }); ok {
			return s.Size()
		}
		return image.SizeUnknown
	}
	return int64(len(b.src.Data))
}

func (s *backupSources) close() error {
	var errs []error
	for _, b := range s.all {
		if b.close != nil {
			errs = append(errs, b.close())
		}
	}
	return errors.Join(errs...)
}
