// Package filearchive finds the file archives of a snapshot and opens them: one
// archive of version 1, "root.pxar", or the two streams of version 2,
// "root.mpxar" with the metadata and "root.ppxar" with the contents. Users say
// "root.pxar" for both.
//
// [Open] is for reading at any offset, through a cache of decoded chunks;
// [OpenStream] for reading all of it in a row, with workers ahead.
//
// # Errors
//
// A name that the snapshot lacks gives [repo.ErrNotFound]; chunks and indexes
// give the errors of [repo]; bytes that are no archive those of pxar.
package filearchive

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// Parts names the indexes that make one file archive.
type Parts struct {
	Meta    names.Archive // or all of it, in version 1
	Payload names.Archive // "" in version 1
}

// Split reports whether contents lie in a stream of their own: version 2.
func (p Parts) Split() bool { return p.Payload != "" }

// Name is what users call the archive: "root.pxar".
func (p Parts) Name() string {
	name := p.Meta.ClientName()
	if p.Split() {
		return strings.TrimSuffix(name, ".mpxar") + ".pxar"
	}
	return name
}

// All lists the file archives of a snapshot in the order of its manifest.
func All(m *manifest.Manifest) (all []Parts) {
	for _, f := range m.Files {
		switch name := f.Archive(); {
		case name.Kind() != names.Didx:
		case strings.HasSuffix(name.ClientName(), ".pxar"):
			all = append(all, Parts{Meta: name})
		case strings.HasSuffix(name.ClientName(), ".mpxar"):
			p := SplitParts(strings.TrimSuffix(name.ClientName(), ".mpxar"))
			if _, ok := m.File(string(p.Payload)); ok {
				all = append(all, p)
			}
		}
	}
	return all
}

// SplitParts are the two parts of an archive of version 2 with this name,
// "root" without an ending.
func SplitParts(base string) Parts {
	return Parts{Meta: names.Archive(base + ".mpxar.didx"), Payload: names.Archive(base + ".ppxar.didx")}
}

// Is reports whether name, as users write it, is that of a file archive.
func Is(name string) bool {
	name = strings.TrimSuffix(name, ".didx")
	return strings.HasSuffix(name, ".pxar") || strings.HasSuffix(name, ".mpxar") || strings.HasSuffix(name, ".ppxar")
}

// Find returns the parts of the archive that users call name: "root.pxar", or
// one of its parts, with or without ".didx".
func Find(m *manifest.Manifest, name string) (Parts, error) {
	if _, err := names.ServerName(name); err != nil {
		return Parts{}, err
	}
	base := strings.TrimSuffix(name, ".didx")
	if !Is(base) {
		return Parts{}, fmt.Errorf("archive %s holds no files: %w", name, repo.ErrNotFound)
	}
	has := func(n names.Archive) bool { _, ok := m.File(string(n)); return ok }
	if whole, ok := strings.CutSuffix(base, ".pxar"); ok {
		if p := (Parts{Meta: names.Archive(base + ".didx")}); has(p.Meta) {
			return p, nil
		}
		base = whole
	} else {
		base = base[:len(base)-len(".mpxar")]
	}
	p := SplitParts(base)
	switch meta, payload := has(p.Meta), has(p.Payload); {
	case meta && payload:
		return p, nil
	case meta:
		return Parts{}, fmt.Errorf("archive %s: the snapshot lacks its part %s: %w", name, p.Payload, repo.ErrNotFound)
	case payload:
		return Parts{}, fmt.Errorf("archive %s: the snapshot lacks its part %s: %w", name, p.Meta, repo.ErrNotFound)
	}
	return Parts{}, fmt.Errorf("archive %s: %w", name, repo.ErrNotFound)
}

// Archive is a file archive open for reading at any offset. It is safe for
// concurrent use.
type Archive struct {
	*pxar.Archive
	Parts   Parts
	meta    *archive.Dynamic
	payload *archive.Dynamic
}

