//go:build !linux

package process

import (
	"errors"
	"fmt"
)

// Start cannot be known here.
func Start(int) (uint64, error) { return 0, errors.ErrUnsupported }

// Runs cannot be known here.
func Runs(int, uint64) bool { return false }

// Kill refuses: another process may have the number by now.
func Kill(pid int, _ uint64) error {
	return fmt.Errorf("end process %d by hand: %w", pid, errors.ErrUnsupported)
}
