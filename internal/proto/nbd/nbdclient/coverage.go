package nbdclient

import (
	"fmt"
	"slices"
)

// maxFragments bounds how many pieces apart from each other a server may send
// of one read. Servers send in order, or block by block.
const maxFragments = 4096

// coverage notes which bytes of a read have come. Each may come once.
type coverage struct {
	parts []part // sorted, disjoint, not touching
}

// part is [from, to) relative to the request's offset.
type part struct{ from, to int }

// add notes [from, to), which is not empty.
func (c *coverage) add(from, to int) error {
	if n := len(c.parts); n > 0 && c.parts[n-1].to == from { // the next one, nearly always
		c.parts[n-1].to = to
		return nil
	}
	i, found := slices.BinarySearchFunc(c.parts, from, func(p part, from int) int { return p.from - from })
	before, after := i > 0, i < len(c.parts)
	switch {
	case found, before && c.parts[i-1].to > from, after && c.parts[i].from < to:
		return fmt.Errorf("%w: bytes %d to %d of a read came twice", ErrProtocol, from, to)
	}
	before = before && c.parts[i-1].to == from
	after = after && c.parts[i].from == to
	switch {
	case before && after:
		c.parts[i-1].to = c.parts[i].to
		c.parts = slices.Delete(c.parts, i, i+1)
	case before:
		c.parts[i-1].to = to
	case after:
		c.parts[i].from = from
	case len(c.parts) == maxFragments:
		return fmt.Errorf("%w: a read came in more than %d fragments", ErrProtocol, maxFragments)
	default:
		c.parts = slices.Insert(c.parts, i, part{from, to})
	}
	return nil
}

// complete reports whether all n bytes have come.
func (c *coverage) complete(n int) bool {
	return n == 0 || len(c.parts) == 1 && c.parts[0] == part{0, n}
}
