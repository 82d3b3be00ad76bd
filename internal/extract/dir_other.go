//go:build !linux

package extract

import (
	"context"
	"errors"
	"fmt"
)

// Directory is not to be had here.
func Directory(context.Context, Source, string, Options) (Result, error) {
	return Result{}, fmt.Errorf("extracting to a directory needs Linux, a tar or a zip file does not: %w", errors.ErrUnsupported)
}
