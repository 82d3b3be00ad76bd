//go:build !linux

package provider

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/image"
)

func showFile(string, image.Image) (func(context.Context) error, error) {
	return nil, errors.New("disks can be shown as files on Linux only")
}

// SweepScratch has nothing to do here.
func SweepScratch(context.Context, string) error { return nil }
