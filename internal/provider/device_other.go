//go:build !linux

package provider

import (
	"errors"
	"os"
)

func readRandomly(*os.File) error            { return nil }
func forget(*os.File, int64, int64)          {}
func punchHole(*os.File, int64, int64) error { return errors.ErrUnsupported }
