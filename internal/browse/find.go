package browse

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/exclude"
)

// Find calls f for everything below the directory at path that the pattern
// matches.
func (t *Tree) Find(ctx context.Context, path string, p exclude.Pattern, f Func) error {
	return t.Walk(ctx, path, func(path []byte, e *Entry) error {
		if !p.Match(path, e.IsDir()) {
			return nil
		}
		return f(path, e)
	})
}

// Glob calls f for what a pattern, as the user wrote it in the directory at,
// matches: the one entry that it names if it has neither "*" nor "?" nor "[", else
// any number. A set never matches a "/" here.
func (t *Tree) Glob(ctx context.Context, at, pattern string, f Func) error {
	if !IsGlob(pattern) {
		path := Clean(at, unquote(pattern))
		e, err := t.Lookup(ctx, path)
		if err != nil {
			return err
		}
		return f([]byte(path), &e)
	}
	p, err := exclude.Parse(absolute(at, pattern), exclude.Include)
	if err != nil {
		return err
	}
	p = p.Anchor()
	start, levels := split(strings.TrimPrefix(p.String(), "!"))
	e, err := t.Lookup(ctx, start)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !e.IsDir():
		return nil
	case err != nil:
		return err
	}
	return t.Walk(ctx, start, func(path []byte, e *Entry) error {
		if p.Match(path, e.IsDir()) {
			if err := f(path, e); err != nil {
				return err
			}
		}
		if e.IsDir() && levels > 0 && bytes.Count(path, []byte("/")) >= levels {
			return fs.SkipDir
		}
		return nil
	})
}

// split returns the directory that a clean pattern from the root on begins with,
// and how many names what it matches has; 0 if they vary.
func split(pattern string) (start string, levels int) {
	parts := strings.Split(pattern[1:], "/")
	levels = len(parts)
	start = "/"
	for i, part := range parts {
		if IsGlob(part) || i == len(parts)-1 {
			break
		}
		start = Join(start, unquote(part))
	}
	for _, part := range parts {
		if len(part) > 1 && strings.Trim(part, "*") == "" {
			return start, 0
		}
	}
	return start, levels
}
