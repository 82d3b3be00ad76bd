//go:build !linux

package prompt

import "os"

// reopen returns the terminal itself: reads wait for a key.
func reopen(in *os.File) *os.File { return in }
