// Package catalogtest has the state of a repository without a log, for tests of those
// who only read it.
package catalogtest

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// State is what the log says, by key.
type State map[string]string

var _ catalog.Reader = State(nil)

// Get implements catalog.Reader.
func (s State) Get(key string) ([]byte, bool) {
	v, ok := s[key]
	return []byte(v), ok
}

// Scan implements catalog.Reader.
func (s State) Scan(prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, key := range slices.Sorted(maps.Keys(s)) {
			if strings.HasPrefix(key, prefix) && !yield(key, []byte(s[key])) {
				return
			}
		}
	}
}
