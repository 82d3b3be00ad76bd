package datastore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// benchmarkGroup is what a benchmark of PBS leaves behind; it is not verified.
var benchmarkGroup = names.Group{Type: names.Host, ID: "benchmark"}

// Verify reads snapshots back and compares everything with its checksums. A
// damaged chunk is set aside, so that the next backup stores it again, and the
// verdict goes into the manifest. What could not be read is reported and
// changes nothing: a failing network is no damage.
func (s *Store) Verify(ctx context.Context, opt repo.VerifyOptions) (repo.VerifyReport, error) {
	list, err := s.toVerify(opt)
	if err != nil {
		return repo.VerifyReport{}, err
	}
	c := newChecker(s, opt, len(list))
	var rep repo.VerifyReport
	for i, n := range list {
		if err := context.Cause(ctx); err != nil {
			return rep, err
		}
		c.begin(n, i)
		v, err := s.verifyOne(ctx, n, opt, c)
		rep.Chunks, rep.Bytes = c.chunks.Load(), c.bytes.Load()
		if err != nil {
			return rep, err
		}
		rep.Snapshots = append(rep.Snapshots, v)
		if opt.Verdict != nil {
			opt.Verdict(v)
		}
	}
	return rep, nil
}

// toVerify lists the snapshots to look at, newest first within a group.
func (s *Store) toVerify(opt repo.VerifyOptions) ([]names.Snapshot, error) {
	if opt.Snapshot != nil {
		done, err := s.finished(*opt.Snapshot)
		if err != nil {
			return nil, err
		}
		if !done {
			return nil, fmt.Errorf("snapshot %s: %w", *opt.Snapshot, repo.ErrNotFound)
		}
		return []names.Snapshot{*opt.Snapshot}, nil
	}
	if err := s.needNamespace(opt.Namespace); err != nil {
		return nil, err
	}
	spaces := []names.Namespace{opt.Namespace}
	if opt.Recursive && opt.Group == nil {
		below, err := s.namespaces(opt.Namespace)
		if err != nil {
			return nil, err
		}
		spaces = append(spaces, below...)
	}
	var list []names.Snapshot
	for _, ns := range spaces {
		groups := []names.Group{}
		if opt.Group != nil {
			if err := s.needGroup(ns, *opt.Group); err != nil {
				return nil, err
			}
			groups = append(groups, *opt.Group)
		} else {
			var err error
			if groups, err = s.groups(ns); err != nil {
				return nil, err
			}
		}
		for _, g := range groups {
			if opt.Only != nil && !opt.Only(ns, g) {
				continue
			}
			snaps, err := s.times(ns, g)
			if err != nil {
				return nil, err
			}
			for i := len(snaps) - 1; i >= 0 && g != benchmarkGroup; i-- {
				done, err := s.finished(snaps[i])
				if err != nil {
					return nil, err
				}
				if done {
					list = append(list, snaps[i])
				}
			}
		}
	}
	return list, nil
}

// verifyOne returns the verdict on one snapshot; its own error is that the
// verification as a whole cannot go on.
func (s *Store) verifyOne(ctx context.Context, n names.Snapshot, opt repo.VerifyOptions, c *checker) (repo.VerifiedSnapshot, error) {
	v := repo.VerifiedSnapshot{Snapshot: n}
	snap, err := s.open(n)
	switch {
	case errors.Is(err, vfs.ErrLocked):
		v.Skipped = "in use"
		return v, nil
	case errors.Is(err, repo.ErrNotFound):
		v.Skipped = "vanished"
		return v, nil
	case err != nil:
		v.Errors = append(v.Errors, err)
		return v, nil
	}
	start := s.fs.Now()
	if opt.IgnoreVerified && verifiedLately(snap.m.VerifyState(), start, opt.OutdatedAfter) {
		v.Skipped = "verified already"
		return v, snap.Close()
	}
	if c.fits(snap.m) {
		if err := snap.m.Verify(c.key); err != nil {
			v.Errors = append(v.Errors, badManifest(n, err))
		}
	}
	for _, f := range snap.m.Files {
		errs, err := s.verifyFile(ctx, snap, f, c)
		if err != nil {
			return v, errors.Join(err, snap.Close())
		}
		v.Errors = append(v.Errors, errs...)
	}
	if err := s.saveVerdict(ctx, n, start, opt.UPID, v.Errors); err != nil {
		v.Errors = append(v.Errors, err)
	}
	return v, snap.Close()
}

