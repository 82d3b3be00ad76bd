//go:build !linux

package loop

import (
	"context"
	"errors"
	"fmt"
)

var errNone = fmt.Errorf("loop devices: %w", errors.ErrUnsupported)

// Device is an attached device; there are none on this system.
type Device struct{}

// Attach is not possible on this system.
func Attach(context.Context, int, Options) (*Device, error) { return nil, errNone }

// Number is N of /dev/loopN.
func (*Device) Number() int { return -1 }

// Path is the device's node.
func (*Device) Path() string { return "" }

// FD is the descriptor of the node.
func (*Device) FD() int { return -1 }

// Status asks the kernel.
func (*Device) Status() (Status, error) { return Status{}, errNone }

// Close gives the node back.
func (*Device) Close() error { return nil }

// Detach closes the device.
func (*Device) Detach(context.Context, Status) error { return errNone }

// Read returns the state of a device.
func Read(int) (Status, error) { return Status{}, errNone }

// Clear ends an attachment.
func Clear(context.Context, Status) error { return errNone }

// Attached returns the numbers of all attached devices.
func Attached() ([]int, error) { return nil, errNone }

// Size is the length of an attached device in bytes.
func Size(int) (int64, error) { return 0, errNone }

// Partitions returns the nodes of the partitions that the kernel found.
func Partitions(int) ([]string, error) { return nil, errNone }
