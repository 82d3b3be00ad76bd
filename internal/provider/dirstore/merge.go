package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/image/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2/qcow2target"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// merge takes into a disk what it needs of victims right behind it, in a new
// file that replaces its own. On an error it is as it was, and needed lists the
// victims that it needs.
//
// It is a copy of all that is merged, although moving the few changes of the disk
// down into the file behind it would be less work: that would change a file
// in place, and a power cut could leave its tables torn.
func (s *Store) merge(ctx context.Context, a provider.Archive, device string, victims []provider.Archive) (needed []provider.Archive, err error) {
	h, err := s.header(a, device)
	if err != nil {
		if _, damaged := errors.AsType[*repo.CorruptError](err); damaged || errors.Is(err, fs.ErrNotExist) {
			s.o.Log.Warn("a disk of a backup cannot be read", "backup", a.Name, "device", device, "error", err)
			return nil, nil // whatever it built on, it cannot be restored
		}
		return nil, err
	}
	first, ok := s.parent(a, &h)
	if !ok || !slices.Contains(victims, first) {
		return nil, nil
	}
	needed = []provider.Archive{first}
	img, err := s.openDisk(a, device)
	if err != nil {
		return needed, err
	}
	defer img.Close()
	files := img.Files() // one for each layer, no raw one at the end
	layers := 1
	for ; layers < len(files); layers++ {
		v, ok := s.archiveOf(files[layers])
		if !ok || !slices.Contains(victims, v) {
			break
		}
		if v != first {
			needed = append(needed, v)
		}
	}
	if err := s.mergeLayers(ctx, a, device, img, layers); err != nil {
		return needed, fmt.Errorf("disk %s: %w", device, err)
	}
	return nil, nil
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
	o := qcow2target.Options{Size: img.Size(), Cluster: img.Cluster()}
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
