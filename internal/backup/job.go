package backup

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Beginner is the part of a repository that a backup needs.
type Beginner interface {
	Begin(ctx context.Context, b repo.Begin) (repo.Session, error)
}

// Source is one archive to be. Exactly one of Image, Stream, Tree and Data is set.
type Source struct {
	Name names.Archive // on the server: "drive.img.fidx", "root.pxar.didx", "vm.conf.blob"

	Image   image.Image
	Changes *ChangedMap // of Image, since the previous snapshot; may be nil

	Stream image.Sequential

	Tree *Tree // a directory; if it is split, its parts have names of their own

	Data []byte // of a blob
}

// Job is a whole backup.
type Job struct {
	Snapshot  names.Snapshot
	Owner     string
	Benchmark bool
	Sources   []Source // in the order of the manifest
	Notes     string

	// Master, when set, gets a copy of the key into the snapshot, readable by
	// the owner of the private part only. KeyCreated goes with it.
	Master     *rsa.PublicKey
	KeyCreated time.Time

	Options Options
	// Seal is called when everything is written, with the complete manifest: it
	// may add to its unprotected part. An error ends the backup. May be nil.
	Seal func(ctx context.Context, m *manifest.Manifest) error
	// Started is called before the work on an archive begins, with its size or
	// -1; may be nil.
	Started func(name names.Archive, size int64)
}

// Report says what became of a job.
type Report struct {
	Snapshot names.Snapshot
	Previous string // path of the snapshot whose index helped, "" when there is none
	Archives []Result
	Total    Stats
	Elapsed  time.Duration
}

// Incomplete reports whether something is not in the snapshot, or was made up,
// because it could not be read.
func (r Report) Incomplete() bool {
	for _, a := range r.Archives {
		if a.Unreadable.Total > 0 || a.Tree != nil && a.Tree.Problems > 0 {
			return true
		}
	}
	return false
}

// Run makes one snapshot. After an error nothing is visible.
func Run(ctx context.Context, in Beginner, job Job) (Report, error) {
	if err := job.check(); err != nil {
		return Report{}, err
	}
	s, err := in.Begin(ctx, repo.Begin{Snapshot: job.Snapshot, Owner: job.Owner, Benchmark: job.Benchmark})
	if err != nil {
		return Report{}, firstError(ctx, err)
	}
	return Fill(ctx, s, job)
}

// Fill is [Run] in a session that has begun, for sources that depend on the
// previous snapshot. Snapshot, Owner and Benchmark of the job are those that
// the session began with. The session is over afterwards: finished, or aborted
// after an error.
func Fill(ctx context.Context, s repo.Session, job Job) (_ Report, err error) {
	start := time.Now()
	defer func() {
		if err != nil {
			if aerr := s.Abort(); aerr != nil {
				err = errors.Join(err, fmt.Errorf("remove the unfinished snapshot %s: %w", job.Snapshot, aerr))
			}
		}
	}()
	if err := job.check(); err != nil {
		return Report{}, err
	}
	w, err := NewWriter(s, job.Options)
	if err != nil {
		return Report{}, err
	}
	defer w.Close()

	report := Report{Snapshot: s.Snapshot()}
	if p := s.Previous(); p != nil {
		report.Previous = p.Name().Path()
	}
	trees := &trees{w: w, ctx: ctx}
	defer trees.abort()
	for _, src := range job.Sources {
		r, err := job.source(ctx, w, trees, src)
		if err != nil {
			return Report{}, err
		}
		report.add(r...)
	}
	r, err := trees.closeCatalog()
	if err != nil {
		return Report{}, err
	}
	report.add(r...)
	if err := job.masterKey(ctx, w); err != nil {
		return Report{}, err
	}
	m, err := w.manifest()
	if err != nil {
		return Report{}, err
	}
	m.SetNotes(job.Notes)
	if job.Seal != nil {
		if err := job.Seal(ctx, m); err != nil {
			return Report{}, firstError(ctx, err)
		}
	}
	if ctx.Err() != nil {
		return Report{}, context.Cause(ctx)
	}
	if err := s.Finish(ctx, m); err != nil {
		return Report{}, fmt.Errorf("finish snapshot %s: %w", job.Snapshot, firstError(ctx, err))
	}
	report.Elapsed = time.Since(start)
	return report, nil
}

func (r *Report) add(archives ...Result) {
	for _, a := range archives {
		r.Archives = append(r.Archives, a)
		r.Total = r.Total.Add(a.Stats)
	}
}

