// Package amend makes a new snapshot out of one that exists, with some of its
// disk images replaced by what an overlay over them shows.
//
// # What the new snapshot holds
//
// The archives of the base, in its order and under their names. Small files are
// carried over byte for byte, images without an overlay and file archives chunk
// for chunk; chunk
// sizes, crypt modes and the key stay, and the manifest is signed exactly if
// that of the base is. It belongs to the base's group, whose newest snapshot
// need not be the base.
//
// # What is read
//
// A slot that the overlay did not touch, and that has the same digest in the
// base and in the group's previous snapshot, is taken over unread. Slots that
// the overlay touched are read through it, and slots that differ between base
// and previous snapshot are read from the base; most of these chunks are known
// to the repository then. Of a file archive nothing is read; but the repository
// looks at the chunks that the previous snapshot does not have, without
// decoding them, before it relies on them. Where the previous snapshot cannot be used (package
// backup says when), everything is read.
//
// An overlay must not be written to meanwhile: the snapshot would show some
// moment in each slot.
//
// # What is refused
//
// Before anything is written: an overlay that belongs to another archive, by the
// checksum of the index; a base that is signed or encrypted, without its key.
//
// # Memory
//
// That of one writer of package backup, and of one cache of package archive
// while an image is read that has no overlay.
package amend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/overlay"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Repository is the part of a repository that this needs.
type Repository interface {
	Open(ctx context.Context, s names.Snapshot) (repo.Snapshot, error)
	Begin(ctx context.Context, b repo.Begin) (repo.Session, error)
}

// Overlay is an image that knows where it differs from the archive below.
type Overlay interface {
	image.Image
	// ChangeAt is the extent at off; it is Unchanged where the content is that
	// of the archive.
	ChangeAt(off int64) (image.Extent, error)
	// Meta tells which archive that is.
	Meta() overlay.Meta
}

// Disk is an image of the base to be replaced.
type Disk struct {
	Name    names.Archive
	Content Overlay
}

// Plan says what the new snapshot is made of.
type Plan struct {
	Base  names.Snapshot
	Time  int64  // of the new snapshot, seconds since 1970-01-01 UTC
	Owner string // as in [backup.Job]
	Disks []Disk
	Notes *string // nil: those of the base

	// Options as for a backup; ChunkSize and CryptMode are those of the base.
	Options backup.Options
	// Started is called before the work on an archive begins, with its size;
	// may be nil.
	Started func(name names.Archive, size int64)
}

// Run makes the snapshot. After an error nothing is visible.
func Run(ctx context.Context, r Repository, p Plan) (_ backup.Report, err error) {
	begun := time.Now()
	base, err := r.Open(ctx, p.Base)
	if err != nil {
		return backup.Report{}, fmt.Errorf("open the base: %w", firstError(ctx, err))
	}
	defer func() { _ = base.Close() }() // was only read
	work, err := p.prepare(base)
	if err != nil {
		return backup.Report{}, err
	}
	target := p.Base
	target.Time = p.Time
	s, err := r.Begin(ctx, repo.Begin{Snapshot: target, Owner: p.Owner})
	if err != nil {
		return backup.Report{}, firstError(ctx, err)
	}
	defer func() {
		if err != nil {
			if aerr := s.Abort(); aerr != nil {
				err = errors.Join(err, fmt.Errorf("remove the unfinished snapshot %s: %w", target, aerr))
			}
		}
	}()
	a := &amendment{plan: &p, base: base, s: s}
	report := backup.Report{Snapshot: s.Snapshot()}
	if prev := s.Previous(); prev != nil {
		report.Previous = prev.Name().Path()
	}
	for _, w := range work {
		if p.Started != nil {
			p.Started(w.file.Archive(), int64(w.file.Size))
		}
		done, err := a.archive(ctx, w)
		if err != nil {
			return backup.Report{}, fmt.Errorf("archive %s of %s: %w", w.file.Filename, p.Base, firstError(ctx, err))
		}
		report.Archives = append(report.Archives, done)
		report.Total = report.Total.Add(done.Stats)
	}
	m, err := a.manifest(report.Archives)
	if err != nil {
		return backup.Report{}, err
	}
	if ctx.Err() != nil {
		return backup.Report{}, context.Cause(ctx)
	}
	if err := s.Finish(ctx, m); err != nil {
		return backup.Report{}, fmt.Errorf("finish snapshot %s: %w", target, firstError(ctx, err))
	}
	report.Elapsed = time.Since(begun)
	return report, nil
}

// manifest lists what was written, signed when the base is.
func (a *amendment) manifest(done []backup.Result) (*manifest.Manifest, error) {
	m := manifest.New(a.s.Snapshot())
	for _, d := range done {
		if err := m.Add(d.Archive); err != nil {
			return nil, err
		}
	}
	old := a.base.Manifest()
	if old.Signed() {
		if err := m.Sign(a.plan.Options.Key); err != nil {
			return nil, fmt.Errorf("sign the manifest: %w", err)
		}
	}
	notes := old.Notes()
	if a.plan.Notes != nil {
		notes = *a.plan.Notes
	}
	m.SetNotes(notes)
	return m, nil
}

// firstError prefers the reason why ctx ended to what it did to a callee.
func firstError(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return context.Cause(ctx)
	}
	return err
}
