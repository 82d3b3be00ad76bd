package ui

import (
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// bar is progress for people:
//
//	backup drive.img  [=====>-----]  18 %  1.5 GiB / 8 GiB  310 MiB/s  00:21  1 GiB known
type bar struct {
	group *mpb.Progress
	bar   *mpb.Bar
	unit  Unit

	mu    sync.Mutex
	total int64
	note  string
	ended bool
}

func newBar(o ProgressOptions) *bar {
	b := &bar{unit: o.Unit}
	opts := []mpb.ContainerOption{mpb.WithOutput(o.Out)}
	if o.Force { // draw although the writer is no terminal
		opts = append(opts, mpb.WithAutoRefresh(), mpb.WithWidth(80))
	}
	b.group = mpb.New(opts...)
	figures := []decor.Decorator{decor.Percentage(decor.WC{W: 6})}
	if o.Unit == Bytes {
		figures = append(
			figures,
			decor.CountersKibiByte("  % .1f / % .1f"),
			decor.AverageSpeed(decor.SizeB1024(0), "  % .0f"),
		)
	} else {
		figures = append(figures, decor.CountersNoUnit("  %d / %d"))
	}
	figures = append(
		figures,
		decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8}), ""),
		decor.Any(func(decor.Statistics) string { return b.text() }),
	)
	b.bar = b.group.New(
		0,
		mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding("-").Rbound("]"),
		mpb.PrependDecorators(decor.Name(Clean(o.Title)+"  ")),
		mpb.AppendDecorators(figures...),
	)
	return b
}

func (b *bar) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.note == "" {
		return ""
	}
	return "  " + Clean(b.note)
}

func (b *bar) Update(done, total int64, note string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	b.note = note
	if total > 0 && total != b.total {
		b.total = total
		b.bar.SetTotal(total, false)
	}
	// The bar finishes in Done only, so that the last line is the whole truth.
	if b.total > 0 {
		done = min(done, b.total-1)
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
