//go:build !linux

package holders

import "errors"

// OfDevice returns the users of a block device.
func OfDevice(string, ...int) ([]Holder, error) { return nil, errors.ErrUnsupported }

// OfFile returns the processes that have a file open.
func OfFile(string, ...int) ([]Holder, error) { return nil, errors.ErrUnsupported }

// Claimed reports whether something has a device for itself.
func Claimed(string) (bool, error) { return false, errors.ErrUnsupported }
