package probe

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// measure fills in latencies and rates.
func (p *prober) measure(ctx context.Context) error {
	var puts, gets []time.Duration
	for i := range 9 {
		key := fmt.Sprintf("small/%d", i)
		start := p.opt.Now()
		if _, err := p.put(ctx, key, make([]byte, small), objstore.PutOptions{}); err != nil {
			return err
		}
		written := p.opt.Now()
		if err := objstore.ReadAt(ctx, p.s, p.prefix+key, make([]byte, small), 0); err != nil {
			return err
		}
		puts, gets = append(puts, written.Sub(start)), append(gets, p.opt.Now().Sub(written))
	}
	p.report.PutLatency, p.report.GetLatency = median(puts), median(gets)
	body := make([]byte, p.opt.Large)
	_, _ = rand.Read(body) // it never fails
	start := p.opt.Now()
	if _, err := p.put(ctx, "large", body, objstore.PutOptions{}); err != nil {
		return err
	}
	written := p.opt.Now()
	if err := objstore.ReadAt(ctx, p.s, p.prefix+"large", body, 0); err != nil {
		return err
	}
	p.report.PutRate, p.report.GetRate = rate(len(body), written.Sub(start)), rate(len(body), p.opt.Now().Sub(written))
	return nil
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

func rate(n int, d time.Duration) float64 { return float64(n) / max(d, time.Microsecond).Seconds() }