// Open opens an archive at its root. The snapshot must stay open; when ctx
// ends, so do all reads. cache may be nil: each part has one of its own then.
func Open(ctx context.Context, snap repo.Snapshot, p Parts, key *chunkcrypt.Key, cache *archive.Cache) (_ *Archive, err error) {
	a := &Archive{Parts: p}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if a.meta, err = archive.OpenDynamic(ctx, snap, p.Meta, key, cache); err != nil {
		return nil, err
	}
	if p.Split() {
		if a.payload, err = archive.OpenDynamic(ctx, snap, p.Payload, key, cache); err != nil {
			return nil, err
		}
		a.Archive, err = pxar.OpenArchive(a.meta, a.meta.Size(), a.payload, a.payload.Size())
	} else {
		a.Archive, err = pxar.OpenArchive(a.meta, a.meta.Size(), nil, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("archive %s of %s: %w", p.Name(), snap.Name(), corrupt(p, err))
	}
	return a, nil
}

// OpenMeta is Open without the contents.
func OpenMeta(ctx context.Context, snap repo.Snapshot, p Parts, key *chunkcrypt.Key, cache *archive.Cache) (_ *Archive, err error) {
	return Open(ctx, snap, Parts{Meta: p.Meta}, key, cache)
}

// Close ends reads that are on their way.
func (a *Archive) Close() (err error) {
	for _, d := range []*archive.Dynamic{a.meta, a.payload} {
		if d != nil {
			err = errors.Join(err, d.Close())
		}
	}
	return err
}

// corrupt marks an archive that is none as stored bytes that are wrong.
func corrupt(p Parts, err error) error {
	if errors.Is(err, pxar.ErrFormat) {
		return &repo.CorruptError{What: "archive " + p.Name(), Err: err}
	}
	return err
}

// Stream is a file archive that is read in a row. It belongs to one goroutine.
type Stream struct {
	*pxar.Reader
	Parts   Parts
	indexes []*fetch.Dynamic
	streams []*fetch.Stream
}

// OpenStream opens an archive from its beginning, with workers for each part
// (0: by the number of CPUs). Close must be called.
func OpenStream(ctx context.Context, snap repo.Snapshot, p Parts, key *chunkcrypt.Key, workers int) (_ *Stream, err error) {
	s := &Stream{Parts: p}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	meta, err := s.open(ctx, snap, p.Meta, key, workers)
	if err != nil {
		return nil, err
	}
	if p.Split() {
		payload, err := s.open(ctx, snap, p.Payload, key, workers)
		if err != nil {
			return nil, err
		}
		s.Reader, err = pxar.NewReader(meta, payload)
		if err != nil {
			return nil, fmt.Errorf("archive %s of %s: %w", p.Name(), snap.Name(), corrupt(p, err))
		}
		return s, nil
	}
	if s.Reader, err = pxar.NewReader(meta, nil); err != nil {
		return nil, fmt.Errorf("archive %s of %s: %w", p.Name(), snap.Name(), corrupt(p, err))
	}
	return s, nil
}

func (s *Stream) open(ctx context.Context, snap repo.Snapshot, name names.Archive, key *chunkcrypt.Key, workers int) (*fetch.Stream, error) {
	x, err := fetch.OpenDynamic(snap, name, key)
	if err != nil {
		return nil, err
	}
	s.indexes = append(s.indexes, x)
	st, err := fetch.NewStream(ctx, snap, x, 0, -1, workers)
	if err != nil {
		return nil, err
	}
	s.streams = append(s.streams, st)
	return st, nil
}

// Close ends the workers.
func (s *Stream) Close() (err error) {
	for _, st := range s.streams {
		st.Close()
	}
	for _, x := range s.indexes {
		err = errors.Join(err, x.Close())
	}
	s.streams, s.indexes = nil, nil
	return err
}
