package datastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Snapshot is a finished snapshot under a shared lock.
type Snapshot struct {
	store *Store
	name  names.Snapshot
	m     *manifest.Manifest
	lock  vfs.Unlocker
}

// Open opens a finished snapshot for reading.
func (s *Store) Open(_ context.Context, n names.Snapshot) (repo.Snapshot, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	snap, err := s.open(n)
	if err != nil { // not a typed nil
		return nil, err
	}
	return snap, nil
}

func (s *Store) open(n names.Snapshot) (*Snapshot, error) {
	u, err := s.lockSnapshot(n, lockShared)
	if err != nil {
		return nil, err
	}
	m, err := s.loadManifest(n)
	if err != nil {
		return nil, errors.Join(err, u.Unlock())
	}
	return &Snapshot{s, n, m, u}, nil
}

// Name returns the snapshot's name.
func (p *Snapshot) Name() names.Snapshot { return p.name }

// Manifest returns the manifest; it is not to be changed.
func (p *Snapshot) Manifest() *manifest.Manifest { return p.m }

// Close releases the lock.
func (p *Snapshot) Close() error { return p.lock.Unlock() }

// ReadChunk appends the encoded chunk to buf[:0], unchecked.
func (p *Snapshot) ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return buf[:0], err
	}
	return p.store.readChunk(d, buf)
}

// OpenChunk opens the encoded chunk, unchecked, for whoever passes it on.
func (p *Snapshot) OpenChunk(_ context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	f, err := p.store.fs.Open(names.ChunkPath(d))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, fmt.Errorf("%w: %s", repo.ErrChunkMissing, d)
	case err != nil:
		return nil, 0, fmt.Errorf("read chunk %s: %w", d, err)
	}
	size, err := f.Size()
	if err == nil && size > maxStored {
		err = &repo.CorruptError{What: "chunk " + d.String(), Err: errTooLong}
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return openChunk{io.NewSectionReader(f, 0, size), f}, size, nil
}

type openChunk struct {
	io.Reader
	io.Closer
}

// Prefetch says that these chunks will be read soon.
func (p *Snapshot) Prefetch(ds []digest.Digest) {
	for _, d := range ds {
		p.store.fs.WillNeed(names.ChunkPath(d))
	}
}

// OpenFixed opens a fixed index and compares it with the manifest.
func (p *Snapshot) OpenFixed(name names.Archive) (*fidx.Index, io.Closer, error) {
	listed, ok := p.m.File(name.String())
	if !ok {
		return nil, nil, fmt.Errorf("archive %s in %s: %w", name, p.name, repo.ErrNotFound)
	}
	x, f, err := p.store.openFixed(p.name, name)
	if err != nil {
		return nil, nil, err
	}
	if err := p.store.checkFixed(x, p.name, name, listed); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return x, f, nil
}

// openFixed opens an index file; the caller compares it with the manifest.
func (s *Store) openFixed(n names.Snapshot, name names.Archive) (*fidx.Index, vfs.File, error) {
	f, err := s.fs.Open(n.Path() + "/" + name.String())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, s.badArchive(n, name, errors.New("the file is missing"))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("archive %s in %s: %w", name, n, err)
	}
	size, err := f.Size()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	x, err := fidx.Open(f, size)
	if errors.Is(err, fidx.ErrFormat) {
		err = s.badArchive(n, name, err)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return x, f, nil
}

// checkFixed compares an index with what the manifest says of it.
func (s *Store) checkFixed(x *fidx.Index, n names.Snapshot, name names.Archive, listed manifest.File) error {
	if x.Size != listed.Size {
		return s.badArchive(n, name, fmt.Errorf("the image has %d bytes, the manifest says %d", x.Size, listed.Size))
	}
	sum, err := x.Sum()
	if err != nil {
		return s.indexError(n, name, err)
	}
	if err := compareSums(sum, x.Header.Sum, listed); err != nil {
		return s.badArchive(n, name, err)
	}
	return nil
}

