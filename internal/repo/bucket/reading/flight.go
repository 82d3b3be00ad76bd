package reading

import (
	"cmp"
	"context"
	"io"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
)

// Bounds of a request.
const (
	maxGap  = 128 << 10 // bytes that nobody needs, between two chunks
	minSpan = 1 << 20   // bytes
	maxSpan = 8 << 20
	spread  = 16 // requests over which what is in the line is spread as long as little is on its way
)

// flight is a request for chunks that lie near each other.
type flight struct {
	items  []*item // in the order in which they lie
	cancel context.CancelFunc
	left   int // that somebody may want; under ahead.mu
}

// leave says that one of the chunks is not wanted any more. It is called under the
// lock.
func (f *flight) leave() {
	if f.left--; f.left == 0 {
		f.cancel()
	}
}

// group is what is asked for with one chunk: its neighbours that are in the line too. It is
// called under the lock.
func (a *ahead) group(first *item, waiting int64) []*item {
	var near []*item
	for _, it := range a.line[:min(len(a.line), lookFar)] {
		if it.placed && it.at.Pack == first.at.Pack {
			near = append(near, it)
		}
	}
	if !slices.Contains(near, first) {
		near = append(near, first)
	}
	slices.SortFunc(near, func(a, b *item) int { return cmp.Compare(a.at.Off, b.at.Off) })
	span := a.span
	if a.held < enough {
		span = min(max(waiting/spread, minSpan), span)
	}
	room := a.p.opt.Budget - a.held
	i := slices.Index(near, first)
	lo, hi, bytes := i, i+1, int64(first.at.Len)
	fits := func(it *item) bool {
		return bytes+int64(it.at.Len) <= room && max(end(it.at), end(near[hi-1].at))-int64(min(it.at.Off, near[lo].at.Off)) <= span
	}
	for hi < len(near) && follows(near[hi-1].at, near[hi].at) && fits(near[hi]) {
		bytes += int64(near[hi].at.Len)
		hi++
	}
	for lo > 0 && follows(near[lo-1].at, near[lo].at) && fits(near[lo-1]) {
		lo--
		bytes += int64(near[lo].at.Len)
	}
	return near[lo:hi]
}

func end(l pack.Location) int64 { return int64(l.Off) + int64(l.Len) }

// follows reports whether b can be read on from a.
func follows(a, b pack.Location) bool {
	gap := int64(b.Off) - end(a)
	return gap >= 0 && gap <= maxGap
}

// begin asks for a group. It is called under the lock.
func (a *ahead) begin(group []*item) {
	ctx, cancel := context.WithCancel(a.p.ctx)
	f := &flight{items: group, cancel: cancel, left: len(group)}
	for _, it := range group {
		it.flight, it.held = f, int64(it.at.Len)
		a.held += it.held
		if a.items[it.name] == it {
			a.begun = append(a.begun, it)
		}
	}
	a.line = slices.DeleteFunc(a.line, func(it *item) bool { return it.flight != nil })
	a.flying++
	a.wg.Go(func() {
		defer cancel()
		a.fly(ctx, f)
		a.mu.Lock()
		a.flying--
		a.mu.Unlock()
		a.poke()
	})
}

// fly brings the chunks of a request, each as it comes.
func (a *ahead) fly(ctx context.Context, f *flight) {
	first, last := f.items[0].at, f.items[len(f.items)-1].at
	at := int64(first.Off)
	r, err := resume.Open(ctx, a.p.opt.Store, first.Pack.Key(), at, end(last)-at)
	if err == nil {
		defer func() { _ = r.Close() }() // it was only read
	}
	for _, it := range f.items {
		if err == nil {
			_, err = io.CopyN(io.Discard, r, int64(it.at.Off)-at)
		}
		if err == nil {
			it.buf, err = a.pool.Get(int(it.at.Len))
		}
		if err == nil {
			it.raw = it.buf.Bytes()[:it.at.Len]
			_, err = io.ReadFull(r, it.raw)
		}
		at = end(it.at)
		a.arrived(it, err)
	}
}
