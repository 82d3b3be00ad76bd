//go:build !unix

package cli

// syncDir does nothing where directories cannot be synced.
func syncDir(string) error { return nil }