// OpenDynamic opens a dynamic index and compares it with the manifest.
func (p *Snapshot) OpenDynamic(name names.Archive) (*didx.Index, io.Closer, error) {
	listed, ok := p.m.File(name.String())
	if !ok {
		return nil, nil, fmt.Errorf("archive %s in %s: %w", name, p.name, repo.ErrNotFound)
	}
	x, f, err := p.store.openDynamic(p.name, name, listed)
	if err != nil { // not a typed nil
		return nil, nil, err
	}
	return x, f, nil
}

// openDynamic opens a dynamic index and compares it with the manifest.
func (s *Store) openDynamic(n names.Snapshot, name names.Archive, listed manifest.File) (*didx.Index, vfs.File, error) {
	f, err := s.fs.Open(n.Path() + "/" + name.String())
	if err != nil {
		return nil, nil, s.indexError(n, name, err)
	}
	size, err := f.Size()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	x, err := didx.Open(f, size)
	if err != nil {
		return nil, nil, errors.Join(s.indexError(n, name, err), f.Close())
	}
	sum, err := x.Sum()
	switch {
	case err != nil:
		err = s.indexError(n, name, err)
	case uint64(x.Size()) != listed.Size:
		err = s.badArchive(n, name, fmt.Errorf("it ends at %d, the manifest says %d", x.Size(), listed.Size))
	default:
		if err = compareSums(sum, x.Header.Sum, listed); err != nil {
			err = s.badArchive(n, name, err)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return x, f, nil
}

// compareSums compares the checksum of an index with its two records. Nobody
// needs the one in the header, but it tells when the file is not as written.
func compareSums(sum, header digest.Digest, listed manifest.File) error {
	if sum != listed.Csum {
		return fmt.Errorf("checksum %s, the manifest says %s", sum, listed.Csum)
	}
	if sum != header {
		return fmt.Errorf("checksum %s, its own header says %s", sum, header)
	}
	return nil
}

// Blob returns an encoded blob, compared with the manifest.
func (p *Snapshot) Blob(name names.Archive) ([]byte, error) {
	if name.String() == manifestName || name.String() == clientLog {
		return p.store.readBlob(p.name, name)
	}
	listed, ok := p.m.File(name.String())
	if !ok {
		return nil, fmt.Errorf("archive %s in %s: %w", name, p.name, repo.ErrNotFound)
	}
	raw, err := p.store.readBlob(p.name, name)
	if err != nil {
		return nil, err
	}
	if err := checkBlob(raw, listed); err != nil {
		return nil, p.store.badArchive(p.name, name, err)
	}
	return raw, nil
}

func (s *Store) readBlob(n names.Snapshot, name names.Archive) ([]byte, error) {
	raw, err := s.readFile(n.Path()+"/"+name.String(), nil, maxStored)
	switch {
	case errors.Is(err, fs.ErrNotExist) && name.String() == clientLog:
		return nil, fmt.Errorf("archive %s in %s: %w", name, n, repo.ErrNotFound)
	case errors.Is(err, fs.ErrNotExist):
		return nil, s.badArchive(n, name, errors.New("the file is missing"))
	case errors.Is(err, errTooLong):
		return nil, s.badArchive(n, name, err)
	case err != nil:
		return nil, fmt.Errorf("archive %s in %s: %w", name, n, err)
	}
	return raw, nil
}

// checkBlob compares an encoded blob with what the manifest says of it.
func checkBlob(raw []byte, listed manifest.File) error {
	if uint64(len(raw)) != listed.Size {
		return fmt.Errorf("%d bytes, the manifest says %d", len(raw), listed.Size)
	}
	if sum := digest.Of(raw); sum != listed.Csum {
		return fmt.Errorf("checksum %s, the manifest says %s", sum, listed.Csum)
	}
	_, err := blob.Check(raw)
	return err
}

func (s *Store) badArchive(n names.Snapshot, name names.Archive, err error) error {
	return &repo.CorruptError{What: "archive " + name.String() + " in " + n.String(), Err: err}
}

// indexError sorts an error of opening an index into corrupt and not found out.
func (s *Store) indexError(n names.Snapshot, name names.Archive, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.badArchive(n, name, errors.New("the file is missing"))
	case errors.Is(err, fidx.ErrFormat), errors.Is(err, didx.ErrFormat):
		return s.badArchive(n, name, err)
	}
	return fmt.Errorf("archive %s in %s: %w", name, n, err)
}
