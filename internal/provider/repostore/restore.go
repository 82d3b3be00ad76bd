package repostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusemount"
	"github.com/holdfast-backup/holdfast/internal/mount"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// Configs reads the small files of a snapshot.
func (s *Store) Configs(ctx context.Context, a provider.Archive) (c provider.Configs, err error) {
	snap, err := s.r.Open(ctx, s.snapshot(a))
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	guestConfig := vmConfig
	if a.Guest.Kind == provider.LXC {
		guestConfig = ctConfig
	}
	if c.Guest, err = fetch.Blob(snap, names.Archive(guestConfig+blobExt), s.o.Backup.Key); err != nil {
		return provider.Configs{}, err
	}
	if _, ok := snap.Manifest().File(firewallConfig + blobExt); !ok {
		return c, nil
	}
	if c.Firewall, err = fetch.Blob(snap, firewallConfig+blobExt, s.o.Backup.Key); err != nil {
		return provider.Configs{}, err
	}
	if c.Firewall == nil {
		c.Firewall = []byte{} // it was there, and empty
	}
	return c, nil
}

// Open opens a snapshot and all indexes that its manifest names.
func (s *Store) Open(ctx context.Context, a provider.Archive) (_ provider.Source, err error) {
	snap, err := s.r.Open(ctx, s.snapshot(a))
	if err != nil {
		return nil, err
	}
	src := &source{store: s, snap: snap, cache: archive.NewCache(0)}
	src.ctx, src.cancel = context.WithCancel(context.WithoutCancel(ctx)) // it outlives the call
	if err := src.check(); err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return src, nil
}

// source is an open snapshot.
type source struct {
	store  *Store
	snap   repo.Snapshot
	cache  *archive.Cache
	ctx    context.Context // of all reads
	cancel context.CancelFunc
	disks  []provider.VolumeInfo
}

// check opens what is there: missing or cut indexes, and a wrong key, show now.
func (s *source) check() error {
	if err := fetch.CheckKey(s.snap, s.store.o.Backup.Key); err != nil {
		return err
	}
	for _, f := range s.snap.Manifest().Files {
		device, isDisk := strings.CutSuffix(f.Filename, imageExt)
		if !isDisk {
			continue
		}
		x, err := fetch.Open(s.snap, f.Archive(), s.store.o.Backup.Key)
		if err != nil {
			return err
		}
		if err := x.Close(); err != nil {
			return err
		}
		s.disks = append(s.disks, provider.VolumeInfo{Device: device, Size: int64(f.Size)})
	}
	slices.SortFunc(s.disks, func(a, b provider.VolumeInfo) int { return strings.Compare(a.Device, b.Device) })
	return nil
}

func (s *source) Volumes() []provider.VolumeInfo { return slices.Clone(s.disks) }

// Volume opens a disk.
func (s *source) Volume(_ context.Context, device string) (provider.Image, error) {
	if !slices.ContainsFunc(s.disks, func(v provider.VolumeInfo) bool { return v.Device == device }) {
		return nil, fmt.Errorf("disk %s in %s: %w", device, s.snap.Name(), repo.ErrNotFound)
	}
	img, err := archive.Open(s.ctx, s.snap, diskArchive(device), s.store.o.Backup.Key, archive.Options{Cache: s.cache})
	if err != nil {
		return nil, err
	}
	return img, nil
}

// Tree mounts the file archive of a container on dir, with the ids that it has
// inside.
func (s *source) Tree(ctx context.Context, dir string) (provider.Tree, error) {
	parts, err := filearchive.Find(s.snap.Manifest(), rootArchive)
	if err != nil {
		return provider.Tree{}, err
	}
	f, err := filearchive.Open(s.ctx, s.snap, parts, s.store.o.Backup.Key, s.cache)
	if err != nil {
		return provider.Tree{}, err
	}
	links, err := mount.CountLinks(ctx, f.Archive)
	if err != nil {
		return provider.Tree{}, errors.Join(err, f.Close())
	}
	m, err := mount.New(dir, f.Archive, mount.Options{Source: "holdfast:" + s.snap.Name().String(), Links: links})
	if err != nil {
		return provider.Tree{}, errors.Join(err, f.Close())
	}
	return provider.Tree{Dir: m.Dir(), Release: func(ctx context.Context) error {
		err := m.Unmount(ctx)
		if errors.Is(err, fusemount.ErrBusy) {
			err = m.Close(ctx)
		}
		if err != nil {
			return err
		}
		<-m.Done()
		return f.Close()
	}}, nil
}

// Close ends what still reads.
func (s *source) Close() error {
	s.cancel()
	return s.snap.Close()
}
