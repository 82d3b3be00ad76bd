//go:build !linux

package fusefile

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/image"
)

var errNone = fmt.Errorf("a FUSE file: %w", errors.ErrUnsupported)

// File is an image that is shown as a file; there are none on this system.
type File struct{}

// Mount shows the image in place of a file.
func Mount(string, image.Image, Options) (*File, error) { return nil, errNone }

// Anonymous shows the image as a file without a name.
func Anonymous(image.Image, Options) (*File, error) { return nil, errNone }

// Open opens the file.
func (*File) Open() (int, error) { return -1, errNone }

// Release lets go of an anonymous file.
func (*File) Release() {}

// Device is the st_dev of the file.
func (*File) Device() uint64 { return 0 }

// Counters returns what was served so far.
func (*File) Counters() Counters { return Counters{} }

// Done is closed when the file system has ended.
func (*File) Done() <-chan struct{} { return nil }

// Unmount takes a mounted file away.
func (*File) Unmount(context.Context) error { return errNone }

// Close takes the file away.
func (*File) Close(context.Context) error { return errNone }
