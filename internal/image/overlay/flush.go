package overlay

import "fmt"

// commit is one flush for all who asked for it before it began.
type commit struct {
	done chan struct{}
	err  error
}

// Flush makes everything durable whose call returned before Flush was called.
// It may fail for lack of space for the map and work later; see the package
// comment for the failure that stays.
func (o *Overlay) Flush() error {
	if err := o.enter("flush"); err != nil {
		return err
	}
	defer o.leave()
	return o.flush()
}

// flush lets the first who asks do the work for all who ask until it begins.
func (o *Overlay) flush() error {
	o.mu.Lock()
	c := o.next
	if c != nil {
		o.mu.Unlock()
		<-c.done
		return c.err
	}
	c = &commit{done: make(chan struct{})}
	o.next = c
	o.mu.Unlock()

	o.turn <- struct{}{}
	defer func() { <-o.turn }()
	o.mu.Lock()
	o.next = nil // who comes from now on needs another one
	o.mu.Unlock()
	defer close(c.done)
	c.err = o.flushNow()
	return c.err
}

// flushNow makes the data durable, then the pages that name it. The pages are
// copied first: what they name was written before, and what is written
// meanwhile is the next flush's.
func (o *Overlay) flushNow() error {
	if err := o.broken.Load(); err != nil {
		return *err
	}
	pages := o.m.updates()
	if o.wrote.Swap(false) {
		if err := o.file.Sync(); err != nil {
			return o.fail(err)
		}
	}
	if len(pages) == 0 {
		return nil
	}
	if err := o.m.write(pages); err != nil {
		return o.errorf("flush", err) // only slots that do not hold were touched
	}
	if err := o.file.Sync(); err != nil {
		return o.fail(err)
	}
	o.m.durable(pages)
	return nil
}

// fail notes the failure after which nothing can be promised.
func (o *Overlay) fail(err error) error {
	err = fmt.Errorf("%w: sync %s: %w: what was written since the last flush may be lost; find out what is wrong with the disk, then open the overlay again",
		ErrBroken, o.path, err)
	o.broken.CompareAndSwap(nil, &err)
	return *o.broken.Load()
}
