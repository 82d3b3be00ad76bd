//go:build !linux

package image

import (
	"errors"
	"os"
)

func seekExtent(*os.File, int64) (data, hole int64, err error) { return 0, 0, errors.ErrUnsupported }

func adviseSequential(*os.File) {}

func adviseWillNeed(*os.File, int64, int64) {}

func hasWriter(*os.File) bool { return false }

func forbidWriters(*os.File) error { return nil }
