//go:build !unix

package jobs

import "errors"

// Lock fails: the jobs of a server run on Unix systems only.
func (d States) Lock(string) (func() error, error) {
	return nil, errors.New("the jobs of a server run on Unix systems only: their locks are theirs")
}
