package backupserver

import (
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/repo/rawfile"
)

// known is which chunks an index may name, and how long they are.
type known struct {
	previous rawfile.Files // that the client fetched

	mu       sync.Mutex
	uploaded map[digest.Digest]uint32
}

func (k *known) add(d digest.Digest, size int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.uploaded[d] = uint32(size)
}

// length fails for a chunk that is not known, whether or not it is stored.
func (k *known) length(d digest.Digest) (int64, error) {
	k.mu.Lock()
	n, ok := k.uploaded[d]
	k.mu.Unlock()
	if ok {
		return int64(n), nil
	}
	long, ok, err := k.previous.Length(d)
	if err != nil {
		return 0, fmt.Errorf("previous index: %w", err)
	}
	if !ok {
		return 0, fmt.Errorf("no such chunk: %s was neither uploaded nor is it named by an index of the previous backup that was fetched", d)
	}
	return long, nil
}
