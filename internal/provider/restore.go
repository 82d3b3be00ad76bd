package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// restoring is an archive that is open, with what is shown of it.
type restoring struct {
	mu     sync.Mutex // of the calls on one archive; held across them
	dir    string     // private to it
	source Source     // nil: released
	shown  map[string]*shownFile
	tree   *Tree
}

// shownFile is a disk that other programs can read.
type shownFile struct {
	path  string
	img   Image
	close func(context.Context) error
}

// volPrefix stands before archive names in names of volumes.
const volPrefix = "backup/"

// parse reads the name of an archive or of its volume.
func (s *Service) parse(name string, kind Kind) (Archive, error) {
	a, err := s.store.Parse(strings.TrimPrefix(name, volPrefix))
	if err == nil && kind != "" && a.Guest.Kind != kind {
		err = usagef("%s is no archive of a guest of kind %s", name, kind)
	}
	return a, err
}

// RestoreMechanism says how an archive is restored.
func (s *Service) RestoreMechanism(ctx context.Context, name string) (Mechanism, Kind, error) {
	a, err := s.parse(name, "")
	if err != nil {
		return "", "", err
	}
	e, err := s.store.Entry(ctx, a)
	switch {
	case err != nil:
		return "", "", err
	case a.Guest.Kind == QEMU:
		return QemuImg, QEMU, nil
	case e.Format == FormatTar:
		return Tar, LXC, nil
	}
	return Directory, LXC, nil
}

// ArchiveConfigs returns the small files of an archive.
func (s *Service) ArchiveConfigs(ctx context.Context, name string) (Configs, error) {
	a, err := s.parse(name, "")
	if err != nil {
		return Configs{}, err
	}
	return s.store.Configs(ctx, a)
}

// RestoreVMInit opens the archive of a machine and returns its disks.
func (s *Service) RestoreVMInit(ctx context.Context, name string) ([]VolumeInfo, error) {
	r, err := s.openArchive(ctx, name, QEMU)
	if err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	return r.source.Volumes(), nil
}

// openArchive opens an archive anew. The result is locked.
func (s *Service) openArchive(ctx context.Context, name string, kind Kind) (*restoring, error) {
	a, err := s.parse(name, kind)
	if err != nil {
		return nil, err
	}
	if err := s.RestoreCleanup(ctx, name); err != nil {
		return nil, err
	}
	if s.opts.Scratch == "" {
		return nil, errors.New("there is no directory to restore through")
	}
	if err := os.MkdirAll(s.opts.Scratch, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.opts.Scratch, "restore-*")
	if err != nil {
		return nil, err
	}
	src, err := s.store.Open(ctx, a)
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	r := &restoring{dir: dir, source: src, shown: map[string]*shownFile{}}
	r.mu.Lock()
	s.mu.Lock()
	_, twice := s.restores[a.Name]
	refuse := twice || s.closed
	if !refuse {
		s.restores[a.Name] = r
	}
	s.mu.Unlock()
	if refuse {
		err := errors.Join(usagef("%s is being restored already", a.Name), r.release(ctx))
		r.mu.Unlock()
		return nil, err
	}
	return r, nil
}

// opened returns an archive that is open, locked.
func (s *Service) opened(name string, kind Kind) (*restoring, error) {
	a, err := s.parse(name, kind)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	r := s.restores[a.Name]
	s.mu.Unlock()
	if r == nil {
		return nil, usagef("the restore of %s was not begun", a.Name)
	}
	r.mu.Lock()
	if r.source == nil {
		r.mu.Unlock()
		return nil, usagef("the restore of %s has ended", a.Name)
	}
	return r, nil
}

// RestoreVolumeInit shows a disk as a file, and returns its path.
func (s *Service) RestoreVolumeInit(ctx context.Context, name, device string) (string, error) {
	r, err := s.opened(name, QEMU)
	if err != nil {
		return "", err
	}
	defer r.mu.Unlock()
	if f := r.shown[device]; f != nil {
		return f.path, nil
	}
	img, err := r.source.Volume(ctx, device)
	if err != nil {
		return "", err
	}
	path := filepath.Join(r.dir, fmt.Sprintf("%d.raw", len(r.shown)))
	closeFile, err := showFile(path, img)
	if err != nil {
		return "", errors.Join(fmt.Errorf("show disk %s as a file: %w", device, err), img.Close())
	}
	r.shown[device] = &shownFile{path, img, closeFile}
	return path, nil
}

// RestoreVolumeCleanup takes the file of a disk away; it may be repeated.
func (s *Service) RestoreVolumeCleanup(ctx context.Context, name, device string) error {
	r, err := s.opened(name, QEMU)
	if errors.Is(err, ErrUsage) {
		return nil // nothing is open
	}
	if err != nil {
		return err
	}
	defer r.mu.Unlock()
	return r.hide(ctx, device)
}

func (r *restoring) hide(ctx context.Context, device string) error {
	f := r.shown[device]
	if f == nil {
		return nil
	}
	if err := f.close(ctx); err != nil {
		return fmt.Errorf("take the file of disk %s away: %w", device, err)
	}
	delete(r.shown, device)
	return f.img.Close()
}

// RestoreContainerInit makes the tree of a container available.
func (s *Service) RestoreContainerInit(ctx context.Context, name string) (Tree, error) {
	r, err := s.openArchive(ctx, name, LXC)
	if err != nil {
		return Tree{}, err
	}
	defer r.mu.Unlock()
	dir := filepath.Join(r.dir, "tree")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return Tree{}, err
	}
	tree, err := r.source.Tree(ctx, dir)
	if err != nil {
		return Tree{}, err
	}
	r.tree = &tree
	return tree, nil
}

// RestoreCleanup releases all that a restore opened; it may be repeated.
func (s *Service) RestoreCleanup(ctx context.Context, name string) error {
	a, err := s.parse(name, "")
	if err != nil {
		return err
	}
	s.mu.Lock()
	r := s.restores[a.Name]
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.release(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.restores, a.Name)
	return nil
}

// release releases everything. What fails stays, so that it can be tried again.
func (r *restoring) release(ctx context.Context) (err error) {
	for device := range r.shown {
		err = errors.Join(err, r.hide(ctx, device))
	}
	if r.tree != nil {
		if terr := r.tree.Release(ctx); terr != nil {
			err = errors.Join(err, terr)
		} else {
			r.tree = nil
		}
	}
	if err != nil || r.source == nil {
		return err
	}
	if err = r.source.Close(); err == nil {
		err = os.RemoveAll(r.dir)
	}
	r.source = nil
	return err
}

// releaseAll is for the end of the service.
func (s *Service) releaseAll(ctx context.Context) (err error) {
	s.mu.Lock()
	all := s.restores
	s.restores = map[string]*restoring{}
	s.mu.Unlock()
	for _, r := range all {
		r.mu.Lock()
		err = errors.Join(err, r.release(ctx))
		r.mu.Unlock()
	}
	return err
}
