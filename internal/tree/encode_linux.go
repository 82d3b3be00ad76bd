package tree

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/format/catalog"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// Archive makes an archive of the directory path.
func Archive(ctx context.Context, path string, out Output, o Options) (_ Report, err error) {
	if o.Base != nil && out.Payload == nil {
		return Report{}, errors.New("internal error: contents are taken over in version 2 only")
	}
	if o.Counters == nil {
		o.Counters = new(Counters)
	}
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := newScan(ctx, &o)
	root, err := s.openRoot(path)
	if err != nil {
		return Report{}, err
	}
	s.root = root.dir.hold()
	defer s.root.release()
	e, err := newEncoder(s, out)
	if err != nil {
		root.dir.release()
		return Report{}, err
	}
	w := &walker{s: s, r: &reader{s: s, buf: make([]byte, nameRoom)}, most: o.MaxEntries, base: e.base}
	if w.most <= 0 {
		w.most = DefaultMaxEntries
	}
	s.start(s.readers(root.dir.dev))
	walked := make(chan error, 1)
	go func() {
		err := w.root(root, exclude.NewList(e.patterns))
		w.drop()
		if err != nil {
			cancel(err) // before the encoder thinks that this was all
		}
		walked <- err
		close(s.ordered)
	}()
	err = e.run()
	if err != nil {
		cancel(err) // ends the walker, if it has not ended
	}
	for b := range s.ordered {
		b.abandon()
	}
	if werr := <-walked; err == nil {
		err = werr
	}
	s.stop()
	if err != nil {
		if outer.Err() != nil {
			err = context.Cause(outer)
		}
		return Report{}, err
	}
	e.report.Excluded, e.report.Foreign = w.counts.excluded, w.counts.foreign
	if e.base != nil {
		e.report.BaseError = e.base.err
	}
	return e.report, nil
}

// abandon frees what a batch holds that nobody writes any more.
func (b *batch) abandon() {
	<-b.done
	for i := range b.items {
		b.items[i].closeFile()
	}
}

func (it *item) closeFile() {
	if it.fd >= 0 {
		_ = unix.Close(it.fd) // was only read
		it.fd = -1
	}
}

// encoder writes the items in order.
type encoder struct {
	s        *scan
	w        *pxar.Writer
	out      Output
	patterns []exclude.Pattern
	base     *base
	ahead    *lookAhead // of a split archive with a base; else nil
	links    links
	depth    int
	report   Report
	again    *reader // for files that are read after all
}

func newEncoder(s *scan, out Output) (*encoder, error) {
	e := &encoder{s: s, out: out, again: &reader{s: s, buf: make([]byte, nameRoom)}}
	e.patterns = append(e.patterns, s.o.Exclude...)
	if s.o.SkipLostAndFound {
		p, err := exclude.Parse("lost+found", exclude.Exclude)
		if err != nil {
			return nil, err
		}
		e.patterns = append(e.patterns, p)
	}
	wo := pxar.WriterOptions{}
	if out.Payload != nil {
		wo.Payload = out.Payload
		if len(e.patterns) > 0 {
			var err error
			if wo.Prelude, err = pxar.Prelude(exclude.Text(e.patterns)); err != nil {
				return nil, err
			}
		}
	}
	e.w = pxar.NewWriter(out.Meta, wo)
	if b := s.o.Base; b != nil {
		e.base = newBase(b.Meta)
		e.ahead = &lookAhead{e: e, index: b.Payload}
	}
	return e, nil
}

// run writes until the walker has ended.
func (e *encoder) run() error {
	for {
		b, err := e.s.next()
		if err != nil {
			return err
		}
		if b == nil {
			return e.finish()
		}
		for i := range b.items {
			if err := e.item(&b.items[i]); err != nil {
				b.abandon()
				return err
			}
		}
		e.s.giveBack(b)
	}
}

// item writes one, or keeps it until it is clear whether contents are taken over.
func (e *encoder) item(it *item) error {
	e.faults(it)
	switch {
	case it.fatal != nil:
		return it.fatal
	case it.step == none:
		return nil
	}
	if it.step == add && it.entry.Kind == pxar.File {
		e.links.met(it)
	}
	if e.ahead != nil {
		return e.ahead.item(it)
	}
	return e.write(it)
}

// faults reports what is known of an item.
func (e *encoder) faults(it *item) {
	for _, p := range it.faults {
		e.report.Problems++
		if e.s.o.Problem != nil {
			e.s.o.Problem(p)
		}
	}
	it.faults = nil
}

// write writes an item with its content.
func (e *encoder) write(it *item) error {
	defer it.closeFile()
	switch it.step {
	case enter:
		return e.enter(it)
	case leave:
		return e.leave()
	case none:
		return nil
	}
	switch {
	case it.entry.Kind != pxar.File:
		return e.add(it)
	case it.target != nil && it.target.offset != 0:
		it.entry = pxar.Entry{Name: it.entry.Name, Kind: pxar.Hardlink, Target: it.target.target(), Link: it.target.offset}
		return e.add(it)
	}
	return e.file(it)
}

