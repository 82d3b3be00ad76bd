package server

import (
	"context"
	"time"

	"github.com/holdfast-backup/holdfast/internal/server/stores"
)

// sampler notes figures, for graphs and for the estimate of when datastores are full.
type sampler struct {
	s       *Server
	machine machine // what counters were, apart from those of the calls
	last    time.Time
	in, out float64 // bytes of the network then
}

// sample notes figures every minute until ctx ends, and writes those of graphs down
// every half hour and at the end.
func (s *Server) sample(ctx context.Context) {
	const often, seldom, save = time.Minute, 10, 30
	one := &sampler{s: s}
	for i := 0; ; i++ {
		now := s.now()
		one.node(now)
		one.stores(ctx, now, i%seldom == 0)
		if i%save == save-1 {
			one.save()
		}
		if pause(ctx, often) != nil {
			one.save()
			return
		}
	}
}

func (o *sampler) save() {
	if err := o.s.history.Save(); err != nil {
		o.s.log.Warn("figures of graphs were not written", "error", err)
	}
}

// node notes how the machine is doing, where that is known.
func (o *sampler) node(now time.Time) {
	st, err := o.machine.status()
	if err != nil {
		return
	}
	in, out, err := traffic()
	if err != nil {
		return
	}
	before := o.last
	perSecond := func(bytes, last float64) float64 { return max(0, bytes-last) / now.Sub(before).Seconds() }
	netin, netout := perSecond(in, o.in), perSecond(out, o.out)
	o.last, o.in, o.out = now, in, out
	if before.IsZero() || !now.After(before) {
		return // rates need two looks
	}
	err = o.s.history.Add(nodeSeries, now, map[string]float64{
		"cpu": st.CPU, "iowait": st.Wait, "loadavg": st.Load[0],
		"memtotal": float64(st.Memory.Total), "memused": float64(st.Memory.Used),
		"swaptotal": float64(st.Swap.Total), "swapused": float64(st.Swap.Used),
		"roottotal": float64(st.Root.Total), "rootused": float64(st.Root.Used),
		"netin": netin, "netout": netout,
	})
	if err != nil {
		o.s.log.Debug("how the machine is doing is not noted", "error", err)
	}
}

// soon is how long a datastore may take to say how full it is.
const soon = 10 * time.Second

// stores notes how full the datastores are; estimate says that it is for the estimate
// too.
func (o *sampler) stores(ctx context.Context, now time.Time, estimate bool) {
	s := o.s
	configs, err := s.stores.List()
	if err != nil {
		s.log.Warn("how full datastores are is not noted", "error", err)
		return
	}
	for _, c := range configs {
		if c.BackendType() == stores.S3 && !s.stores.Ready(c.Name) {
			continue // an engine that does not answer must not keep the others waiting
		}
		err := s.using(c.Name, stores.Read, func(h *stores.Handle) error {
			ctx, cancel := context.WithTimeout(ctx, soon)
			defer cancel()
			u, err := h.Usage(ctx)
			if err != nil {
				return err
			}
			err = s.history.Add(storeSeries(c.Name), now, map[string]float64{
				"total": float64(u.Total), "used": float64(u.Used), "available": float64(u.Available),
			})
			if err != nil || !estimate {
				return err
			}
			return s.usage.Add(c.Name, now, u.Used, u.Total)
		})
		if err != nil {
			s.log.Debug("how full a datastore is is not noted", "store", c.Name, "error", err)
		}
	}
}
