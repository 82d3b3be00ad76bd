package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/provider/carry"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// source is an archive open for restoring. Nothing is removed or merged
// meanwhile.
type source struct {
	s     *Store
	a     provider.Archive
	lock  vfs.Unlocker
	disks []provider.VolumeInfo
}

// Open implements [provider.Storage].
func (s *Store) Open(ctx context.Context, a provider.Archive) (_ provider.Source, err error) {
	if err := s.find(a); err != nil {
		return nil, err
	}
	u, err := s.waitForChain(ctx, a.Guest.ID)
	if err != nil {
		return nil, err
	}
	src := &source{s: s, a: a, lock: u}
	defer func() {
		if err != nil {
			s.free(u)
		}
	}()
	if err := s.find(a); err != nil {
		return nil, err
	}
	devices, err := s.disks(a)
	if err != nil {
		return nil, err
	}
	for _, device := range devices {
		img, err := s.openDisk(a, device)
		if err != nil {
			return nil, err
		}
		src.disks = append(src.disks, provider.VolumeInfo{Device: device, Size: img.Size()})
		if err := img.Close(); err != nil {
			return nil, err
		}
	}
	if a.Guest.Kind == provider.LXC {
		if _, err := src.tree(); err != nil {
			return nil, err
		}
	}
	return src, nil
}

// Volumes implements [provider.Source].
func (r *source) Volumes() []provider.VolumeInfo { return r.disks }

// Volume implements [provider.Source].
func (r *source) Volume(_ context.Context, device string) (provider.Image, error) {
	for _, d := range r.disks {
		if d.Device == device {
			return r.s.openDisk(r.a, device)
		}
	}
	return nil, fmt.Errorf("backup %s has no disk %q: %w", r.a.Name, device, repo.ErrNotFound)
}

// VolumeSince opens a disk as what it has that it had not in an older archive.
func (r *source) VolumeSince(_ context.Context, device string, base provider.Archive) (provider.Image, error) {
	img, err := r.s.openDisk(r.a, device)
	if err != nil {
		return nil, err
	}
	for n, file := range img.Files() {
		if a, ok := r.s.archiveOf(file); ok && a == base && n > 0 {
			return img.Delta(n)
		}
	}
	return nil, errors.Join(fmt.Errorf("disk %s of backup %s: %w: %s", device, r.a.Name, carry.ErrNotSince, base.Name), img.Close())
}

var _ carry.Sincer = (*source)(nil)

// tree returns the name of the file that a container is in.
func (r *source) tree() (string, error) {
	for _, name := range []string{tarFile, squashFile} {
		info, err := r.s.fs.Lstat(path.Join(dirOf(r.a), name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return "", err
		case !info.Mode.IsRegular():
			return "", &repo.CorruptError{What: "backup " + r.a.Name, Err: fmt.Errorf("%s is no regular file", name)}
		}
		return name, nil
	}
	return "", &repo.CorruptError{What: "backup " + r.a.Name, Err: fmt.Errorf("it has neither %s nor %s", tarFile, squashFile)}
}

// Tree implements [provider.Source].
func (r *source) Tree(ctx context.Context, dir string) (provider.Tree, error) {
	name, err := r.tree()
	if err != nil {
		return provider.Tree{}, err
	}
	file := filepath.Join(r.s.dir, dirOf(r.a), name)
	if name == tarFile {
		return provider.Tree{Tar: file, Release: func(context.Context) error { return nil }}, nil
	}
	release, err := showSquashfs(ctx, file, dir)
	if err != nil {
		return provider.Tree{}, fmt.Errorf("open backup %s: %w", r.a.Name, err)
	}
	return provider.Tree{Dir: dir, Release: release}, nil
}

// Close implements [provider.Source].
func (r *source) Close() error {
	if r.lock == nil {
		return nil
	}
	u := r.lock
	r.lock = nil
	return u.Unlock()
}