// verifiedLately reports whether an earlier verdict still counts.
func verifiedLately(v *manifest.VerifyState, now time.Time, outdated time.Duration) bool {
	if v == nil {
		return false
	}
	u, err := upid.Parse(v.UPID)
	if err != nil {
		return false // the state is as good as none
	}
	const day = 24 * time.Hour
	return outdated == 0 || now.Sub(u.Start())/day <= outdated/day
}

// saveVerdict stores ok or failed, unless all that went wrong is that
// something could not be found out.
func (s *Store) saveVerdict(ctx context.Context, n names.Snapshot, start time.Time, id string, errs []error) error {
	state := manifest.VerifyOK
	for _, err := range errs {
		if isDamage(err) {
			state = manifest.VerifyFailed
		}
	}
	if state == manifest.VerifyOK && len(errs) > 0 {
		return nil
	}
	if id == "" {
		id = s.taskID(start, "verify_snapshot", n.String())
	}
	err := s.updateManifest(ctx, n, func(m *manifest.Manifest) {
		m.SetVerifyState(manifest.VerifyState{State: state, UPID: id})
	})
	if readOnly(err) {
		return nil // the verdict is worth having even where it cannot be kept
	}
	if err != nil {
		return fmt.Errorf("keep the verdict on %s: %w", n, err)
	}
	return nil
}

// isDamage tells corrupt and missing apart from could-not-find-out.
func isDamage(err error) bool {
	_, corrupt := errors.AsType[*repo.CorruptError](err)
	return corrupt || errors.Is(err, repo.ErrChunkMissing)
}

// verifyFile checks one archive. errs is what is wrong with it; err stops
// everything.
func (s *Store) verifyFile(ctx context.Context, snap *Snapshot, f manifest.File, c *checker) (errs []error, err error) {
	name, err := names.ParseArchive(f.Filename)
	if err != nil {
		return []error{badManifest(snap.name, err)}, nil
	}
	switch name.Kind() {
	case names.Blob:
		if err := c.blob(snap, name); err != nil {
			return []error{err}, nil
		}
		return nil, nil
	case names.Fidx:
		x, closer, err := snap.OpenFixed(name)
		if err != nil {
			return []error{err}, nil
		}
		errs, err = c.index(ctx, snap, f, fixedChunks{x})
		return errs, errors.Join(err, closer.Close())
	}
	x, closer, err := snap.OpenDynamic(name)
	if err != nil {
		return []error{err}, nil
	}
	errs, err = c.index(ctx, snap, f, dynamicChunks{x})
	return errs, errors.Join(err, closer.Close())
}

// chunkList is an index in the eyes of a verification.
type chunkList interface {
	Count() int
	Chunk(i int) (c chunkRef, err error)
}

type fixedChunks struct{ *fidx.Index }

func (x fixedChunks) Chunk(i int) (chunkRef, error) {
	d, err := x.Digest(i)
	start, end := x.Bounds(i)
	return chunkRef{d, end - start}, err
}

type dynamicChunks struct{ *didx.Index }

func (x dynamicChunks) Chunk(i int) (chunkRef, error) {
	e, err := x.Entry(i)
	if err != nil {
		return chunkRef{}, err
	}
	start, end, err := x.Bounds(i)
	return chunkRef{e.Digest, end - start}, err
}
