package nbdserver

import "sync/atomic"

// Stats is what a server has done so far.
type Stats struct {
	Connections int   // now
	Accepted    int64 // connections ever
	Refused     int64 // connections above the limit
	Exports     []ExportStats
}

// ExportStats is what an export has done so far.
type ExportStats struct {
	Name        string
	Connections int64 // now, past the handshake
	Opened      int64 // ever

	Reads, Writes, Flushes, Trims, Zeroes, Caches, Statuses int64 // requests
	Failures                                                int64 // requests of all kinds that were answered with an error

	BytesRead, BytesWritten int64
}

type counters struct {
	now, ever                                               atomic.Int64
	reads, writes, flushes, trims, zeroes, caches, statuses atomic.Int64
	failures                                                atomic.Int64
	readBytes, written                                      atomic.Int64
}

func (c *counters) opened() { c.now.Add(1); c.ever.Add(1) }
func (c *counters) closed() { c.now.Add(-1) }
func (c *counters) failed() { c.failures.Add(1) }
func (c *counters) read(n int) {
	c.reads.Add(1)
	c.readBytes.Add(int64(n))
}

// Stats counts. Exports that only ServeTransmission has seen come last.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Connections: len(s.conns), Accepted: s.accepted, Refused: s.refused}
	for _, x := range s.exports {
		st.Exports = append(st.Exports, x.stats())
	}
	for _, x := range s.hidden {
		st.Exports = append(st.Exports, x.stats())
	}
	return st
}

func (x *export) stats() ExportStats {
	c := &x.count
	return ExportStats{
		Name: x.Name, Connections: c.now.Load(), Opened: c.ever.Load(),
		Reads: c.reads.Load(), Writes: c.writes.Load(), Flushes: c.flushes.Load(), Trims: c.trims.Load(),
		Zeroes: c.zeroes.Load(), Caches: c.caches.Load(), Statuses: c.statuses.Load(), Failures: c.failures.Load(),
		BytesRead: c.readBytes.Load(), BytesWritten: c.written.Load(),
	}
}
