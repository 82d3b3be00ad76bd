//go:build !linux

package dir

import "github.com/holdfast-backup/holdfast/internal/datastore"

// peerLocks finds none: the backup server runs on Linux only.
func peerLocks(string) (datastore.PeerLocks, error) { return nil, nil }
