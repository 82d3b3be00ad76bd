//go:build !linux

package inside

import (
	"fmt"
	"os"
)

// Main says that the restore machine's inside is Linux.
func Main([]string) int {
	fmt.Fprintln(os.Stderr, "the restore machine's inside runs on Linux only")
	return 2
}
