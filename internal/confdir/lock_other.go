//go:build !unix

package confdir

import (
	"context"
	"errors"
)

func (d Dir) lock(context.Context, string) (func() error, error) {
	return nil, errors.New("the configuration of a server can be changed on Unix systems only: its locks are theirs")
}