func (e *encoder) enter(it *item) error {
	if err := e.w.BeginDir(&it.entry); err != nil {
		return e.refused(it, err)
	}
	e.depth++
	if e.depth == 1 {
		return nil
	}
	e.report.Entries++
	e.report.Directories++
	e.s.o.Counters.Entries.Add(1)
	if e.out.Catalog != nil {
		return e.out.Catalog.StartDir(it.entry.Name)
	}
	return nil
}

func (e *encoder) leave() error {
	e.depth--
	if e.out.Catalog != nil {
		if err := e.out.Catalog.EndDir(); err != nil {
			return err
		}
	}
	return e.w.EndDir()
}

// refused names the entry that cannot be archived. An output that fails has
// nothing to do with the entry.
func (e *encoder) refused(it *item, err error) error {
	if !errors.Is(err, pxar.ErrInvalid) {
		return err
	}
	return fmt.Errorf("%s: %w", shorten(it.path()), err)
}

var catalogKinds = map[pxar.Kind]catalog.Kind{
	pxar.Symlink: catalog.Symlink, pxar.Hardlink: catalog.Hardlink, pxar.CharDevice: catalog.CharDevice,
	pxar.BlockDevice: catalog.BlockDevice, pxar.FIFO: catalog.Fifo, pxar.Socket: catalog.Socket,
}

// add writes an entry without content.
func (e *encoder) add(it *item) error {
	if err := e.w.Add(&it.entry); err != nil {
		return e.refused(it, err)
	}
	if it.entry.Kind == pxar.Hardlink {
		e.report.Hardlinks++
	} else {
		e.report.Others++
	}
	e.counted()
	if e.out.Catalog != nil {
		return e.out.Catalog.Add(catalogKinds[it.entry.Kind], it.entry.Name)
	}
	return nil
}

func (e *encoder) counted() {
	e.report.Entries++
	e.s.o.Counters.Entries.Add(1)
}

// file writes a file with its content.
func (e *encoder) file(it *item) error {
	if it.fd < 0 && it.body == nil && !it.whole { // it was not going to be read, and is after all
		e.again.reopen(nil, it)
		e.faults(it)
		if it.step == none || it.fatal != nil {
			return it.fatal
		}
	}
	if e.out.Payload != nil {
		e.out.Payload.Hint(e.w.PayloadPosition())
	}
	if err := e.content(it); err != nil {
		return err
	}
	return e.wrote(it)
}

// wrote counts a file.
func (e *encoder) wrote(it *item) error {
	if it.first != nil {
		it.first.offset = it.entry.Offset
	}
	e.report.Files++
	e.report.Bytes += it.entry.Size
	e.counted()
	e.s.o.Counters.Bytes.Add(it.entry.Size)
	if e.out.Catalog != nil {
		return e.out.Catalog.File(it.entry.Name, uint64(it.entry.Size), it.entry.Mtime.Sec)
	}
	return nil
}

// content writes entry and content of a file.
func (e *encoder) content(it *item) error {
	if it.whole {
		if err := e.w.AddBytes(&it.entry, it.body); err != nil {
			return e.refused(it, err)
		}
		return nil
	}
	if it.fd < 0 { // read already, and not to its end
		if _, err := e.w.AddFile(&it.entry, fixed(it.body)); err != nil {
			return e.refused(it, err)
		}
		return nil
	}
	c, err := e.w.AddFile(&it.entry, e.s.reading(it.fd))
	if err != nil {
		return e.refused(it, err)
	}
	switch {
	case c.Err != nil && e.s.ctx.Err() != nil:
		return context.Cause(e.s.ctx)
	case c.Err != nil:
		it.fault(Damaged, fmt.Errorf("the last %d bytes: %w", c.Missing, c.Err))
	case c.Missing > 0:
		it.fault(Shrunk, nil)
	case c.Grew:
		it.fault(Grew, nil)
	default:
		it.still(it.fd)
	}
	e.faults(it)
	return nil
}

// finish writes the end of the archive.
func (e *encoder) finish() error {
	if e.ahead != nil {
		if err := e.ahead.flush(false); err != nil {
			return err
		}
		if err := e.ahead.release(); err != nil {
			return err
		}
	}
	if e.out.Payload == nil && len(e.patterns) > 0 {
		text := exclude.Text(e.patterns)
		if err := e.w.AddExcludes(uint32(os.Geteuid()), uint32(os.Getegid()), text); err != nil {
			return err
		}
		if e.out.Catalog != nil {
			if err := e.out.Catalog.File(pxar.ExcludeName, uint64(len(text)), 0); err != nil {
				return err
			}
		}
	}
	if err := e.w.EndDir(); err != nil {
		return err
	}
	return e.w.Close()
}
