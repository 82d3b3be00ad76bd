package repotest

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// dynamic implements repo.DynamicWriter. It does not lock: two calls at a time
// are for the race detector to find.
type dynamic struct {
	s     *session
	name  names.Archive
	end   uint64
	table []byte
}

func (s *session) CreateDynamic(name names.Archive) (repo.DynamicWriter, error) {
	if err := s.m.call(OpCreate); err != nil {
		return nil, err
	}
	if name.Kind() != names.Didx {
		return nil, fmt.Errorf("archive %s is not dynamic", name)
	}
	return &dynamic{s: s, name: name}, nil
}

func (w *dynamic) Add(end uint64, d digest.Digest) error {
	if err := w.s.m.call(OpAdd); err != nil {
		return err
	}
	if end <= w.end || end-w.end > blob.MaxChunk || d.IsZero() {
		return fmt.Errorf("chunk %s from %d to %d", d, w.end, end)
	}
	w.table = didx.Entry{End: end, Digest: d}.Append(w.table)
	w.end = end
	return nil
}

func (w *dynamic) Close() (uint64, digest.Digest, error) {
	if err := w.s.m.call(OpClose); err != nil {
		return 0, digest.Digest{}, err
	}
	if w.end == 0 {
		return 0, digest.Digest{}, errors.New("index is empty")
	}
	h := didx.Header{Sum: digest.Of(w.table)}
	return w.end, h.Sum, w.s.put(w.name, append(h.Append(nil), w.table...))
}
