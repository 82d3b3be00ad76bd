package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/image/overlay"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

// diskOptions are those of commands that open disk images of a snapshot to be
// read at any place.
type diskOptions struct {
	cache    string
	writable bool
	overlay  string
	trace    string
	key      keyOptions
}

func (o *diskOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.cache, "cache", "128M", "memory for decoded chunks")
	f.BoolVar(&o.writable, "writable", false, "allow writing: changes go to an overlay file, the backup stays as it is")
	f.StringVar(&o.overlay, "overlay", "", "with --writable: the overlay file (default: one for this image in the state directory)")
	f.StringVar(&o.trace, "trace", "", "fetch ahead what this file lists, and write into it what is read this time")
	o.key.readFlags(cmd)
}

func (o diskOptions) check(images int) (cache int64, err error) {
	switch {
	case o.overlay != "" && !o.writable:
		return 0, usagef("--overlay goes with --writable")
	case o.overlay != "" && images != 1:
		return 0, usagef("--overlay is for one image, and %d are to be served", images)
	case o.trace != "" && images != 1:
		return 0, usagef("--trace is for one image, and %d are to be served", images)
	}
	return cacheSize(o.cache)
}

// cacheSize reads the value of --cache.
func cacheSize(s string) (int64, error) {
	cache, err := ui.ParseSize(s)
	if err != nil {
		return 0, usage(fmt.Errorf("--cache: %w", err))
	}
	if least := int64(8 << 20); cache < least {
		return 0, usagef("--cache %s is too little: two chunks of 4 MiB are the least", s)
	}
	return cache, nil
}

// disk is an image of a snapshot, open for as long as it is served.
type disk struct {
	name    names.Archive
	image   image.Image // base, or the overlay above it
	base    *archive.Image
	overlay *overlay.Overlay // nil: read-only
	made    bool             // the overlay is new

	record *archive.Recorder // nil: no trace
	trace  string
}

// withDisks opens disk images of one snapshot for a job; no archives means all
// images that it has. They share one cache.
func (a *app) withDisks(ctx context.Context, snapshot string, archives []string, o diskOptions, job func(repo.Snapshot, []*disk) error) error {
	for _, p := range []*string{&o.trace, &o.overlay} { // a process in the background works elsewhere
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	for _, s := range archives {
		if _, err := names.ServerName(s); err != nil && !names.IsSafeID(s) {
			return usage(err)
		}
	}
	return a.withSnapshot(ctx, snapshot, func(_ repo.Repository, s repo.Snapshot) (err error) {
		files, err := diskFiles(s, archives)
		if err != nil {
			return err
		}
		bytes, err := o.check(len(files))
		if err != nil {
			return err
		}
		key, err := a.keyFor(ctx, o.key, show(s.Name()), s.Manifest(), anyEncrypted(files))
		if err != nil {
			return err
		}
		cache := archive.NewCache(bytes)
		var disks []*disk
		defer func() {
			for _, d := range disks {
				err = errors.Join(err, d.close(a))
			}
		}()
		for _, f := range files {
			d, err := a.openDisk(ctx, s, f, key, cache, o)
			if err != nil {
				return err
			}
			disks = append(disks, d)
		}
		return job(s, disks)
	})
}

// diskFiles finds the wanted images in the manifest; all of them when none is
// named.
func diskFiles(s repo.Snapshot, wanted []string) (files []manifest.File, err error) {
	m := s.Manifest()
	if len(wanted) == 0 {
		for _, f := range m.Files {
			if names.Archive(f.Filename).Kind() == names.Fidx {
				files = append(files, f)
			}
		}
		if len(files) == 0 {
			return nil, hint(fmt.Errorf("snapshot %s has no disk image: %w", show(s.Name()), repo.ErrNotFound), "it has %s", join(archiveNames(m.Files)))
		}
		return files, nil
	}
	for _, name := range wanted {
		archive, err := archiveNamed(m, name)
		if err != nil {
			return nil, err
		}
		f, ok := m.File(string(archive))
		switch {
		case !ok:
			return nil, hint(
				fmt.Errorf("snapshot %s has no archive %s: %w", show(s.Name()), name, repo.ErrNotFound),
				"it has %s", join(archiveNames(m.Files)),
			)
		case archive.Kind() != names.Fidx:
			return nil, hint(usagef("%s is not a disk image", name), "'holdfast restore' gives small files and directories")
		case slices.ContainsFunc(files, func(o manifest.File) bool { return o.Filename == f.Filename }):
			return nil, usagef("%s is named twice", name)
		}
		files = append(files, f)
	}
	return files, nil
}

func anyEncrypted(files []manifest.File) bool {
	for _, f := range files {
		if f.CryptMode == manifest.ModeEncrypt {
			return true
		}
	}
	return false
}

func (a *app) openDisk(ctx context.Context, s repo.Snapshot, f manifest.File, key *chunkcrypt.Key, cache *archive.Cache, o diskOptions) (_ *disk, err error) {
	d := &disk{name: names.Archive(f.Filename), trace: o.trace}
	if d.trace != "" {
		d.record = new(archive.Recorder)
	}
	if d.base, err = archive.Open(ctx, s, d.name, key, archive.Options{Cache: cache, Trace: d.record}); err != nil {
		return nil, err
	}
	d.image = d.base
	if err := a.prefetch(ctx, d); err != nil {
		return nil, errors.Join(err, d.base.Close())
	}
	if !o.writable {
		return d, nil
	}
	if err := a.openOverlay(s, f, d, o.overlay); err != nil {
		return nil, errors.Join(err, d.base.Close())
	}
	d.image = d.overlay
	return d, nil
}

// prefetch begins to fetch what an earlier run read. A trace that does not fit
// is only said to be so: it is going to be replaced.
func (a *app) prefetch(ctx context.Context, d *disk) error {
	if d.trace == "" {
		return nil
	}
	t, err := archive.LoadTrace(d.trace)
	switch {
	case errors.Is(err, fs.ErrNotExist): // the first run, if it can be written in the end
		if _, err := os.Stat(filepath.Dir(d.trace)); err != nil {
			return hint(fmt.Errorf("--trace: %w", err), "make the directory, or name a file in another one")
		}
		return nil
	case errors.Is(err, archive.ErrTrace):
		return hint(fmt.Errorf("--trace: %w", err), "name another file, or remove this one if it is a trace that was damaged")
	case err != nil:
		return fmt.Errorf("--trace: %w", err)
	}
	if err := d.base.Prefetch(ctx, t); err != nil {
		a.warn("nothing is fetched ahead: %v", err)
	}
	return nil
}

// close ends everything, the overlay first. What was read is written into the
// trace.
func (d *disk) close(a *app) error {
	var errs []error
	if d.overlay != nil {
		errs = append(errs, d.overlay.Close())
	}
	if d.record != nil {
		if t := d.record.Trace(); len(t.Slots) > 0 {
			if err := t.Save(d.trace); err != nil {
				a.warn("what was read is not in the trace: %v", err)
			}
		}
	}
	return errors.Join(append(errs, d.base.Close())...)
}
