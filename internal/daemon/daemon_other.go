//go:build !unix

package daemon

import (
	"context"
	"os"
)

// Background is not to be had here.
func Background(context.Context, ...int) (int, error) { return 0, ErrUnsupported }

// Ready is not to be had here.
func (*Child) Ready(*os.File) error { return ErrUnsupported }
