package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/backup/amend"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/image/overlay"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type overlayCommitOptions struct {
	backupTime string
	notes      string
	setNotes   bool
	owner      string
	discard    bool
	key        keyOptions
}

func newOverlayCommitCommand(a *app) *cobra.Command {
	var o overlayCommitOptions
	cmd := &cobra.Command{
		Use:   "commit FILE...",
		Short: "Make a new snapshot of what was written",
		Long: `Makes a new snapshot of the group that the overlay's snapshot belongs to: the disk
as the overlay shows it, and everything else as it is in that snapshot. Several
overlays over images of one snapshot become one new snapshot. Only what changed
is read. The overlay may not be in use; it stays, unless --discard removes it
afterwards.

The repository is the one that the overlay was made for, unless --repository
names another place for it.`,
		Example: `  holdfast overlay commit vm-100.overlay
  holdfast overlay commit system.overlay data.overlay --notes "after the upgrade" --discard`,
		Args: between(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.setNotes = cmd.Flags().Changed("notes")
			return runOverlayCommit(cmd.Context(), a, args, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.backupTime, "backup-time", "", "time of the new snapshot, as 2026-11-22T10:00:00Z or seconds since 1970 (default: now)")
	f.StringVar(&o.notes, "notes", "", "notes of the new snapshot (default: those of the one below)")
	f.StringVar(&o.owner, "owner", "", "who owns the group, as user@realm")
	f.BoolVar(&o.discard, "discard", false, "throw the overlays away when the snapshot is there")
	o.key.readFlags(cmd)
	return cmd
}

func runOverlayCommit(ctx context.Context, a *app, paths []string, o overlayCommitOptions) error {
	metas, err := commonBase(paths)
	if err != nil {
		return err
	}
	plan := amend.Plan{Base: metas[0].Snapshot, Time: a.Now().Unix(), Owner: o.owner}
	if o.backupTime != "" {
		if plan.Time, err = parseBackupTime(o.backupTime); err != nil {
			return usage(fmt.Errorf("--backup-time: %w", err))
		}
	}
	if o.owner != "" {
		if err := checkOwner(o.owner); err != nil {
			return err
		}
	}
	if o.setNotes {
		plan.Notes = &o.notes
	}
	if a.repository == "" {
		if a.repository = metas[0].Repository; filepath.IsAbs(a.repository) {
			a.repository = "dir:" + a.repository
		}
	}
	return a.withSnapshot(ctx, show(plan.Base), func(r repo.Repository, s repo.Snapshot) (err error) {
		key, err := a.keyFor(ctx, o.key, show(s.Name()), s.Manifest(), anyEncrypted(s.Manifest().Files))
		if err != nil {
			return err
		}
		plan.Options = backup.Options{Key: key, Counters: new(backup.Counters), Rand: a.Rand}
		opened, err := openOverlays(ctx, s, key, paths, metas)
		defer func() { err = errors.Join(err, closeOverlays(opened)) }()
		if err != nil {
			return err
		}
		var total int64
		for _, f := range s.Manifest().Files {
			total += int64(f.Size)
		}
		for _, d := range opened {
			plan.Disks = append(plan.Disks, amend.Disk{Name: d.name, Content: d.overlay})
		}
		rep, err := a.runAmend(ctx, r, plan, total)
		if err != nil {
			return explainBackup(err)
		}
		if err := a.showBackup(rep, cryptChoice{key: key}); err != nil {
			return err
		}
		if !o.discard {
			return nil
		}
		for _, d := range opened {
			err := d.overlay.Remove()
			d.overlay = nil // closed in either case
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// commonBase reads what the overlays lie over, which must be one snapshot.
func commonBase(paths []string) ([]overlay.Meta, error) {
	metas := make([]overlay.Meta, len(paths))
	for i, path := range paths {
		m, err := overlay.ReadMeta(path)
		if err != nil {
			return nil, explainOverlay(err, path)
		}
		if first := metas[0]; i > 0 && (m.Snapshot != first.Snapshot || m.Repository != first.Repository) {
			return nil, usagef("%s lies over %s and %s over %s: commit them one after the other", paths[0], show(first.Snapshot), path, show(m.Snapshot))
		}
		for k, other := range metas[:i] {
			if other.Archive == m.Archive {
				return nil, usagef("%s and %s both lie over %s", paths[k], path, m.Archive.ClientName())
			}
		}
		metas[i] = m
	}
	return metas, nil
}

func openOverlays(ctx context.Context, s repo.Snapshot, key *chunkcrypt.Key, paths []string, metas []overlay.Meta) (opened []*disk, err error) {
	cache := archive.NewCache(archive.DefaultCache)
	for i, m := range metas {
		f, ok := s.Manifest().File(string(m.Archive))
		if !ok {
			return opened, fmt.Errorf("snapshot %s has no archive %s: %w", show(s.Name()), m.Archive.ClientName(), repo.ErrNotFound)
		}
		d := &disk{name: names.Archive(f.Filename)}
		if d.base, err = archive.Open(ctx, s, d.name, key, archive.Options{Cache: cache}); err != nil {
			return opened, err
		}
		m.IndexSum = f.Csum
		if d.overlay, err = overlay.Open(paths[i], d.base, m, overlay.Options{}); err != nil {
			return opened, errors.Join(explainOverlay(err, paths[i]), d.base.Close())
		}
		opened = append(opened, d)
	}
	return opened, nil
}

func closeOverlays(all []*disk) error {
	var errs []error
	for _, d := range all {
		if d.overlay != nil {
			errs = append(errs, d.overlay.Close())
		}
		errs = append(errs, d.base.Close())
	}
	return errors.Join(errs...)
}

// runAmend runs the pipeline and shows how far it is.
func (a *app) runAmend(ctx context.Context, r repo.Repository, p amend.Plan, total int64) (backup.Report, error) {
	m := a.meter("commit to "+p.Base.GroupPath(), ui.Bytes)
	stop := a.follow(m, func() (int64, int64, string) {
		s := p.Options.Counters.Load()
		return s.Done(), total, amounts(amount{s.Stored.Bytes, "new"}, amount{s.Known.Bytes + s.Unchanged.Bytes, "known"}, amount{s.Zero.Bytes, "empty"})
	})
	rep, err := amend.Run(ctx, r, p)
	stop(err == nil)
	return rep, err
}
