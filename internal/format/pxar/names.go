package pxar

import (
	"fmt"
	"strings"
)

// checkName reports why a name cannot be that of an entry, "" if it can.
func checkName[T string | []byte](name T) string {
	switch {
	case len(name) == 0:
		return "a name is empty"
	case len(name) > MaxName:
		return fmt.Sprintf("a name has %d bytes, at most %d are possible", len(name), MaxName)
	case string(name) == "." || string(name) == "..":
		return fmt.Sprintf("a name is %q", string(name))
	}
	for i := range len(name) {
		if c := name[i]; c == '/' || c == 0 {
			return fmt.Sprintf("the name %.80q has the byte %#02x", string(name), c)
		}
	}
	return ""
}

// checkTarget does so for the target of a link.
func checkTarget[T string | []byte](target T) string {
	switch {
	case len(target) == 0:
		return "the target of a link is empty"
	case len(target) > MaxName:
		return fmt.Sprintf("the target of a link has %d bytes, at most %d are possible", len(target), MaxName)
	}
	for i := range len(target) {
		if target[i] == 0 {
			return fmt.Sprintf("the target %.80q has a NUL", string(target))
		}
	}
	return ""
}

// SplitTarget returns the components of a hard link's path or of any path from
// the root of an archive. It refuses, with [ErrFormat], what could lead
// elsewhere: absolute and empty paths, "." and "..", empty components.
func SplitTarget(path string) ([]string, error) {
	parts := strings.Split(path, "/")
	for _, p := range parts {
		if problem := checkName(p); problem != "" {
			return nil, fmt.Errorf("%w: path %.80q: %s", ErrFormat, path, problem)
		}
	}
	return parts, nil
}
