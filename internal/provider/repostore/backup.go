package repostore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"github.com/holdfast-backup/holdfast/internal/tree"
)

// The small files of a snapshot, without their ending.
const (
	vmConfig       = "qemu-server.conf"
	ctConfig       = "pct.conf"
	firewallConfig = "fw.conf"
	blobExt        = ".blob"
	imageExt       = ".img.fidx"
	rootArchive    = "root.pxar"
)

// BackupVM makes a snapshot of a machine.
func (s *Store) BackupVM(ctx context.Context, a provider.Archive, vm provider.VM) (provider.Result, error) {
	job := guest.Job{
		Snapshot: s.snapshot(a), Owner: s.o.Owner,
		Repository: s.origin(), Bitmaps: guest.Reuse,
		Configs: []guest.Config{{Name: vmConfig, Data: vm.Configs.Guest}},
		Master:  s.o.Master, KeyCreated: s.o.KeyCreated,
		Options: s.o.Backup,
	}
	if vm.Firewall != nil {
		job.Configs = append(job.Configs, guest.Config{Name: firewallConfig, Data: vm.Firewall})
	}
	report, err := guest.Backup(ctx, s.r, machine(vm), job)
	if err != nil {
		return provider.Result{}, err
	}
	return result(report.Report), nil
}

func result(r backup.Report) provider.Result {
	var out provider.Result
	for _, a := range r.Archives {
		out.Size += int64(a.Archive.Size)
		out.Stored += a.Stats.Stored.Bytes
		if a.Archive.Archive().Kind() != names.Blob {
			out.Read += a.Stats.Read
		}
		if a.Tree != nil {
			out.Skipped += a.Tree.Problems
		}
	}
	return out
}

// machine is a point that the platform has taken and releases itself.
type machine provider.VM

// Begin compares what the platform did with what the snapshot allows.
func (m machine) Begin(_ context.Context, req guest.Request) (guest.Point, error) {
	p := &point{seal: m.Seal}
	for _, v := range m.Volumes {
		d := guest.Disk{Name: v.Device, Image: v.Image}
		switch v.Mode {
		case provider.ModeNone:
		case provider.ModeNew:
			d.Mode, d.Bitmap = guest.New, req.New
		case provider.ModeReuse:
			base, ok := req.Base[v.Device]
			if !ok || base.Bitmap.Time() != m.Base.Start || base.Size != v.Image.Size() {
				return nil, fmt.Errorf("disk %s: %w", v.Device, guest.ErrBase)
			}
			d.Mode, d.Bitmap = guest.Reuse, req.New
		}
		p.disks = append(p.disks, d)
	}
	return p, nil
}

type point struct {
	disks []guest.Disk
	seal  func(context.Context) error
}

func (p *point) Disks() []guest.Disk     { return p.disks }
func (p *point) Configs() []guest.Config { return nil }

// Intact is asked when all is stored. What broke on the way was a failed read.
func (p *point) Intact(ctx context.Context) error {
	if p.seal == nil {
		return nil
	}
	return p.seal(ctx)
}

func (p *point) Release(context.Context, bool) error { return nil }

// BackupContainer makes a snapshot of a container.
func (s *Store) BackupContainer(ctx context.Context, a provider.Archive, ct provider.Container) (provider.Result, error) {
	name := s.snapshot(a)
	session, err := s.r.Begin(ctx, repo.Begin{Snapshot: name, Owner: s.o.Owner})
	if err != nil {
		return provider.Result{}, err
	}
	job := backup.Job{
		Snapshot: name, Owner: s.o.Owner,
		Sources: []backup.Source{{Name: ctConfig + blobExt, Data: ct.Configs.Guest}},
		Master:  s.o.Master, KeyCreated: s.o.KeyCreated,
		Options: s.o.Backup,
	}
	if ct.Firewall != nil {
		job.Sources = append(job.Sources, backup.Source{Name: firewallConfig + blobExt, Data: ct.Firewall})
	}
	detection := s.o.Detection
	if detection == backup.DetectAuto {
		detection = backup.DetectMetadata
	}
	job.Sources = append(job.Sources, backup.Source{
		Name: rootArchive + ".didx",
		Tree: &backup.Tree{Path: "/", Detection: detection, Archive: func(ctx context.Context, _ string, out tree.Output, o tree.Options) (tree.Report, error) {
			return s.walk(ctx, session, ct.Walk, out, o)
		}},
	})
	report, err := backup.Fill(ctx, session, job)
	if err != nil {
		return provider.Result{}, err
	}
	return result(report), nil
}

// walk gives the walker the stream of the archive before, if there is one that
// contents may be taken over from.
func (s *Store) walk(ctx context.Context, session repo.Session, walk provider.Walk, out tree.Output, o tree.Options) (_ tree.Report, err error) {
	if o.Base == nil {
		return walk(ctx, out, nil)
	}
	x, err := fetch.OpenDynamic(session.Previous(), filearchive.SplitParts("root").Meta, s.o.Backup.Key)
	if err != nil {
		return tree.Report{}, err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	meta, err := fetch.NewStream(ctx, session.Previous(), x, 0, -1, 1)
	if err != nil {
		return tree.Report{}, err
	}
	defer meta.Close()
	return walk(ctx, out, base(meta, o.Base.Payload))
}

func base(meta io.Reader, payload *didx.Index) *provider.Base {
	return &provider.Base{Meta: meta, Payload: payload}
}

// PutLog keeps the log beside a snapshot, encrypted if the snapshot is. That of
// a failed task has no place in a repository.
func (s *Store) PutLog(ctx context.Context, a provider.Archive, log []byte) error {
	snap, err := s.r.Open(ctx, s.snapshot(a))
	if errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = snap.Close() }()
	key := s.o.Backup.Key
	if !encrypted(snap.Manifest()) {
		key = nil
	}
	enc, err := blob.NewEncoder(key, s.o.Backup.Rand, true)
	if err != nil {
		return err
	}
	defer enc.Close()
	raw, err := enc.Append(nil, log)
	if err != nil {
		return err
	}
	if err := s.r.PutLog(ctx, snap.Name(), raw); !errors.Is(err, repo.ErrExists) {
		return err
	}
	return nil
}

func encrypted(m *manifest.Manifest) bool {
	for _, f := range m.Files {
		if f.CryptMode == manifest.ModeEncrypt {
			return true
		}
	}
	return false
}

// diskArchive is the archive of a disk.
func diskArchive(device string) names.Archive { return names.Archive(device + imageExt) }
