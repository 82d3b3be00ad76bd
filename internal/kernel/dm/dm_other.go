//go:build !linux

package dm

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Control is device-mapper, which is Linux's.
type Control struct{}

var errOther = fmt.Errorf("device-mapper is a part of Linux: %w", errors.ErrUnsupported)

// Open fails.
func Open() (*Control, error) { return nil, errOther }

// Close does nothing.
func (c *Control) Close() error { return nil }

// List fails.
func (c *Control) List() ([]Named, error) { return nil, errOther }

// Info fails.
func (c *Control) Info(string) (Info, error) { return Info{}, errOther }

// Table fails.
func (c *Control) Table(string) ([]Target, error) { return nil, errOther }

// Status fails.
func (c *Control) Status(string) ([]Target, error) { return nil, errOther }

// Create fails.
func (c *Control) Create(context.Context, string, string, []Target, bool) (Info, error) {
	return Info{}, errOther
}

// Remove fails.
func (c *Control) Remove(context.Context, string, time.Duration) error { return errOther }
