//go:build !linux

package fusemount

import (
	"context"
	"errors"
	"fmt"
)

// List returns the FUSE file systems that are mounted; none are on this system.
func List() ([]Mount, error) { return nil, nil }

// At returns what is mounted on path.
func At(string) (Mount, bool, error) { return Mount{}, false, nil }

// Mounted reports whether something is mounted on path.
func Mounted(string) (bool, error) { return false, nil }

// Dead reports whether a file system without a server is mounted on path.
func Dead(string) bool { return false }

// Unmount takes away what is mounted on path.
func Unmount(context.Context, string, bool) error {
	return fmt.Errorf("unmount a FUSE file system: %w", errors.ErrUnsupported)
}
