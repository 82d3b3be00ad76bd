//go:build !unix

package drivelock

import (
	"context"
	"errors"
)

var errSystem = errors.New("tape drives can be used on Unix systems only: their locks are theirs")

// Take fails: there are no locks that other programs know.
func Take(context.Context, string) (*Lock, error) { return nil, errSystem }

// Busy fails too.
func Busy(string) (bool, error) { return false, errSystem }
