package datastore

import "github.com/holdfast-backup/holdfast/internal/digest"

// zeroSize is the chunk size of PBS.
const zeroSize = 4 << 20

// zeroChunk returns the name and encoding of 4 MiB of zeros, a chunk that
// every store may hold.
func (s *Store) zeroChunk() (digest.Digest, []byte, error) {
	plain := make([]byte, zeroSize)
	raw, err := s.codecs.encode(plain)
	return digest.Of(plain), raw, err
}
