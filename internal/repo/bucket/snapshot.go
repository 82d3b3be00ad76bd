package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkmap"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// snapshot is a finished snapshot open for reading, chunk by chunk.
type snapshot struct {
	repo *Repository
	name names.Snapshot
	rec  *catalog.Snapshot
	m    *manifest.Manifest
	file *spool.File // of the chunk map
	lies *chunkmap.Map
}

// Open opens a finished snapshot for reading.
func (r *Repository) Open(ctx context.Context, n names.Snapshot) (repo.Snapshot, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	s, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := catalog.NeedSnapshot(s, n)
	if err != nil {
		return nil, err
	}
	snap, err := r.openRecord(ctx, n, &rec)
	if err != nil { // not a typed nil
		return nil, err
	}
	return snap, nil
}

func (r *Repository) openRecord(ctx context.Context, n names.Snapshot, rec *catalog.Snapshot) (*snapshot, error) {
	m, err := rec.ParseManifest(n)
	if err != nil {
		return nil, err
	}
	s := &snapshot{repo: r, name: n, rec: rec, m: m}
	if s.file, err = s.fetch(ctx, rec.Map); err != nil {
		return nil, err
	}
	s.lies, err = chunkmap.Open(s.file, rec.Map.Len)
	if errors.Is(err, chunkmap.ErrFormat) {
		err = &repo.CorruptError{What: "chunk map of " + n.String(), Err: err}
	}
	if err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	return s, nil
}

// fetch brings a part of the snapshot's object into a temporary file.
func (s *snapshot) fetch(ctx context.Context, at catalog.Span) (*spool.File, error) {
	f, err := spool.Create()
	if err != nil {
		return nil, err
	}
	body, err := resume.Open(ctx, s.repo.store, catalog.SnapshotObject(s.rec.Session), at.Off, at.Len)
	if err == nil {
		_, err = io.Copy(io.NewOffsetWriter(f, 0), body)
		err = errors.Join(err, body.Close())
	}
	if errors.Is(err, resume.ErrShort) || errors.Is(err, objstore.ErrNotFound) {
		err = &repo.CorruptError{What: "object of " + s.name.String(), Err: err}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Name returns the snapshot's name.
func (s *snapshot) Name() names.Snapshot { return s.name }

// Manifest returns the manifest; it is not to be changed.
func (s *snapshot) Manifest() *manifest.Manifest { return s.m }

// Map says where the chunks lie.
func (s *snapshot) Map() *chunkmap.Map { return s.lies }

func (s *snapshot) listed(name names.Archive) (manifest.File, catalog.Span, error) {
	listed, ok := s.m.File(name.String())
	if !ok {
		return listed, catalog.Span{}, fmt.Errorf("archive %s in %s: %w", name, s.name, repo.ErrNotFound)
	}
	at, ok := s.rec.File(name)
	if !ok {
		return listed, at, &repo.CorruptError{What: "archive " + name.String() + " in " + s.name.String(), Err: errors.New("it is missing")}
	}
	return listed, at, nil
}

// OpenFixed opens a fixed index and compares it with the manifest.
func (s *snapshot) OpenFixed(name names.Archive) (*fidx.Index, io.Closer, error) {
	listed, at, err := s.listed(name)
	if err != nil {
		return nil, nil, err
	}
	f, err := s.fetch(context.Background(), at)
	if err != nil {
		return nil, nil, err
	}
	x, err := spool.Fixed(f, s.name, listed)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return x, f, nil
}

// OpenDynamic opens a dynamic index and compares it with the manifest.
func (s *snapshot) OpenDynamic(name names.Archive) (*didx.Index, io.Closer, error) {
	listed, at, err := s.listed(name)
	if err != nil {
		return nil, nil, err
	}
	f, err := s.fetch(context.Background(), at)
	if err != nil {
		return nil, nil, err
	}
	x, err := spool.Dynamic(f, s.name, listed)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return x, f, nil
}

// Blob returns an encoded blob, compared with the manifest.
func (s *snapshot) Blob(name names.Archive) ([]byte, error) {
	if name == names.ClientLog {
		if s.rec.Log == 0 {
			return nil, fmt.Errorf("archive %s in %s: %w", name, s.name, repo.ErrNotFound)
		}
		raw, _, err := objstore.ReadAll(context.Background(), s.repo.store, catalog.LogObject(s.rec.Session), blob.MaxPlain+blob.EncryptedHeaderSize)
		return raw, err
	}
	listed, at, err := s.listed(name)
	if err != nil {
		return nil, err
	}
	raw := make([]byte, at.Len)
	if err := resume.Fetch(context.Background(), s.repo.store, catalog.SnapshotObject(s.rec.Session), raw, at.Off); err != nil {
		return nil, err
	}
	return raw, spool.Blob(raw, s.name, listed)
}

// ReadChunk appends the encoded chunk to buf[:0], unchecked.
func (s *snapshot) ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	at, ok, err := s.lies.Find(d)
	if bad, is, berr := catalog.Get[catalog.Bad](s.repo.log.Seen(), catalog.BadKey(d)); berr == nil && is && !bad.Lost() {
		at = bad.Place()
	}
	if err == nil && !ok {
		err = fmt.Errorf("%w: %s", repo.ErrChunkMissing, d)
	}
	if err != nil {
		return buf[:0], err
	}
	if cap(buf) < int(at.Len) {
		buf = make([]byte, at.Len)
	}
	buf = buf[:at.Len]
	return buf, resume.Fetch(ctx, s.repo.store, at.Pack.Key(), buf, int64(at.Off))
}

// Close removes the temporary files.
func (s *snapshot) Close() error { return s.file.Close() }

// Prefetch says that these chunks will be read soon.
func (s *snapshot) Prefetch([]digest.Digest) {}
