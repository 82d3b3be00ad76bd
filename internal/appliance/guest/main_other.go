//go:build !linux

package guest

import (
	"fmt"
	"os"
)

// Main says that the appliance's inside is Linux.
func Main() int {
	fmt.Fprintln(os.Stderr, "the appliance's inside runs on Linux only")
	return 2
}
