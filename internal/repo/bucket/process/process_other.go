//go:build !linux

package process

// Only Linux tells when a process began and in which run of the system; elsewhere
// nothing is known of others, and their leases have to run out.
func epoch() (boot string, start uint64) { return "", 0 }

func vanished(int, uint64) bool { return false }
