//go:build !linux

package tcmu

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
)

var errNone = fmt.Errorf("units become devices by the SCSI target of Linux: %w", errors.ErrUnsupported)

// Attached are units that the kernel shows as devices; there are none on this
// system.
type Attached struct{}

// Prepare is not possible on this system.
func Prepare(context.Context) error { return errNone }

// Attach is not possible on this system.
func Attach(string, []target.Unit) (*Attached, error) { return nil, errNone }

// Nodes are none.
func (*Attached) Nodes() ([]scsi.Found, error) { return nil, errNone }

// Wait is not possible on this system.
func (*Attached) Wait(context.Context) error { return errNone }

// Close does nothing.
func (*Attached) Close() error { return nil }

// Remove is not possible on this system.
func Remove(string) error { return errNone }
