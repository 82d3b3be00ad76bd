//go:build !linux

package nbdattach

import (
	"context"
	"errors"
	"fmt"
)

var errNone = fmt.Errorf("nbd devices: %w", errors.ErrUnsupported)

// Device is a connected device; there are none on this system.
type Device struct{}

// Attach is not possible on this system.
func Attach(context.Context, Options) (*Device, error) { return nil, errNone }

// Index is N of /dev/nbdN.
func (*Device) Index() int { return -1 }

// Path is the device's node.
func (*Device) Path() string { return "" }

// FD is the descriptor of the node.
func (*Device) FD() int { return -1 }

// MoveTo makes fd the descriptor of the node.
func (*Device) MoveTo(int) error { return errNone }

// Close gives the node back.
func (*Device) Close() error { return nil }

// Detach disconnects the device.
func (*Device) Detach(context.Context) error { return errNone }

// Disconnect disconnects a device.
func Disconnect(context.Context, int) error { return errNone }

// Reconfigure changes a connected device.
func Reconfigure(context.Context, Options) error { return errNone }

// Connected asks the kernel which devices are connected.
func Connected(context.Context) (map[int]bool, error) { return nil, errNone }

// Read returns the state of a device.
func Read(int) (Status, error) { return Status{}, errNone }

// All returns the state of every connected device.
func All() ([]Status, error) { return nil, nil }

// Partitions returns the nodes of the partitions that the kernel found.
func Partitions(int) []string { return nil }
