package vm

import (
	"fmt"
	"os"
	"strings"
)

// memoryFor is what a machine gets for its disks, in MiB.
func memoryFor(disks int) int {
	switch {
	case disks < 10:
		return 320
	case disks < 20:
		return 448
	}
	return 448 + 2*(disks-20)
}

// spare is what is left to the host besides a machine's memory, in MiB.
const spare = 128

// roomFor refuses a machine for which the host has no memory: a host without memory
// ends processes of its choice, and not of ours.
func roomFor(mib int) error {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil //nolint:nilerr // not to be had everywhere; then it is left to the host
	}
	if free, ok := available(string(b)); ok && free < int64(mib+spare)<<10 {
		return fmt.Errorf("a restore machine takes %d MiB of memory, and this host has %d MiB to give: "+
			"end one that is not needed (holdfast file-restore status, stop), or something else", mib, max(0, free>>10-spare))
	}
	return nil
}

// available finds the KiB that programs may still take.
func available(meminfo string) (kib int64, ok bool) {
	for l := range strings.Lines(meminfo) {
		if _, err := fmt.Sscanf(l, "MemAvailable: %d kB", &kib); err == nil {
			return kib, true
		}
	}
	return 0, false
}
