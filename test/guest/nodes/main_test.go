//go:build linux

package nodes

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi/tcmu"
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
	if err := tcmu.Prepare(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
