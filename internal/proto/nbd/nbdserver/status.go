package nbdserver

import (
	"math"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

const (
	maxExtents = 4096  // in one reply and context; the client asks again behind them
	maxSteps   = 65536 // questions to a context for them, when neighbours merge
)

// submitStatus gives a BLOCK_STATUS to a worker. With a payload that is the
// filter.
func (c *conn) submitStatus(r nbd.Request, payload uint64) error {
	j := job{req: r}
	if r.Flags&nbd.FlagPayloadLen != 0 {
		if payload > uint64(8+4*len(c.contexts)) {
			if err := c.in.discard(int64(payload)); err != nil {
				return err
			}
			c.exp.count.failed()
			return c.refuse(r, refusal(nbd.EINVAL, "a filter of %d bytes for %d contexts", payload, len(c.contexts)))
		}
		if err := c.in.need(int(payload)); err != nil {
			return err
		}
		f, err := nbd.ParseStatusFilter(c.in.take(int(payload)))
		if err != nil {
			err = refusal(nbd.EINVAL, "%v", err)
		} else {
			err = c.checkFilter(r, f)
		}
		if err != nil {
			c.exp.count.failed()
			return c.refuse(r, err)
		}
		j.req.Length, j.ids = f.Length, f.Contexts
	}
	if j.req.Length == 0 {
		c.exp.count.failed()
		return c.refuse(r, refusal(nbd.EINVAL, "BLOCK_STATUS of no bytes"))
	}
	return c.start(j)
}

func (c *conn) checkFilter(r nbd.Request, f nbd.StatusFilter) error {
	if !c.exp.contains(r.Offset, f.Length) {
		return refusal(nbd.EINVAL, "BLOCK_STATUS of %d bytes at %d reaches behind the end of %d bytes", f.Length, r.Offset, c.exp.size)
	}
	if len(f.Contexts) == 0 {
		return refusal(nbd.EINVAL, "a filter without contexts")
	}
	for i, id := range f.Contexts {
		known := slices.ContainsFunc(c.contexts, func(s selected) bool { return s.id == id })
		if !known || slices.Contains(f.Contexts[:i], id) {
			return refusal(nbd.EINVAL, "context %d was not selected, or is there twice", id)
		}
	}
	return nil
}

// blockStatus executes a BLOCK_STATUS: a chunk for each context.
func (w *worker) blockStatus(j job) {
	r := j.req
	w.exp.count.statuses.Add(1)
	contexts := w.contexts
	last := len(contexts) - 1
	if j.ids != nil {
		last = slices.IndexFunc(contexts, func(s selected) bool { return s.id == slices.Max(j.ids) })
	}
	wide := w.mode == nbd.Extended
	for i, s := range contexts {
		if j.ids != nil && !slices.Contains(j.ids, s.id) {
			continue
		}
		st, err := w.extents(s, r)
		if err != nil {
			w.answer(r, err)
			return
		}
		w.status = st.Append(w.status[:0], wide)
		h := nbd.Chunk{Type: nbd.ChunkBlockStatus, Cookie: r.Cookie, Offset: r.Offset, Length: uint64(len(w.status))}
		if wide {
			h.Type = nbd.ChunkBlockStatusExt
		}
		if i == last {
			h.Flags = nbd.FlagDone
		}
		b := w.out.begin()
		b.head = append(h.Append(b.head, w.mode), w.status...)
		w.out.end()
	}
}

// extents asks a context for its flags in the range, neighbours merged. It
// covers at least the first byte and nothing behind the range.
func (w *worker) extents(s selected, r nbd.Request) (nbd.BlockStatus, error) {
	st := nbd.BlockStatus{Context: s.id, Extents: w.extent[:0]}
	off, end := int64(r.Offset), int64(r.Offset+r.Length)
	for range maxSteps {
		if off >= end {
			break
		}
		n, flags, err := s.at(w.exp, off)
		if err != nil {
			if len(st.Extents) > 0 {
				break // the client gets it with the next question
			}
			return st, &placeError{off: uint64(off), err: err}
		}
		n = min(max(n, 1), end-off)
		k := len(st.Extents)
		if k > 0 && st.Extents[k-1].Flags == uint64(flags) {
			st.Extents[k-1].Length += uint64(n)
		} else if k == maxExtents || k == 1 && r.Flags&nbd.FlagReqOne != 0 {
			break
		} else {
			st.Extents = append(st.Extents, nbd.Extent{Length: uint64(n), Flags: uint64(flags)})
		}
		off += n
	}
	if w.mode != nbd.Extended && len(st.Extents) == 1 {
		st.Extents[0].Length = min(st.Extents[0].Length, math.MaxUint32)
	}
	w.extent = st.Extents
	return st, nil
}

// at asks the context; the padding behind the image has no flags but those of
// base:allocation.
func (s selected) at(x *export, off int64) (int64, uint32, error) {
	if off >= x.real && s.Name() != nbd.BaseAllocation {
		return x.size - off, 0, nil
	}
	return s.At(off)
}
