package daemon

import (
	"os"

	"golang.org/x/sys/unix"
)

// replace makes the descriptor fd a copy of f.
func replace(f *os.File, fd int) error { return unix.Dup3(int(f.Fd()), fd, 0) }
