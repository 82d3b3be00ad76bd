//go:build !linux

package extract

import (
	"context"
	"errors"
	"fmt"
)

var errLinux = fmt.Errorf("directories need Linux, a tar or a zip file does not: %w", errors.ErrUnsupported)

// Directory is not to be had here.
func Directory(context.Context, Source, string, Options) (Result, error) {
	return Result{}, errLinux
}

// Verify is not to be had here.
func Verify(context.Context, Source, string, VerifyOptions) (Verification, error) {
	return Verification{}, errLinux
}
