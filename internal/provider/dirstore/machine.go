package dirstore

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/holdfast-backup/holdfast/internal/image/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2/qcow2target"
	"github.com/holdfast-backup/holdfast/internal/provider"
)

// maxChain is how many disks behind each other are made: the next backup is a
// full one. Each costs a file and a look at its tables whenever the last is read.
const maxChain = 500

// sectors rounds a disk's size as QEMU does.
func sectors(size int64) int64 { return (size + 511) &^ 511 }

// Reusable implements [provider.Storage].
func (s *Store) Reusable(_ context.Context, base provider.Archive, sizes map[string]int64) (map[string]bool, error) {
	if !s.o.Incremental {
		return nil, nil
	}
	last, err := s.previous(base.Guest.ID)
	if err != nil || last.last != base.Start {
		return nil, err
	}
	usable := map[string]bool{}
	for device, size := range sizes {
		if err := s.reusable(base, device, size); err != nil {
			s.o.Log.Info("a disk needs a full backup", "backup", base.Name, "device", device, "reason", err)
			continue
		}
		usable[device] = true
	}
	return usable, nil
}

// reusable says why a disk cannot be built on.
func (s *Store) reusable(base provider.Archive, device string, size int64) error {
	img, err := s.openDisk(base, device)
	if err != nil {
		return err
	}
	defer img.Close()
	if img.Size() != sectors(size) {
		return fmt.Errorf("it had %d bytes and has %d now", img.Size(), size)
	}
	if n := img.Layers(); n >= maxChain {
		return fmt.Errorf("it is the end of a chain of %d disks", n)
	}
	return nil
}

// BackupVM implements [provider.Storage].
func (s *Store) BackupVM(ctx context.Context, a provider.Archive, vm provider.VM) (provider.Result, error) {
	d, err := s.begin(ctx, a, vm.Configs)
	if err != nil {
		return provider.Result{}, err
	}
	defer d.release()
	var res provider.Result
	for _, v := range vm.Volumes {
		if err := d.disk(ctx, vm.Base, v, &res); err != nil {
			d.abort()
			return provider.Result{}, fmt.Errorf("disk %s: %w", v.Device, err)
		}
	}
	if err := d.commit(ctx, vm.Seal); err != nil {
		d.abort()
		return provider.Result{}, fmt.Errorf("complete backup %s: %w", a.Name, err)
	}
	s.setPrevious(a, vm)
	res.Size = s.size(a, res.Stored)
	return res, nil
}

// disk stores one disk and adds what it took.
func (d *draft) disk(ctx context.Context, base provider.Archive, v provider.Volume, res *provider.Result) (err error) {
	name, err := diskFile(v.Device)
	if err != nil {
		return err
	}
	o := qcow2target.Options{Size: v.Image.Size(), Compress: d.s.o.Compress}
	if v.Mode == provider.ModeReuse {
		below, err := d.below(base, v)
		if err != nil {
			return err
		}
		defer below.Close()
		o.BackingName, o.Backing = path.Join("..", path.Base(dirOf(base)), name), below
	}
	f, err := d.s.fs.Create(path.Join(d.dir, name), fileMode)
	if err != nil {
		return err
	}
	img, err := qcow2target.New(f, o)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	read, err := copyDisk(ctx, v.Image, img)
	if err != nil {
		return err
	}
	if err := img.Finish(); err != nil {
		return err
	}
	res.Read += read
	res.Stored += img.Written()
	return nil
}

// below opens the disk that a disk builds on. It was found fit before, but
// perhaps by another process, some time ago.
func (d *draft) below(base provider.Archive, v provider.Volume) (*qcow2.Image, error) {
	if base.Guest != d.a.Guest || base.Start >= d.a.Start {
		return nil, fmt.Errorf("backup %s cannot build on %q", d.a.Name, base.Name)
	}
	img, err := d.s.openDisk(base, v.Device)
	if err != nil {
		return nil, fmt.Errorf("the backup that this one builds on: %w", err)
	}
	if img.Size() != sectors(v.Image.Size()) {
		return nil, errors.Join(fmt.Errorf("the disk had %d bytes in backup %s and has %d now", img.Size(), base.Name, v.Image.Size()), img.Close())
	}
	return img, nil
}
