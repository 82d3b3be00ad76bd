package providertest

import (
	"syscall"
	"testing"
)

// allocated is what a file takes on its disk, in bytes.
func allocated(t testing.TB, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}
