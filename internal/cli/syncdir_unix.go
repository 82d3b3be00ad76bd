//go:build unix

package cli

import (
	"errors"
	"os"
)

// syncDir makes a new name in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return pathError(err)
	}
	return errors.Join(d.Sync(), d.Close())
}
