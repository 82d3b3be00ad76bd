//go:build !linux && !windows

package image

import "syscall"

var mediumErrors = []error{syscall.EIO}