// check refuses what would fail only after hours.
func (j *Job) check() error {
	if err := j.Snapshot.Check(); err != nil {
		return err
	}
	opts := j.Options
	if err := opts.prepare(); err != nil {
		return err
	}
	if len(j.Sources) == 0 {
		return errors.New("there is nothing to back up: name at least one archive")
	}
	if j.Master != nil && opts.Key == nil {
		return errors.New("a master key protects an encryption key, and this backup has none: name a key file or leave the master key out")
	}
	seen := map[names.Archive]bool{}
	for _, s := range j.Sources {
		if seen[s.Name] {
			return fmt.Errorf("archive %s is named twice: give each its own name", s.Name)
		}
		seen[s.Name] = true
		if err := s.check(); err != nil {
			return err
		}
		if s.Tree != nil {
			if err := checkAverage(opts.ChunkSize); err != nil {
				return fmt.Errorf("archive %s: %w", s.Name, err)
			}
		}
	}
	return nil
}

func (s *Source) check() error {
	if _, err := names.ParseArchive(string(s.Name)); err != nil {
		return err
	}
	switch s.Name {
	case names.Manifest, names.ClientLog, names.RSAEncryptedKey:
		return fmt.Errorf("archive %s: the name has a meaning of its own: choose another", s.Name)
	}
	if s.Changes != nil && s.Image == nil {
		return fmt.Errorf("archive %s: a map of changes needs an image that can be read at any offset", s.Name)
	}
	if s.Tree != nil {
		return s.Tree.check(s.Name)
	}
	if s.Image == nil && s.Stream == nil {
		if s.Name.Kind() != names.Blob {
			return fmt.Errorf("archive %s: a small file needs a name that ends in .blob (.conf, .json, .key and .log get it added)", s.Name)
		}
		return nil
	}
	return checkFixed(s.Name)
}

// source writes one archive, or both parts of it.
func (j *Job) source(ctx context.Context, w *Writer, t *trees, src Source) ([]Result, error) {
	if src.Tree != nil {
		if j.Started != nil {
			j.Started(src.Name, -1)
		}
		return t.write(src)
	}
	r, err := j.single(ctx, w, src)
	return []Result{r}, err
}

// single writes an archive that is neither.
func (j *Job) single(ctx context.Context, w *Writer, src Source) (Result, error) {
	started := func(size int64) {
		if j.Started != nil {
			j.Started(src.Name, size)
		}
	}
	switch {
	case src.Image != nil:
		img := src.Image
		if src.Changes != nil {
			if err := checkBase(w.s, src.Changes); err != nil {
				return Result{}, fmt.Errorf("archive %s: %w", src.Name, err)
			}
			var err error
			if img, err = WithChanges(img, src.Changes); err != nil {
				return Result{}, fmt.Errorf("archive %s: %w", src.Name, err)
			}
		}
		started(img.Size())
		return w.Image(ctx, src.Name, img)
	case src.Stream != nil:
		size := int64(image.SizeUnknown)
		if s, ok := src.Stream.(interface{ Size() int64 }); ok {
			size = s.Size()
		}
		started(size)
		return w.Stream(ctx, src.Name, src.Stream)
	}
	started(int64(len(src.Data)))
	return w.Blob(ctx, src.Name, src.Data)
}

// masterKey adds the key, encrypted to the master key. The blob itself is
// plain: it must be readable without the key.
func (j *Job) masterKey(ctx context.Context, w *Writer) error {
	if j.Master == nil {
		return nil
	}
	sealed, err := keyfile.EncryptToMaster(j.Master, w.opts.Key, j.KeyCreated)
	if err != nil {
		return fmt.Errorf("encrypt the key to the master key: %w", err)
	}
	e, err := blob.NewEncoder(nil, w.opts.Rand, false)
	if err != nil {
		return err
	}
	defer e.Close()
	_, err = w.blob(ctx, names.RSAEncryptedKey, e, sealed)
	return err
}

// manifest lists what was written, signed when there is a key.
func (w *Writer) manifest() (*manifest.Manifest, error) {
	m := manifest.New(w.s.Snapshot())
	for _, f := range w.files {
		if err := m.Add(f); err != nil {
			return nil, err
		}
	}
	if w.opts.Key != nil {
		if err := m.Sign(w.opts.Key); err != nil {
			return nil, fmt.Errorf("sign the manifest: %w", err)
		}
	}
	return m, nil
}
