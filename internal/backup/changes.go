package backup

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// ChangedMap lists what changed on a disk since a snapshot, as a dirty bitmap
// or a storage system tells. Its text form is
//
//	{"base": "vm/100/2026-01-02T03:04:05Z", "size": 34359738368,
//	 "extents": [{"offset": 0, "length": 65536}, ...]}
//
// in bytes, with extents in any order, overlapping or not. base may begin with
// the namespace as in "ns/a/vm/100/...". What is in no extent is as it was in
// base: a map that is wrong makes a wrong backup.
type ChangedMap struct {
	Base    string  `json:"base"`
	Size    int64   `json:"size"`
	Extents []Dirty `json:"extents"`
}

// Dirty is a changed range.
type Dirty struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// Bounds of the text form: 32 MiB of memory once read, and a map of more
// extents saves nothing, because they touch as many chunks.
const (
	maxMapBytes   = 256 << 20
	maxMapExtents = 1 << 20
)

// ErrMap is wrapped when a map of changes is not what it should be.
var ErrMap = errors.New("invalid map of changes")

// ReadChangedMap reads the text form and validates it. Every key must be there
// once and no other may be.
func ReadChangedMap(r io.Reader) (*ChangedMap, error) {
	limited := &io.LimitedReader{R: r, N: maxMapBytes + 1}
	dec := json.NewDecoder(limited)
	c, err := decodeMap(dec)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			err = errors.New("something follows the object")
		}
	}
	switch {
	case limited.N <= 0:
		return nil, fmt.Errorf("%w: more than %d bytes", ErrMap, maxMapBytes)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrMap, err)
	}
	return c, c.normalize()
}

// decodeMap reads the object step by step: a hostile one must not become a
// large slice before it is counted.
func decodeMap(dec *json.Decoder) (*ChangedMap, error) {
	if err := expect(dec, '{'); err != nil {
		return nil, err
	}
	var c ChangedMap
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string)
		if seen[key] {
			return nil, fmt.Errorf("%q is there twice", key)
		}
		seen[key] = true
		switch key {
		case "base":
			err = dec.Decode(&c.Base)
		case "size":
			err = dec.Decode(&c.Size)
		case "extents":
			c.Extents, err = decodeExtents(dec)
		default:
			err = fmt.Errorf("unknown key %.40q", key)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(seen) != 3 {
		return nil, errors.New("want base, size and extents")
	}
	return &c, expect(dec, '}')
}

func decodeExtents(dec *json.Decoder) ([]Dirty, error) {
	switch t, err := dec.Token(); {
	case err != nil:
		return nil, err
	case t == nil: // null, as some writers print an empty list
		return nil, nil
	case t != json.Delim('['):
		return nil, fmt.Errorf("want [, got %.40v", t)
	}
	var all []Dirty
	for dec.More() {
		if len(all) == maxMapExtents {
			return nil, fmt.Errorf("more than %d extents", maxMapExtents)
		}
		var d Dirty
		if err := dec.Decode(&d); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, expect(dec, ']')
}

func expect(dec *json.Decoder, want json.Delim) error {
	t, err := dec.Token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("want %v, got %.40v", want, t)
	}
	return nil
}

// normalize checks every extent, sorts them and joins those that meet.
func (c *ChangedMap) normalize() error {
	switch {
	case c.Base == "":
		return fmt.Errorf("%w: it has no base", ErrMap)
	case c.Size <= 0:
		return fmt.Errorf("%w: size %d", ErrMap, c.Size)
	case len(c.Extents) > maxMapExtents:
		return fmt.Errorf("%w: %d extents, at most %d", ErrMap, len(c.Extents), maxMapExtents)
	}
	for _, d := range c.Extents {
		if d.Offset < 0 || d.Length < 0 || d.Offset > c.Size-d.Length || d.Length > c.Size {
			return fmt.Errorf("%w: extent [%d,+%d) lies outside the %d bytes", ErrMap, d.Offset, d.Length, c.Size)
		}
	}
	sorted := slices.SortedFunc(slices.Values(c.Extents), func(a, b Dirty) int { return cmp.Compare(a.Offset, b.Offset) })
	joined := sorted[:0]
	for _, d := range sorted {
		switch n := len(joined); {
		case d.Length == 0:
		case n > 0 && d.Offset <= joined[n-1].Offset+joined[n-1].Length:
			last := &joined[n-1]
			last.Length = max(last.Length, d.Offset+d.Length-last.Offset)
		default:
			joined = append(joined, d)
		}
	}
	c.Extents = joined
	return nil
}

// Bytes is how much changed.
func (c *ChangedMap) Bytes() int64 {
	var n int64
	for _, d := range c.Extents {
		n += d.Length
	}
	return n
}

// WithChanges is img with everything Unchanged that the map does not list. The
// caller makes sure that the map's base is what Unchanged refers to; [Run]
// does.
func WithChanges(img image.Image, c *ChangedMap) (image.Image, error) {
	if err := c.normalize(); err != nil {
		return nil, err
	}
	if c.Size != img.Size() {
		return nil, fmt.Errorf("%w: it is for %d bytes, and the image has %d: back up without the map", ErrMap, c.Size, img.Size())
	}
	return &changed{img, c.Extents}, nil
}

// changed is the filter of WithChanges.
type changed struct {
	image.Image
	dirty []Dirty // sorted, disjoint
}

var (
	_ image.Extenter = (*changed)(nil)
	_ image.Adviser  = (*changed)(nil)
)

// ExtentAt is Unchanged outside the map, and what the image says inside.
func (c *changed) ExtentAt(off int64) (image.Extent, error) {
	i := sort.Search(len(c.dirty), func(i int) bool { return c.dirty[i].Offset+c.dirty[i].Length > off })
	if i == len(c.dirty) || c.dirty[i].Offset > off {
		end := c.Size()
		if i < len(c.dirty) {
			end = c.dirty[i].Offset
		}
		return image.Extent{Offset: off, Length: end - off, Kind: image.Unchanged}, nil
	}
	e, err := image.ExtentAt(c.Image, off)
	e.Length = min(e.Length, c.dirty[i].Offset+c.dirty[i].Length-off)
	return e, err
}

// WillNeed passes the hint on.
func (c *changed) WillNeed(off, n int64) { image.WillNeed(c.Image, off, n) }

// Found passes on what a filter for bad sectors below made up.
func (c *changed) Found() image.Damage { return unreadable(c.Image) }
