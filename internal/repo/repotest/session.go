package repotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// session implements repo.Session.
type session struct {
	m    *Memory
	name names.Snapshot
	prev *Snapshot
	over bool

	mu    sync.Mutex
	files map[names.Archive][]byte
}

func (s *session) Snapshot() names.Snapshot { return s.name }

func (s *session) Previous() repo.Snapshot {
	if s.prev == nil {
		return nil
	}
	return s.prev
}

func (s *session) Has(ctx context.Context, d digest.Digest) (bool, error) {
	if err := s.m.callCtx(ctx, OpHas); err != nil {
		return false, err
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	_, ok := s.m.Chunks[d]
	return ok, nil
}

func (s *session) Put(ctx context.Context, d digest.Digest, plain int, raw []byte) (bool, error) {
	if err := s.m.callCtx(ctx, OpPut); err != nil {
		return false, err
	}
	if plain <= 0 {
		return false, fmt.Errorf("chunk %s of %d bytes", d, plain)
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if _, ok := s.m.Chunks[d]; ok {
		return false, nil
	}
	s.m.Chunks[d] = bytes.Clone(raw)
	return true, nil
}

func (s *session) PutBlob(ctx context.Context, name names.Archive, raw []byte) error {
	if err := s.m.callCtx(ctx, OpPutBlob); err != nil {
		return err
	}
	return s.put(name, bytes.Clone(raw))
}

func (s *session) put(name names.Archive, file []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.files[name]; ok {
		return fmt.Errorf("archive %s: %w", name, repo.ErrExists)
	}
	s.files[name] = file
	return nil
}

func (s *session) CreateFixed(name names.Archive, size int64, chunkSize int) (repo.FixedWriter, error) {
	if err := s.m.call(OpCreate); err != nil {
		return nil, err
	}
	w := &writer{s: s, name: name, chunk: int64(chunkSize)}
	if size >= 0 {
		w.grow(size)
	}
	if s.m.Runs {
		return runWriter{w}, nil
	}
	return w, nil
}

// Finish demands what a real repository may only check much later.
func (s *session) Finish(ctx context.Context, m *manifest.Manifest) error {
	if err := s.m.callCtx(ctx, OpFinish); err != nil {
		return err
	}
	text, err := m.Marshal()
	if err != nil {
		return err
	}
	if m, err = manifest.Parse(text); err != nil {
		return err
	}
	if len(m.Files) != len(s.files) || len(m.Files) == 0 {
		return fmt.Errorf("manifest lists %d files, %d were written", len(m.Files), len(s.files))
	}
	snap := &stored{name: s.name, m: m, files: s.files}
	for _, f := range m.Files {
		if err := s.check(snap, f); err != nil {
			return err
		}
	}
	s.m.mu.Lock()
	s.m.snaps = append(s.m.snaps, snap)
	s.m.mu.Unlock()
	s.end()
	return nil
}

func (s *session) check(snap *stored, f manifest.File) error {
	view := &Snapshot{s.m, snap}
	if f.Archive().Kind() == names.Blob {
		_, err := view.blob(f.Archive())
		return err
	}
	return view.chunks(f.Archive(), func(i int, _, _ int64, d digest.Digest) error {
		s.m.mu.Lock()
		defer s.m.mu.Unlock()
		if _, ok := s.m.Chunks[d]; !ok {
			return fmt.Errorf("archive %s: slot %d names %s: %w", f.Filename, i, d, repo.ErrChunkMissing)
		}
		return nil
	})
}

func (s *session) Abort() error {
	if s.over {
		return nil
	}
	s.end()
	return s.m.call(OpAbort)
}

func (s *session) end() {
	s.over = true
	s.m.use(-1)
}

// writer implements repo.FixedWriter.
type writer struct {
	s     *session
	name  names.Archive
	chunk int64

	mu    sync.Mutex
	size  int64
	slots []digest.Digest // the zero value is not set
}

func (w *writer) grow(size int64) {
	w.size = size
	n := int((size + w.chunk - 1) / w.chunk)
	w.slots = append(w.slots, make([]digest.Digest, n-len(w.slots))...)
}

func (w *writer) Set(i int, d digest.Digest) error {
	if err := w.s.m.call(OpSet); err != nil {
		return err
	}
	return w.set(i, 1, d)
}

func (w *writer) set(first, n int, d digest.Digest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := first; i < first+n; i++ {
		if i < 0 || i >= len(w.slots) {
			return fmt.Errorf("slot %d of %d", i, len(w.slots))
		}
		if !w.slots[i].IsZero() {
			return fmt.Errorf("slot %d is set twice", i)
		}
		w.slots[i] = d
	}
	return nil
}

func (w *writer) Grow(size int64) error {
	if err := w.s.m.call(OpGrow); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if size < w.size || w.size%w.chunk != 0 {
		return fmt.Errorf("index of %d bytes cannot grow to %d", w.size, size)
	}
	w.grow(size)
	return nil
}

func (w *writer) Close() (digest.Digest, error) {
	if err := w.s.m.call(OpClose); err != nil {
		return digest.Digest{}, err
	}
	if len(w.slots) == 0 {
		return digest.Digest{}, errors.New("index is empty")
	}
	var table []byte
	for i, d := range w.slots {
		if d.IsZero() {
			return digest.Digest{}, fmt.Errorf("slot %d was not set", i)
		}
		table = append(table, d[:]...)
	}
	h := fidx.Header{Sum: digest.Of(table), Size: uint64(w.size), ChunkSize: uint64(w.chunk)}
	return h.Sum, w.s.put(w.name, append(h.Append(nil), table...))
}

// runWriter is a writer that takes many slots at once.
type runWriter struct{ *writer }

func (w runWriter) SetRun(first, n int, d digest.Digest) error {
	if err := w.s.m.call(OpSet); err != nil {
		return err
	}
	return w.set(first, n, d)
}

func (w runWriter) SetDigests(first int, ds []digest.Digest) error {
	if err := w.s.m.call(OpSet); err != nil {
		return err
	}
	for i, d := range ds {
		if err := w.set(first+i, 1, d); err != nil {
			return err
		}
	}
	return nil
}

var (
	_ repo.Session     = (*session)(nil)
	_ repo.FixedWriter = (*writer)(nil)

	_ repo.DynamicWriter = (*dynamic)(nil)
)
