//go:build !initbin

package initbin

// Program is a static program for Linux, or nil.
func Program() []byte { return nil }
