//go:build !linux

package dirstore

import (
	"context"
	"errors"
	"fmt"
)

func showSquashfs(context.Context, string, string) (func(context.Context) error, error) {
	return nil, fmt.Errorf("squashfs archives are mounted on Linux only: use unsquashfs (%w)", errors.ErrUnsupported)
}
