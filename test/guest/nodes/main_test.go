//go:build linux

package nodes

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// roleOf makes the test binary a process that a test wants.
const roleOf = "HOLDFAST_ROLE"

const configfs = "/sys/kernel/config"

func TestMain(m *testing.M) {
	if os.Getenv("HOLDFAST_GUEST") != "1" {
		fmt.Println("these tests run in the appliance only: go test ./test/guest")
		return
	}
	if role := os.Getenv(roleOf); role != "" {
		os.Exit(play(role))
	}
	if err := unix.Mount("configfs", configfs, "configfs", 0, ""); err != nil && err != unix.EBUSY {
		fmt.Fprintln(os.Stderr, "mount configfs:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
