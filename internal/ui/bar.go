package ui

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// bar is progress for people:
//
//	backup vm/100  [=====>-----]  18 %  1.5 GiB of 8 GiB  310 MiB/s  0:21 left  1 GiB known
//
// The library draws; the figures are ours, so that they look as elsewhere.
type bar struct {
	group *mpb.Progress
	bar   *mpb.Bar
	unit  Unit
	now   func() time.Time
	start time.Time

	mu          sync.Mutex
	done, total int64
	note        string
	ended       bool
}

func newBar(o ProgressOptions) *bar {
	b := &bar{unit: o.Unit, now: o.Now}
	if b.now == nil {
		b.now = time.Now
	}
	b.start = b.now()
	opts := []mpb.ContainerOption{mpb.WithOutput(o.Out)}
	if o.Force { // draw although the writer may be no terminal
		opts = append(opts, mpb.WithAutoRefresh())
		if !IsTerminal(o.Out) {
			opts = append(opts, mpb.WithWidth(120))
		}
	}
	b.group = mpb.New(opts...)
	b.bar = b.group.New(
		0,
		mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding("-").Rbound("]"),
		mpb.PrependDecorators(decor.Name(Clean(o.Title)+"  ")),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return b.figures() })),
	)
	return b
}

func (b *bar) figures() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	parts := []string{count(b.unit, b.done)}
	if b.unit == Bytes {
		parts[0] = Rough(b.done)
	}
	span := b.now().Sub(b.start)
	if b.total > 0 {
		of := count(b.unit, b.total)
		if b.unit == Bytes {
			of = Rough(b.total)
		}
		parts = []string{fmt.Sprintf("%3d %%", b.done*100/b.total), parts[0] + " of " + of}
	}
	if b.unit == Bytes {
		parts = append(parts, Rate(b.done, span))
	} else if b.note != "" {
		parts[len(parts)-1] += " " + Clean(b.note)
	}
	if b.total > 0 && b.done > 0 && b.done < b.total {
		left := time.Duration(float64(span) / float64(b.done) * float64(b.total-b.done))
		parts = append(parts, Clock(left)+" left")
	}
	if b.unit == Bytes && b.note != "" {
		parts = append(parts, Clean(b.note))
	}
	return "  " + strings.Join(parts, "  ")
}

// Update must not hold the lock while it talks to the library, whose goroutine
// takes it to ask for the figures.
func (b *bar) Update(done, total int64, note string) {
	b.mu.Lock()
	if b.ended {
		b.mu.Unlock()
		return
	}
	fresh := total > 0 && total != b.total
	if fresh {
		b.total = total
	}
	b.done, b.note = done, note
	// The bar finishes in Done only, so that the last line is the whole truth.
	if b.total > 0 {
		done = min(done, b.total-1)
	}
	b.mu.Unlock()
	if fresh {
		b.bar.SetTotal(total, false)
	}
	b.bar.SetCurrent(max(done, 0))
}

func (b *bar) Done(ok bool) {
	b.mu.Lock()
	if b.ended {
		b.mu.Unlock()
		return
	}
	b.ended = true
	b.mu.Unlock()
	if ok {
		b.bar.SetTotal(-1, true)
	} else {
		b.bar.Abort(false)
	}
	b.group.Wait()
}
