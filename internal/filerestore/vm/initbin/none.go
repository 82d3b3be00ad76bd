//go:build !initbin

package initbin

// Program is a static program for Linux on a kind of processor, or nil.
func Program(string) ([]byte, error) { return nil, nil }
