//go:build !linux

package provider

import (
	"context"
	"errors"
	"os"
)

var errWalk = errors.New("containers can be backed up on Linux only")

// Walkers is nothing here.
type Walkers struct{}

// NewWalkers fails.
func NewWalkers(*os.File, string) (*Walkers, error) { return nil, errWalk }

// Serve fails.
func (*Walkers) Serve(context.Context, *Service) error { return errWalk }

// RunWalker fails.
func RunWalker(context.Context, *os.File, ContainerCall, Log) error { return errWalk }
