package ext_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

const mib = 1 << 20

// mem is an image in memory.
type mem struct{ *bytes.Reader }

// copyOf copies an image, as the kernel changes what it mounts.
func copyOf(t *testing.T, img string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	fsreadtest.Run(t, "cp", "--sparse=always", "--reflink=auto", img, to)
	return to
}
