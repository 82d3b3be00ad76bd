//go:build !unix

package cli

import "os"

// spaceOf is the length of a file, where nobody tells what it takes.
func spaceOf(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
