// Package repostore keeps the archives of package provider as snapshots of a
// repository, local or remote.
//
// # Names
//
// An archive is called as its snapshot: "vm/100/2026-01-02T03:04:05Z", in the one
// namespace that the storage is of. Groups of hosts, and ids that are no numbers,
// are not seen.
//
// # What a snapshot holds
//
// As Proxmox VE itself has it, so that its own storage of that kind restores what
// was made here, and the other way round:
//
//	VM         qemu-server.conf.blob, fw.conf.blob, DEVICE.img.fidx for each disk
//	container  pct.conf.blob, fw.conf.blob, root.mpxar.didx and root.ppxar.didx
//	both       client.log.blob, the log of the task
//
// Every snapshot is complete, so there are no parents, removing one never needs
// another, and incremental means only that less is read.
//
// # What bitmaps count from
//
// Beside the notes of package provider, the snapshot carries the mark of package
// guest, with the origin as its owner: the entry of the storage in the
// configuration of the platform, and the host. A snapshot that something else
// made is not built upon, whatever the notes say.
//
// # Crashes
//
// What a killed backup leaves in a repository is not listed, and cleaned up there.
package repostore

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Options say how a repository is used.
type Options struct {
	NS     names.Namespace
	Owner  string // auth-id of new groups
	Origin string // see the package comment

	Backup     backup.Options // of new archives; its key also reads
	Detection  backup.Detection
	Master     *rsa.PublicKey // gets a copy of the key; may be nil
	KeyCreated time.Time

	Location *time.Location // of calendar days when pruning
}

// Store is a repository as a storage.
type Store struct {
	r repo.Repository
	o Options
}

var _ provider.Storage = (*Store)(nil)

// New makes a storage of a repository, and closes it with the storage.
func New(r repo.Repository, o Options) *Store {
	if o.Location == nil {
		o.Location = time.Local
	}
	if o.Backup.ChunkSize == 0 {
		o.Backup.ChunkSize = backup.DefaultChunkSize
	}
	return &Store{r, o}
}

// Name is where the repository is.
func (s *Store) Name() string { return s.r.Location() }

// Close closes the repository.
func (s *Store) Close() error { return s.r.Close() }

// Archive names the snapshot of a guest.
func (s *Store) Archive(g provider.Guest, start time.Time) provider.Archive {
	snap := names.Snapshot{NS: s.o.NS, Group: groupOf(g), Time: start.Unix()}
	return provider.Archive{Name: snap.String(), Guest: g, Start: snap.Time}
}

func groupOf(g provider.Guest) names.Group {
	t := names.VM
	if g.Kind == provider.LXC {
		t = names.CT
	}
	return names.Group{Type: t, ID: strconv.Itoa(g.ID)}
}

// Parse reads a snapshot's name without namespace.
func (s *Store) Parse(name string) (provider.Archive, error) {
	snap, err := names.ParseSnapshot(name)
	if err != nil {
		return provider.Archive{}, err
	}
	a, ok := archiveOf(snap)
	if !ok || a.Name != name {
		return provider.Archive{}, fmt.Errorf("%w: %q is no backup of a guest: want vm/NUMBER/TIME or ct/NUMBER/TIME", names.ErrName, name)
	}
	return a, nil
}

// maxID is the highest number of a guest.
const maxID = 999_999_999

// archiveOf tells what a snapshot is here; ok is false if it is none of ours.
func archiveOf(snap names.Snapshot) (a provider.Archive, ok bool) {
	id, err := strconv.Atoi(snap.ID)
	if err != nil || id < 1 || id > maxID || strconv.Itoa(id) != snap.ID {
		return a, false
	}
	g := provider.Guest{ID: id}
	switch snap.Type {
	case names.VM:
		g.Kind = provider.QEMU
	case names.CT:
		g.Kind = provider.LXC
	default:
		return a, false
	}
	return provider.Archive{Name: snap.String(), Guest: g, Start: snap.Time}, true
}

// snapshot is the name of an archive in the repository.
func (s *Store) snapshot(a provider.Archive) names.Snapshot {
	return names.Snapshot{NS: s.o.NS, Group: groupOf(a.Guest), Time: a.Start}
}

// Prepare reaches the repository and its namespace.
func (s *Store) Prepare(ctx context.Context) error {
	_, err := s.r.Groups(ctx, s.o.NS)
	return err
}

// Reusable looks at the mark, the key and the indexes of the base.
func (s *Store) Reusable(ctx context.Context, base provider.Archive, sizes map[string]int64) (map[string]bool, error) {
	name := s.snapshot(base)
	list, err := s.group(ctx, base.Guest)
	if err != nil || len(list) == 0 || list[len(list)-1].Snapshot.Time != name.Time {
		return nil, err
	}
	if v := list[len(list)-1].Verify; v != nil && v.State == manifest.VerifyFailed {
		return nil, nil
	}
	snap, err := s.r.Open(ctx, name)
	if errors.Is(err, repo.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = snap.Close() }()
	mark := guest.MarkOf(snap.Manifest(), s.owner(base.Guest))
	usable := map[string]bool{}
	for device, size := range sizes {
		archive := diskArchive(device)
		if _, marked := mark[archive]; marked {
			usable[device] = backup.Reusable(previous{prev: snap}, archive, size, s.o.Backup) == ""
		}
	}
	return usable, nil
}

// previous is the part of a session that a decision needs before there is one.
type previous struct {
	repo.Session
	prev repo.Snapshot
}

func (p previous) Previous() repo.Snapshot { return p.prev }

func (s *Store) owner(g provider.Guest) guest.Owner {
	return guest.OwnerOf(s.origin(), s.o.NS, groupOf(g))
}

func (s *Store) origin() string { return s.r.Location() + "\x00" + s.o.Origin }

// group lists the finished snapshots of a guest, from old to new.
func (s *Store) group(ctx context.Context, g provider.Guest) ([]repo.SnapshotInfo, error) {
	group := groupOf(g)
	list, err := s.r.Snapshots(ctx, s.o.NS, &group)
	if errors.Is(err, repo.ErrNotFound) {
		return nil, nil
	}
	return finished(list), err
}

func finished(list []repo.SnapshotInfo) []repo.SnapshotInfo {
	var all []repo.SnapshotInfo
	for _, i := range list {
		if i.Finished {
			all = append(all, i)
		}
	}
	return all
}
