package blockdev

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Rotational reports whether a device, as stat names it, is known to turn. A
// partition is asked for its disk.
func Rotational(dev uint64) bool {
	at := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev))
	for _, file := range []string{at + "/queue/rotational", at + "/../queue/rotational"} {
		if b, err := os.ReadFile(file); err == nil {
			return len(b) > 0 && b[0] == '1'
		}
	}
	return false
}
