package vfs

import "sync"

// noLocks is ErrNoLocks with the system's reason.
type noLocks struct{ reason error }

func (e *noLocks) Error() string   { return ErrNoLocks.Error() + ": " + e.reason.Error() }
func (e *noLocks) Unwrap() []error { return []error{ErrNoLocks, e.reason} }

// held is a lock that can be released once.
type held struct {
	mu      sync.Mutex
	release func() error
}

// Unlock implements [Unlocker].
func (h *held) Unlock() error {
	h.mu.Lock()
	release := h.release
	h.release = nil
	h.mu.Unlock()
	if release == nil {
		return ErrClosed
	}
	return release()
}
