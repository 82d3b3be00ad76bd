//go:build !unix

package confdir

import (
	"context"
	"errors"
	"time"
)

// Lock says that there are no locks here.
func (d Dir) Lock(context.Context, string, time.Duration) (func() error, error) {
	return nil, errors.New("the configuration of a server can be changed on Unix systems only: its locks are theirs")
}
