package restore

import (
	"bytes"
	"context"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/zero"
)

const (
	// minHole is the shortest run of zeros in a chunk that is not written.
	minHole = 64 << 10
	// minGap is the shortest run of equal bytes in place that is not written
	// again: below it a second system call is dearer.
	minGap = 16 << 10
)

// writeRuns writes p, with holes for its long runs of zeros.
func (k *worker) writeRuns(p []byte, off int64) error {
	for len(p) > 0 {
		n, isZero := zero.Run(p, minHole)
		switch {
		case !isZero:
			if _, err := k.j.to.WriteAt(p[:n], off); err != nil {
				return err
			}
			k.j.each(func(c *Counters) { c.written.Add(int64(n)) })
		case !k.j.to.Fresh():
			if err := k.j.to.Zero(off, int64(n)); err != nil {
				return err
			}
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// writeChanges writes the blocks of p that differ from old. They are the pages of
// the target, see [image.Shifted].
func (k *worker) writeChanges(p, old []byte, off int64) error {
	if s, ok := k.j.to.(image.Shifted); ok {
		lead := int(((s.Shift()-off)%zero.BlockSize + zero.BlockSize) % zero.BlockSize)
		lead = min(lead, len(p))
		if err := k.writeBlocks(p[:lead], old[:lead], off); err != nil {
			return err
		}
		p, old, off = p[lead:], old[lead:], off+int64(lead)
	}
	return k.writeBlocks(p, old, off)
}

func (k *worker) writeBlocks(p, old []byte, off int64) error {
	for i := 0; i < len(p); {
		i += equal(p[i:], old[i:])
		start := i
		for i < len(p) {
			i += different(p[i:], old[i:])
			gap := equal(p[i:], old[i:])
			if gap >= minGap || i+gap == len(p) {
				break
			}
			i += gap
		}
		if err := k.writeRuns(p[start:i], off+int64(start)); err != nil {
			return err
		}
	}
	return nil
}

// equal is the length of the equal blocks at the start of a and b.
func equal(a, b []byte) int { return blocks(a, b, true) }

// different is the length of the other blocks at the start.
func different(a, b []byte) int { return blocks(a, b, false) }

func blocks(a, b []byte, same bool) int {
	n := 0
	for n < len(a) {
		end := min(n+zero.BlockSize, len(a))
		if bytes.Equal(a[n:end], b[n:end]) != same {
			break
		}
		n = end
	}
	return n
}

// zeroRange makes a range of a target that is not fresh read as zeros, and
// leaves alone what does so already, if the target can be asked.
func (k *worker) zeroRange(ctx context.Context, off, n int64) error {
	if k.j.in == nil {
		return k.j.to.Zero(off, n)
	}
	for end := off + n; off < end; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e, err := image.ExtentAt(k.j.in, off)
		if err != nil {
			return err
		}
		if e.Kind == image.Zero {
			off = min(e.End(), end)
			continue
		}
		old := k.old[0].Bytes()
		old = old[:min(int64(len(old)), e.Length, end-off)]
		if err := k.look(old, off); err != nil {
			return err
		}
		if !zero.Is(old) {
			if err := k.j.to.Zero(off, int64(len(old))); err != nil {
				return err
			}
		}
		off += int64(len(old))
	}
	return nil
}
