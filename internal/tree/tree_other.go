//go:build !linux

package tree

import (
	"context"
	"errors"
	"fmt"
)

// Archive is not to be had here.
func Archive(context.Context, string, Output, Options) (Report, error) {
	return Report{}, fmt.Errorf("directories are backed up on Linux only: %w", errors.ErrUnsupported)
}
