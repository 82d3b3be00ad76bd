package collect

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packindex"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/collect/plan"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// writeIndex stores an index of what next gives in order, with packs of the sessions
// from first to last; 0: of this one. Nothing is stored when nothing comes.
func (c *collector) writeIndex(ctx context.Context, first, last catalog.Number, next func() (packindex.Entry, bool, error)) (err error) {
	f, err := spool.Create()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // its content was used
	w := packindex.NewWriter(f)
	packs := map[pack.ID]bool{}
	for {
		e, ok, err := next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		packs[e.Pack] = true
		if err := w.Add(e); err != nil {
			return err
		}
	}
	if w.Chunks() == 0 {
		return nil
	}
	all, head, err := w.Close()
	if err != nil {
		return err
	}
	i := c.next.index
	c.next.index++
	if err := c.put(ctx, catalog.IndexKey(c.out.number, i), io.NewSectionReader(f, 0, all)); err != nil {
		return err
	}
	run := catalog.Run{Chunks: w.Chunks(), Packs: int64(len(packs)), Bytes: all, Head: head, First: first, Last: last}
	if head <= catalog.InlineMost {
		run.Inline = make([]byte, head)
		if _, err := f.ReadAt(run.Inline, all-head); err != nil {
			return err
		}
	}
	c.out.runs[catalog.RunKey(c.out.number, i)] = run
	return nil
}

// mergeIndexes merges small indexes, and frees others from packs that are not there.
func (c *collector) mergeIndexes(ctx context.Context) error {
	var all []plan.Index
	for key, r := range c.at.runs {
		first, last := spread(key, r)
		void := map[pack.ID]bool{}
		for _, id := range r.Void {
			void[id] = true
		}
		for id := range c.void {
			if n := catalog.Number(id.Session); first <= n && n <= last {
				void[id] = true
			}
		}
		x := plan.Index{Key: key, First: uint64(first), Last: uint64(last), Chunks: r.Chunks, Packs: r.Packs, Void: int64(len(void))}
		all = append(all, x)
	}
	for _, group := range plan.Merge(all, packindex.MaxChunks) {
		if err := c.mergeGroup(ctx, group); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) mergeGroup(ctx context.Context, group []plan.Index) error {
	m := &merger{unusable: map[pack.ID]bool{}, void: maps.Clone(c.void)}
	for _, list := range c.at.dead {
		for _, id := range list.Packs {
			m.unusable[id] = true
		}
	}
	for id := range c.at.moved {
		m.unusable[id] = true
	}
	first, last := group[0].First, group[0].Last
	defer func() { _ = m.close() }() // what was read was read
	for _, x := range group {
		first, last = min(first, x.First), max(last, x.Last)
		r := c.at.runs[x.Key]
		for _, id := range r.Void {
			m.void[id] = true
		}
		n, i, err := runOf(x.Key)
		if err != nil {
			return err
		}
		src, err := resume.Open(ctx, c.store, catalog.IndexKey(n, i), 0, r.Bytes-r.Head)
		if err != nil {
			return fmt.Errorf("read index %s: %w", catalog.IndexKey(n, i), err)
		}
		if err := m.from(src, r.Chunks); err != nil {
			return fmt.Errorf("read index %s: %w", catalog.IndexKey(n, i), err)
		}
	}
	err := c.writeIndex(ctx, catalog.Number(first), catalog.Number(last), m.next)
	if errors.Is(err, packindex.ErrFormat) {
		c.warn("indexes stay as they are, because one is damaged: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	for _, x := range group {
		n, i, err := runOf(x.Key)
		if err != nil {
			return err
		}
		c.out.replaced = append(c.out.replaced, x.Key)
		c.replace(catalog.IndexKey(n, i))
	}
	return nil
}

// merger gives the entries of several indexes in order. Of the same chunk it gives one place,
// if it can one that new snapshots may use.
type merger struct {
	inputs   inputs
	void     map[pack.ID]bool
	unusable map[pack.ID]bool
}

type input struct {
	entry packindex.Entry
	next  func() (packindex.Entry, error, bool)
	stop  func()
	src   io.Closer
}

// from adds an index, which it closes.
func (m *merger) from(src io.ReadCloser, chunks int64) error {
	in := &input{src: src}
	in.next, in.stop = iter.Pull2(packindex.Scan(src, chunks))
	more, err := in.step()
	if err != nil || !more {
		return errors.Join(err, in.close())
	}
	heap.Push(&m.inputs, in)
	return nil
}

func (in *input) step() (more bool, err error) {
	var ok bool
	in.entry, err, ok = in.next()
	return ok, err
}

func (in *input) close() error {
	in.stop()
	return in.src.Close()
}

// next gives the next chunk.
func (m *merger) next() (packindex.Entry, bool, error) {
	var best packindex.Entry
	found := false
	for len(m.inputs) > 0 {
		e := m.inputs[0].entry
		if found && e.Digest != best.Digest {
			break
		}
		if !m.void[e.Pack] && (!found || m.unusable[best.Pack] && !m.unusable[e.Pack]) {
			best, found = e, true
		}
		if err := m.advance(); err != nil {
			return best, false, err
		}
	}
	return best, found, nil
}

func (m *merger) advance() error {
	more, err := m.inputs[0].step()
	if err != nil {
		return err
	}
	if more {
		heap.Fix(&m.inputs, 0)
		return nil
	}
	return heap.Pop(&m.inputs).(*input).close()
}

func (m *merger) close() error {
	var errs []error
	for _, in := range m.inputs {
		errs = append(errs, in.close())
	}
	return errors.Join(errs...)
}

// inputs is a heap by digests.
type inputs []*input

func (h inputs) Len() int { return len(h) }
func (h inputs) Less(i, j int) bool {
	a, b := h[i].entry, h[j].entry
	if n := bytes.Compare(a.Digest[:], b.Digest[:]); n != 0 {
		return n < 0
	}
	return a.Location.Compare(b.Location) < 0
}
func (h inputs) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *inputs) Push(x any)   { *h = append(*h, x.(*input)) }
func (h *inputs) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
