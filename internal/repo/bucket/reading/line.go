package reading

import "slices"

// start begins the dispatcher, once.
func (a *ahead) start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.running && !a.over {
		a.running = true
		a.wg.Go(a.dispatch)
	}
}

// poke lets the dispatcher look for something to do.
func (a *ahead) poke() {
	select {
	case a.work <- struct{}{}:
	default:
	}
}

// dispatch begins requests until the snapshot is closed.
func (a *ahead) dispatch() {
	if _, err := a.p.Map(a.p.ctx); err != nil {
		a.giveUpLine() // who asks will be told
	}
	for {
		select {
		case <-a.work:
		case <-a.p.ctx.Done():
			return
		}
		for a.next() {
		}
	}
}

// next begins one request, if there is one to begin.
func (a *ahead) next() bool {
	a.mu.Lock()
	some := a.unplaced()
	a.mu.Unlock()
	a.place(some)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over || len(a.line) == 0 {
		return false
	}
	first := a.first()
	if first == nil || !first.placed {
		return first != nil
	}
	waiting := a.waiting()
	if !first.urgent && !a.now(first, waiting) {
		a.dropWrong()
		return false
	}
	a.begin(a.group(first, waiting))
	return true
}

// waiting is how many bytes of the line come next, as far as that is known.
func (a *ahead) waiting() (n int64) {
	for _, it := range a.line[:min(len(a.line), lookFar)] {
		n += int64(it.at.Len)
	}
	return n
}

// now reports whether to begin something for which nobody waits. When enough is on
// its way, half of what was announced is left in the line, where it can become
// one request with what comes behind it; less, while readers have to wait.
func (a *ahead) now(first *item, waiting int64) bool {
	part := int64(2)
	if a.span < maxSpan {
		part = 4
	}
	return a.flying < a.requests &&
		(a.held == 0 || a.held+int64(first.at.Len) <= a.p.opt.Budget) &&
		(a.held < enough || waiting >= (a.held+waiting)/part)
}

// first is the item that is begun next: who waits goes first.
func (a *ahead) first() *item {
	if i := slices.IndexFunc(a.line, func(it *item) bool { return it.urgent }); i >= 0 {
		return a.line[i]
	}
	return a.line[0]
}

// lookFar is how many chunks of the line are considered for one request.
const lookFar = 1024

// unplaced are items of which the place is not known yet, among those that come next.
func (a *ahead) unplaced() (some []*item) {
	if len(a.line) == 0 {
		return nil
	}
	if f := a.first(); !f.placed {
		some = append(some, f)
	}
	for _, it := range a.line[:min(len(a.line), lookFar)] {
		if !it.placed && !it.urgent {
			some = append(some, it)
		}
	}
	return some
}

// place looks up where chunks lie. What cannot be found leaves the line: who reads it
// will be told.
func (a *ahead) place(some []*item) {
	if len(some) == 0 {
		return
	}
	state := a.p.opt.Seen()
	for _, it := range some {
		l, err := a.p.locate(a.p.ctx, state, it.name)
		a.mu.Lock()
		i := slices.Index(a.line, it)
		switch {
		case i < 0:
		case err != nil:
			a.line = slices.Delete(a.line, i, i+1)
			a.forget(it)
			it.err = err
			close(it.done)
		default:
			it.at, it.placed = l, true
		}
		a.mu.Unlock()
	}
}

func (a *ahead) giveUpLine() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, it := range a.line {
		a.forget(it)
		a.giveUp(it)
	}
	a.line = nil
}
