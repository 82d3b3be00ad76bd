package repotest

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// Content decodes a whole archive in the plainest way there is, as the measure
// for faster ones.
func (s *Snapshot) Content(name names.Archive, key *chunkcrypt.Key) ([]byte, error) {
	dec, err := blob.NewDecoder(key)
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	if name.Kind() == names.Blob {
		raw, err := s.blob(name)
		if err != nil {
			return nil, err
		}
		return dec.Append(nil, raw, blob.MaxPlain)
	}
	var out []byte
	err = s.chunks(name, func(i int, start, end int64, d digest.Digest) error {
		plain, err := dec.Append(nil, s.m.Chunks[d], int(end-start))
		if err != nil {
			return fmt.Errorf("slot %d: %w", i, err)
		}
		name := digest.Of(plain)
		if key != nil {
			name = key.Digest(plain)
		}
		if name != d || int64(len(plain)) != end-start {
			return fmt.Errorf("slot %d: %d bytes called %s, want %d called %s", i, len(plain), name, end-start, d)
		}
		out = append(out, plain...)
		return nil
	})
	return out, err
}
