package browse

import (
	"context"
	"strings"
	"unicode/utf8"
)

// Completion is what can stand for a name whose beginning is written.
type Completion struct {
	Common string  // what all of them begin with; at least what was written
	Some   []Entry // in the order of the archive, not more than were asked for
	Count  int     // of all
}

// Complete looks for the names in a directory that begin with prefix. accept may
// refuse some, nil: none. At most limit are returned, and all are counted.
func (t *Tree) Complete(ctx context.Context, dir, prefix string, limit int, accept func(*Entry) bool) (c Completion, err error) {
	for e, err := range t.List(ctx, dir) {
		if err != nil {
			return Completion{}, err
		}
		if !strings.HasPrefix(e.Name, prefix) || accept != nil && !accept(&e) {
			continue
		}
		if c.Count == 0 {
			c.Common = e.Name
		}
		c.Common = common(c.Common, e.Name)
		if c.Count++; len(c.Some) < limit {
			c.Some = append(c.Some, e)
		}
	}
	if c.Count == 0 {
		c.Common = prefix
	}
	return c, nil
}

// common is what two names begin with, as whole characters.
func common(a, b string) string {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	for n > 0 && n < len(a) && !utf8.RuneStart(a[n]) {
		n--
	}
	return a[:n]
}
