//go:build !linux

package mount

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

var errNone = fmt.Errorf("mount an archive: %w", errors.ErrUnsupported)

// Mount is an archive that is mounted; there are none on this system.
type Mount struct{}

// New mounts an archive on a directory.
func New(string, *pxar.Archive, Options) (*Mount, error) { return nil, errNone }

// Dir is where the archive is mounted.
func (*Mount) Dir() string { return "" }

// Done is closed when the file system has ended.
func (*Mount) Done() <-chan struct{} { return nil }

// Unmount takes the file system away.
func (*Mount) Unmount(context.Context) error { return errNone }

// Detach takes the file system out of sight.
func (*Mount) Detach(context.Context) error { return errNone }

// Close takes the file system away whoever uses it.
func (*Mount) Close(context.Context) error { return errNone }
