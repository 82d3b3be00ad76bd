//go:build !linux

package cli

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/provider"
)

func (a *app) backupContainer(context.Context, provider.Storage, provider.Options, string) error {
	return errors.New("containers can be backed up on Linux only")
}
