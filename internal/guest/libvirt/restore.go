package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/domxml"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/restore"
)

// RestoreOptions says what a restored domain is called, and where it lies.
type RestoreOptions struct {
	Name   string            // empty: as it was
	NewIDs bool              // a new UUID and new MAC addresses
	Dir    string            // for all files; empty: where they were
	Places map[string]string // file or block device by a disk's target; goes before Dir
	Format string            // of files, "raw" or "qcow2"; empty: as it was
	// Replace takes the place of files that are there, and of a domain with this
	// name and UUID that is shut down.
	Replace bool
	Start   bool // when all is there

	SwtpmDir string // as in [Options]
	QemuImg  string // as in [Options]

	Key   *chunkcrypt.Key // nil: the snapshot is not encrypted
	Image restore.Options
	// Started is called before a disk is restored; may be nil.
	Started func(name names.Archive, size int64)
	Log     *slog.Logger // nil: nobody
}

func (o RestoreOptions) filled() RestoreOptions {
	if o.SwtpmDir == "" {
		o.SwtpmDir = defaultSwtpmDir
	}
	if o.QemuImg == "" {
		o.QemuImg = defaultQemuImg
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Restored says what a restore made.
type Restored struct {
	Name, UUID string
	Disks      []RestoredDisk
}

// RestoredDisk is a disk of a [Restored].
type RestoredDisk struct {
	Target, Path, Format string
	Result               restore.Result // without meaning for a live restore
}

// Restore makes a domain of a snapshot. After an error there is no new domain,
// and no file that was not there before; what was replaced is lost.
func (c *Conn) Restore(ctx context.Context, snap repo.Snapshot, o RestoreOptions) (r Restored, err error) {
	o = o.filled()
	l, err := readLayout(snap, o)
	if err != nil {
		return r, err
	}
	if err := c.free(l, o.Replace); err != nil {
		return r, err
	}
	var made made
	defer func() {
		if err != nil {
			err = errors.Join(err, made.remove())
		}
	}()
	r = Restored{Name: l.name, UUID: l.uuid}
	for _, d := range l.disks {
		res, err := restoreDisk(ctx, snap, d, o, &made)
		if err != nil {
			return r, fmt.Errorf("disk %s: %w", d.Target, err)
		}
		r.Disks = append(r.Disks, RestoredDisk{d.Target, d.Place.Path, d.Place.Format, res})
	}
	if err := restoreFiles(ctx, snap, l, o, &made); err != nil {
		return r, err
	}
	dom, err := c.define(l, o)
	if err != nil {
		return r, err
	}
	if o.Start {
		if err := c.l.DomainCreate(dom); err != nil {
			o.Log.Warn("the domain is complete, and does not start", "domain", l.name, "error", message(err))
		}
	}
	return r, nil
}

func (c *Conn) define(l *layout, o RestoreOptions) (lv.Domain, error) {
	missing(l, o)
	dom, err := c.l.DomainDefineXML(l.def.String())
	if err != nil {
		return dom, fmt.Errorf("define domain %s: %w", l.name, err)
	}
	return dom, nil
}

// missing tells of what the domain uses besides what is restored, and which is
// not here: it may not start.
func missing(l *layout, o RestoreOptions) {
	for _, d := range l.def.Disks() {
		known := false
		for _, have := range l.disks {
			known = known || have.Target == d.Target
		}
		if _, err := os.Stat(d.Path); !known && d.Path != "" && errors.Is(err, fs.ErrNotExist) {
			o.Log.Warn("a file that the domain uses is not in the snapshot and not here", "domain", l.name, "disk", d.Target, "file", d.Path)
		}
	}
}

// readLayout reads the small files that say what the snapshot is.
func readLayout(snap repo.Snapshot, o RestoreOptions) (*layout, error) {
	text, err := restore.Blob(snap, descriptionName+blobExt, o.Key)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s is none of a libvirt domain: %w", snap.Name(), err)
	}
	desc, err := ParseDescription(text)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", snap.Name(), err)
	}
	name, err := names.ParseArchive(desc.Definition)
	if err != nil {
		return nil, err
	}
	if text, err = restore.Blob(snap, name, o.Key); err != nil {
		return nil, err
	}
	def, err := domxml.Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %s: %w", snap.Name(), name, err)
	}
	return newLayout(desc, def, o)
}

// restoreDisk writes one disk.
func restoreDisk(ctx context.Context, snap repo.Snapshot, d diskPlace, o RestoreOptions, made *made) (restore.Result, error) {
	name, err := names.ParseArchive(d.Archive)
	if err != nil {
		return restore.Result{}, err
	}
	if o.Started != nil {
		o.Started(name, d.Size)
	}
	to, err := openTarget(d.Place, d.Size, o.Replace, made)
	if err != nil {
		return restore.Result{}, err
	}
	res, err := restore.Image(ctx, snap, name, o.Key, to, o.Image)
	return res, errors.Join(err, to.Close())
}

// restoreFiles writes firmware variables and the like, and the state of a TPM.
func restoreFiles(ctx context.Context, snap repo.Snapshot, l *layout, o RestoreOptions, made *made) error {
	for _, f := range l.files {
		if err := makeReachable(filepath.Dir(f.path)); err != nil {
			return err
		}
		if f.archive.Kind() == names.Fidx {
			at, ok := snap.Manifest().File(string(f.archive))
			if !ok {
				return fmt.Errorf("snapshot %s has no %s: %w", snap.Name(), f.archive, repo.ErrNotFound)
			}
			d := diskPlace{DiskDescription{Archive: string(f.archive), Size: int64(at.Size)}, domxml.Place{Path: f.path, Format: "raw"}}
			if _, err := restoreDisk(ctx, snap, d, o, made); err != nil {
				return fmt.Errorf("%s: %w", f.path, err)
			}
			continue
		}
		text, err := restore.Blob(snap, f.archive, o.Key)
		if err != nil {
			return err
		}
		if err := made.write(f.path, text, o.Replace); err != nil {
			return err
		}
	}
	if l.tpm == "" {
		return nil
	}
	text, err := restore.Blob(snap, l.tpm, o.Key)
	if err != nil {
		return err
	}
	dir := tpmDir(o.SwtpmDir, l.uuid, l.def.TPMVersion())
	if o.Replace {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("state of the TPM: %w", err)
		}
	}
	if err := untarTPM(text, o.SwtpmDir, l.uuid, l.def.TPMVersion()); err != nil {
		return fmt.Errorf("state of the TPM: %w", err)
	}
	made.add(dir)
	return nil
}
