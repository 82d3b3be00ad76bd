//go:build linux

package trees

import (
	"path/filepath"
	"testing"
)

// restored is a new directory with an archive in it, until the end of the test.
func (s *store) restored(t *testing.T, snapshot, archive string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	released(t, out)
	s.hold(exitOK, "restore", snapshot, archive, out)
	return out
}
