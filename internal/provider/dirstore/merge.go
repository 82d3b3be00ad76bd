package dirstore

import (
	"context"
	"errors"
	"path"
	"path/filepath"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/image/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2/qcow2target"
	"github.com/holdfast-backup/holdfast/internal/provider"
)

// worthwhile is how many times as long as all that was taken together already a
// file may be to be taken as well. So the bytes of a disk are copied a few times
// in its life, however many backups are removed one by one, and what is not listed
// takes at most about as much room as it would save to remove it.
const worthwhile = 2

// mergeAll lets the disks of all that is listed take into themselves what is not
// listed, as far as that is worth its cost. What fails stays as it was.
func (s *Store) mergeAll(ctx context.Context, f *family) error {
	for _, a := range f.all { // from old to new, so that each finds its base merged
		if f.gone[a] {
			continue
		}
		devices, err := s.disks(a)
		if err != nil {
			return err
		}
		for _, device := range devices {
			err := s.merge(ctx, f, a, device)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				s.o.Log.Warn("a removed backup takes room until it can be merged", "with", a.Name, "device", device, "error", err)
			}
		}
		if err := s.look(f, a); err != nil {
			return err
		}
	}
	return nil
}

// merge takes into a disk what is right behind it and not listed, in a new file
// that replaces its own. On an error it is as it was.
//
// It is a copy of all that is merged, although moving the few changes of the disk
// down into the file behind it would be less work: that would change a file
// in place, and a power cut could leave its tables torn.
func (s *Store) merge(ctx context.Context, f *family, a provider.Archive, device string) error {
	if !slices.ContainsFunc(f.on[a], func(p provider.Archive) bool { return f.gone[p] }) {
		return nil
	}
	img, err := s.openDisk(a, device)
	if err != nil {
		return err
	}
	defer img.Close()
	files := img.Files() // one for each layer, no raw one at the end
	layers, total := 0, int64(0)
	for n, name := range files {
		in, ok := s.archiveOf(name)
		if n > 0 && (!ok || !f.gone[in]) {
			break
		}
		size, err := s.length(name)
		if err != nil {
			return err
		}
		if n > 0 && size > worthwhile*total {
			break
		}
		layers, total = n+1, total+size
	}
	if layers < 2 {
		return nil
	}
	return s.mergeLayers(ctx, a, device, img, layers)
}

// length is that of a file of a chain.
func (s *Store) length(file string) (int64, error) {
	name, err := filepath.Rel(s.dir, file)
	if err != nil {
		return 0, err
	}
	info, err := s.fs.Lstat(filepath.ToSlash(name))
	return info.Size, err
}

// archiveOf returns the archive that a file of a chain is in.
func (s *Store) archiveOf(file string) (provider.Archive, bool) {
	name, err := filepath.Rel(s.dir, file)
	if err != nil {
		return provider.Archive{}, false
	}
	a, err := s.Parse(path.Dir(filepath.ToSlash(name)))
	return a, err == nil
}

// mergeLayers replaces the first file of a chain by one that holds the first
// layers files.
func (s *Store) mergeLayers(ctx context.Context, a provider.Archive, device string, img *qcow2.Image, layers int) (err error) {
	delta, err := img.Delta(layers)
	if err != nil {
		return err
	}
	name, err := diskFile(device)
	if err != nil {
		return err
	}
	o := qcow2target.Options{Size: img.Size(), Cluster: img.Cluster(), Compress: s.o.Compress}
	if layers < img.Layers() {
		below, err := filepath.Rel(s.dir, img.Files()[layers])
		if err != nil {
			return err
		}
		rest, err := qcow2.OpenIn(s.root(), filepath.ToSlash(below))
		if err != nil {
			return err
		}
		defer rest.Close()
		rel, err := filepath.Rel(dirOf(a), below)
		if err != nil {
			return err
		}
		o.BackingName, o.Backing = filepath.ToSlash(rel), rest
	}
	temp := path.Join(dirOf(a), "."+device+mergedSuffix)
	if err := s.remove(temp); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.remove(temp))
		}
	}()
	if err := s.writeMerged(ctx, temp, delta, o); err != nil {
		return err
	}
	if err := s.fs.Rename(temp, path.Join(dirOf(a), name)); err != nil {
		return err
	}
	return s.fs.SyncDir(dirOf(a)) // before what it was merged with goes
}

func (s *Store) writeMerged(ctx context.Context, temp string, delta *qcow2.Delta, o qcow2target.Options) (err error) {
	f, err := s.fs.Create(temp, fileMode)
	if err != nil {
		return err
	}
	dst, err := qcow2target.New(f, o)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if _, err := copyDisk(ctx, delta, dst); err != nil {
		return err
	}
	return dst.Finish()
}
