package tapefile

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/canonjson"
)

// object reads the members of a JSON object. The first thing that is wrong
// stays in err.
type object struct {
	what string
	m    map[string]any
	err  error
}

// object parses the JSON of a header, whose content must be one of some.
func (h Header) object(want ...Content) (*object, error) {
	for _, c := range want {
		if h.Content == c {
			return parseObject(c.String(), h.JSON)
		}
	}
	return nil, fmt.Errorf("%w: a %s where a %s should be", ErrFormat, h.Content, want[0])
}

func parseObject(what string, js []byte) (*object, error) {
	v, err := canonjson.Parse(js)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFormat, what, err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: a %s that is no object", ErrFormat, what)
	}
	return &object{what: what, m: m}, nil
}

func (o *object) fail(key, want string) {
	if o.err == nil {
		o.err = fmt.Errorf("%w: %q of a %s is not %s", ErrFormat, key, o.what, want)
	}
}

func (o *object) text(key string) string {
	s, ok := o.m[key].(string)
	if !ok {
		o.fail(key, "a text")
	}
	return s
}

// optional is a text that may be missing or null.
func (o *object) optional(key string) string {
	if o.m[key] == nil {
		return ""
	}
	return o.text(key)
}

func (o *object) uuid(key string) uuid.UUID {
	s := o.text(key)
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 { // the other forms are nobody's
		o.fail(key, "a uuid")
	}
	return id
}

func (o *object) int(key string) int64 {
	n, _ := o.m[key].(json.Number)
	v, err := strconv.ParseInt(string(n), 10, 64)
	if err != nil {
		o.fail(key, "a number")
	}
	return v
}

func (o *object) uint(key string) uint64 {
	n, _ := o.m[key].(json.Number)
	v, err := strconv.ParseUint(string(n), 10, 64)
	if err != nil {
		o.fail(key, "a number that is not negative")
	}
	return v
}
