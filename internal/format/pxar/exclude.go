package pxar

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/canonjson"
)

// ExcludeName is the name of the file that holds the patterns of the command
// line, the last one in the root of an archive of version 1. Version 2 has a
// [Prelude] instead.
const ExcludeName = ".pxarexclude-cli"

const preludeKey = "exclude-patterns"

// Prelude returns the prelude that the existing client writes if there are
// patterns on the command line: JSON with their text form.
func Prelude(patterns string) ([]byte, error) {
	b, err := canonjson.AppendCanonical(nil, map[string]any{preludeKey: patterns})
	if err != nil {
		return nil, fmt.Errorf("%w: exclude patterns: %w", ErrInvalid, err)
	}
	return b, nil
}

// PreludePatterns returns the patterns in a prelude. ok is false for any other
// prelude, which is none of a reader's business.
func PreludePatterns(prelude []byte) (patterns string, ok bool) {
	v, err := canonjson.Parse(prelude)
	if err != nil {
		return "", false
	}
	m, _ := v.(map[string]any)
	patterns, ok = m[preludeKey].(string)
	return patterns, ok
}

// AddExcludes adds the file [ExcludeName] to the root, its last entry. uid and
// gid are those of the process.
func (w *Writer) AddExcludes(uid, gid uint32, patterns string) error {
	if w.version != 1 || len(w.dirs) != 1 {
		return fmt.Errorf("%w: %s belongs into the root of version 1, here are version %d and %d directories",
			ErrInvalid, ExcludeName, w.version, len(w.dirs))
	}
	e := Entry{Name: ExcludeName, Kind: File, Metadata: Metadata{Mode: ModeFile | 0o600, UID: uid, GID: gid}}
	return w.AddBytes(&e, []byte(patterns))
}
