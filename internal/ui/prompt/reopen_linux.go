package prompt

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// reopen opens a terminal anew, so that a read can be ended without a change of
// what other processes share. Where that fails, reads wait for a key.
func reopen(in *os.File) *os.File {
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", in.Fd()), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return in
	}
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		_ = f.Close() // nothing was written
		return in
	}
	return f
}
