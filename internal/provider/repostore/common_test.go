package repostore_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
)

func key(t *testing.T) *chunkcrypt.Key {
	t.Helper()
	var raw [32]byte
	copy(raw[:], "a key of thirty-two bytes, for us")
	k, err := chunkcrypt.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
