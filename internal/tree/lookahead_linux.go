package tree

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// lookAhead collects files whose contents may be taken over, until it is clear
// which chunks of the base hold them and whether these are worth it: what a
// chunk holds besides is padding, and stays in the payload stream for nothing.
//
// Files that follow each other in the base are taken over together. Between two
// such runs the last chunk is held back, for the next run may begin in it.
type lookAhead struct {
	e     *encoder
	index *didx.Index

	list       []awaiting
	set        bool
	start, end int64 // of the run, in the payload stream of the base
	last       int64 // offset of the file that was accepted last
	held       *held
}

// awaiting is an item of a run. Those that are no files with content, directories'
// ends among them, keep their place.
type awaiting struct {
	it  item
	rel int64 // of the file in the run; -1: it has no content to take over
}

// held is a chunk that is put into the stream with the next run, or before
// anything else.
type held struct {
	i    int
	size int64
	used int64 // bytes that files were found in
}

const (
	maxAwaiting = 4096
	maxPadding  = 10 // percent of what is taken over
)

// item writes an item or lets it wait.
func (l *lookAhead) item(it *item) error {
	content := it.step == add && it.entry.Kind == pxar.File && it.target == nil
	switch {
	case !content && len(l.list) == 0:
		return l.e.write(it)
	case !content:
		it.closeFile()
		l.list = append(l.list, awaiting{*it, -1})
	case !it.reuse || !l.accept(it):
		if err := l.flush(false); err != nil {
			return err
		}
		if err := l.release(); err != nil {
			return err
		}
		return l.e.write(it)
	default:
		if err := l.extend(it); err != nil {
			return err
		}
	}
	if len(l.list) >= maxAwaiting {
		return l.flush(true)
	}
	return nil
}

// accept checks that a file's content lies behind that of all before it: the
// references of an archive ascend.
func (l *lookAhead) accept(it *item) bool {
	at, size := it.old.Payload, it.old.Size
	if at <= l.last || size > l.index.Size() || at > l.index.Size()-pxar.HeaderSize-size-1 {
		return false
	}
	l.last = at
	return true
}

// extend adds a file to the run, or begins a new one with it.
func (l *lookAhead) extend(it *item) error {
	at := it.old.Payload
	if l.set && at != l.end {
		if err := l.flush(true); err != nil {
			return err
		}
		l.set = false
	}
	if !l.set {
		l.set, l.start = true, at
	}
	l.end = at + pxar.HeaderSize + it.old.Size
	it.old = nil
	if it.first != nil {
		it.first.waits = true
	}
	l.list = append(l.list, awaiting{*it, at - l.start})
	return nil
}

// flush writes the run. keep is whether the last chunk is held back.
func (l *lookAhead) flush(keep bool) error {
	run, start, end := l.list, l.start, l.end
	l.list, l.start = nil, l.end
	if start == end {
		return l.e.writeAll(run)
	}
	c, err := l.cover(start, end)
	if err != nil {
		return err
	}
	padding := start - c.start + c.end - end
	total := end - start + padding
	same := l.held != nil && l.held.i == c.first
	if same {
		padding -= l.held.used
	}
	if padding > pxar.HeaderSize && padding*100 > total*maxPadding { // a marker is never worth it
		if err := l.release(); err != nil {
			return err
		}
		return l.e.writeAll(run)
	}
	if !same {
		if err := l.release(); err != nil {
			return err
		}
	}
	if err := l.refer(run, l.e.w.PayloadPosition()+start-c.start); err != nil {
		return err
	}
	before := l.held
	l.held = nil
	if !keep {
		return l.inject(c.first, c.last+1)
	}
	l.held = &held{i: c.last, size: c.end - c.lastStart, used: end - max(start, c.lastStart)}
	if same && c.first == c.last {
		l.held.used += before.used
	}
	return l.inject(c.first, c.last)
}

// refer writes the run with references; base is where its start will be.
func (l *lookAhead) refer(run []awaiting, base int64) error {
	for i := range run {
		it, rel := &run[i].it, run[i].rel
		if rel < 0 {
			if err := l.e.write(it); err != nil {
				return err
			}
			continue
		}
		it.entry.Payload = base + rel
		if err := l.e.w.AddReference(&it.entry); err != nil {
			return l.e.refused(it, err)
		}
		l.e.report.ReusedFiles++
		l.e.report.ReusedBytes += it.entry.Size
		if err := l.e.wrote(it); err != nil {
			return err
		}
	}
	return nil
}

// covering is the chunks of the base that a range lies in.
type covering struct {
	first, last int
	start, end  int64 // of all of them
	lastStart   int64
}

// cover finds them. The existing client takes the chunk of the byte behind the
// range, and with that one too many where the range ends with a chunk; then what
// was written between two runs once is read anew every time.
func (l *lookAhead) cover(start, end int64) (c covering, err error) {
	first, rel, ok, err := l.index.Find(start)
	if err == nil && ok {
		c.first, c.start = first, start-rel
		c.last, rel, ok, err = l.index.Find(end - 1)
		c.lastStart = end - 1 - rel
	}
	if err == nil && ok {
		_, c.end, err = l.index.Bounds(c.last)
	}
	if err == nil && !ok {
		err = fmt.Errorf("internal error: bytes %d to %d of %d are taken over", start, end, l.index.Size())
	}
	if err != nil {
		return c, fmt.Errorf("index of the backup before: %w", err)
	}
	return c, nil
}

// release puts the chunk that is held back into the stream.
func (l *lookAhead) release() error {
	h := l.held
	if h == nil {
		return nil
	}
	l.held = nil
	return l.inject(h.i, h.i+1)
}

// injectAtOnce is how many chunks are handed on together.
const injectAtOnce = 1024

// inject puts chunks of the base into the stream, from one up to another.
func (l *lookAhead) inject(from, to int) error {
	for from < to {
		n := min(to-from, injectAtOnce)
		entries := make([]didx.Entry, n)
		if err := l.index.Entries(from, entries); err != nil {
			return fmt.Errorf("index of the backup before: %w", err)
		}
		at, _, err := l.index.Bounds(from)
		if err != nil {
			return fmt.Errorf("index of the backup before: %w", err)
		}
		chunks, size := make([]Chunk, n), int64(0)
		for i, e := range entries {
			chunks[i] = Chunk{e.Digest, int(int64(e.End) - at - size)}
			size += int64(chunks[i].Length)
		}
		if err := l.e.out.Payload.Reuse(l.e.w.PayloadPosition(), chunks); err != nil {
			return err
		}
		if err := l.e.w.Advance(size); err != nil {
			return err
		}
		from += n
	}
	return nil
}
