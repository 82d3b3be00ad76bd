package repotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Snapshot implements repo.Snapshot.
type Snapshot struct {
	m *Memory
	s *stored
}

// Name is the snapshot's.
func (s *Snapshot) Name() names.Snapshot { return s.s.name }

// Manifest is shared by all who open the snapshot.
func (s *Snapshot) Manifest() *manifest.Manifest { return s.s.m }

// File returns the bytes of an archive's file, to be damaged.
func (s *Snapshot) File(name names.Archive) []byte { return s.s.files[name] }

// OpenFixed opens an index.
func (s *Snapshot) OpenFixed(name names.Archive) (*fidx.Index, io.Closer, error) {
	if err := s.m.call(OpOpen); err != nil {
		return nil, nil, err
	}
	idx, err := s.index(name)
	if err != nil {
		return nil, nil, err
	}
	s.m.use(1)
	return idx, closer(func() error { s.m.use(-1); return nil }), nil
}

// OpenDynamic opens a dynamic index.
func (s *Snapshot) OpenDynamic(name names.Archive) (*didx.Index, io.Closer, error) {
	if err := s.m.call(OpOpen); err != nil {
		return nil, nil, err
	}
	idx, err := s.dynamic(name)
	if err != nil {
		return nil, nil, err
	}
	s.m.use(1)
	return idx, closer(func() error { s.m.use(-1); return nil }), nil
}

func (s *Snapshot) dynamic(name names.Archive) (*didx.Index, error) {
	f, raw, err := s.file(name)
	if err != nil {
		return nil, err
	}
	corrupt := func(err error) error { return &repo.CorruptError{What: "index " + string(name), Err: err} }
	idx, err := didx.Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, corrupt(err)
	}
	sum, err := idx.Sum()
	if err != nil {
		return nil, corrupt(err)
	}
	if sum != f.Csum || uint64(idx.Size()) != f.Size {
		return nil, corrupt(errors.New("size or checksum differ from the manifest"))
	}
	return idx, nil
}

func (s *Snapshot) index(name names.Archive) (*fidx.Index, error) {
	f, raw, err := s.file(name)
	if err != nil {
		return nil, err
	}
	corrupt := func(err error) error { return &repo.CorruptError{What: "index " + string(name), Err: err} }
	idx, err := fidx.Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, corrupt(err)
	}
	sum, err := idx.Sum()
	if err != nil {
		return nil, err
	}
	if sum != f.Csum || idx.Size != f.Size {
		return nil, corrupt(errors.New("size or checksum differ from the manifest"))
	}
	return idx, nil
}

// chunks calls f with the place and name of every chunk of an index of either
// kind.
func (s *Snapshot) chunks(name names.Archive, f func(i int, start, end int64, d digest.Digest) error) error {
	if name.Kind() == names.Didx {
		idx, err := s.dynamic(name)
		if err != nil {
			return err
		}
		return idx.Each(f)
	}
	idx, err := s.index(name)
	if err != nil {
		return err
	}
	return idx.Each(func(i int, d digest.Digest) error {
		start, end := idx.Bounds(i)
		return f(i, start, end, d)
	})
}

// Blob returns an encoded blob.
func (s *Snapshot) Blob(name names.Archive) ([]byte, error) {
	if err := s.m.call(OpReadBlob); err != nil {
		return nil, err
	}
	return s.blob(name)
}

func (s *Snapshot) blob(name names.Archive) ([]byte, error) {
	if name == names.ClientLog {
		if s.s.log == nil {
			return nil, fmt.Errorf("archive %s of %s: %w", name, s.s.name, repo.ErrNotFound)
		}
		return s.s.log, nil
	}
	f, raw, err := s.file(name)
	if err != nil {
		return nil, err
	}
	if f.Size != uint64(len(raw)) || f.Csum != digest.Of(raw) {
		return nil, &repo.CorruptError{What: "blob " + string(name), Err: errors.New("size or checksum differ from the manifest")}
	}
	return raw, nil
}

func (s *Snapshot) file(name names.Archive) (manifest.File, []byte, error) {
	f, ok := s.s.m.File(string(name))
	raw, there := s.s.files[name]
	if !ok || !there {
		return f, nil, fmt.Errorf("archive %s of %s: %w", name, s.s.name, repo.ErrNotFound)
	}
	return f, raw, nil
}

// ReadChunk copies the encoded chunk.
func (s *Snapshot) ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	if err := s.m.callCtx(ctx, OpRead); err != nil {
		return nil, err
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	raw, ok := s.m.Chunks[d]
	if !ok {
		return nil, fmt.Errorf("chunk %s: %w", d, repo.ErrChunkMissing)
	}
	return append(buf[:0], raw...), nil
}

// Close does nothing.
func (s *Snapshot) Close() error { return nil }

type closer func() error

func (c closer) Close() error { return c() }

var _ repo.Snapshot = (*Snapshot)(nil)
