//go:build !linux

package blockdev

import (
	"errors"
	"os"
)

func inspect(*os.File) (Geometry, error) { return Geometry{}, errors.ErrUnsupported }

func punchZeros(*os.File, int64, int64) error { return errors.ErrUnsupported }

func zeroOut(*os.File, int64, int64) error { return errors.ErrUnsupported }

func discard(*os.File, int64, int64) error { return errors.ErrUnsupported }

func dropCache(*os.File) error { return errors.ErrUnsupported }
