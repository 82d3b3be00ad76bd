//go:build !linux

package sg

import (
	"errors"
	"fmt"
	"os"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

var errNone = fmt.Errorf("SCSI devices are reached through the generic nodes of Linux: %w", errors.ErrUnsupported)

// Device is an open node; there are none on this system.
type Device struct{}

// Open is not possible on this system.
func Open(string) (*Device, error) { return nil, errNone }

// FromFile is not possible on this system.
func FromFile(*os.File) (*Device, error) { return nil, errNone }

// Do is not possible on this system.
func (*Device) Do(scsi.Command) (int, error) { return 0, errNone }

// File is no file.
func (*Device) File() *os.File { return nil }

// Close does nothing.
func (*Device) Close() error { return nil }
