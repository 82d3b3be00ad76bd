package archive

import "sync/atomic"

// Stats counts what an image did. A read of several chunks counts as one read
// and as several hits or misses.
type Stats struct {
	Reads, Bytes int64 // answered, whole or up to the end
	Errors       int64 // reads that failed
	Zeros        int64 // parts known to be zero by their digest
	Hits         int64 // parts found decoded
	Shared       int64 // parts whose chunk was on its way
	Misses       int64 // parts that had to fetch their chunk
	Fetched      int64 // chunks fetched and proven, for reads or ahead of them
	Encoded      int64 // bytes of these as they are stored
	Failed       int64 // chunks that could not be fetched
	Ahead        int64 // chunks of Fetched that nobody waited for
	AheadUsed    int64 // of these, those that a read asked for later
	AheadWasted  int64 // of these, those that went unused
}

// origin is who fetched a chunk, for the counters. It outlives the image, which
// an entry of a shared cache would keep in memory.
type origin struct {
	done, encoded, failed, ahead, used, wasted atomic.Int64
}

func (o *origin) fetched(encoded int, err error) {
	if err != nil {
		o.failed.Add(1)
		return
	}
	o.done.Add(1)
	o.encoded.Add(int64(encoded))
}

// counters of reads are many, so that readers do not meet.
type counters [8]struct {
	reads, bytes, errors, zeros, hits, shared, misses atomic.Int64
	_                                                 [8]byte // a cache line
}

// Stats returns the counters.
func (u *user) Stats() Stats {
	s := Stats{
		Fetched: u.from.done.Load(), Encoded: u.from.encoded.Load(), Failed: u.from.failed.Load(),
		Ahead: u.from.ahead.Load(), AheadUsed: u.from.used.Load(), AheadWasted: u.from.wasted.Load(),
	}
	for k := range u.count {
		c := &u.count[k]
		s.Reads += c.reads.Load()
		s.Bytes += c.bytes.Load()
		s.Errors += c.errors.Load()
		s.Zeros += c.zeros.Load()
		s.Hits += c.hits.Load()
		s.Shared += c.shared.Load()
		s.Misses += c.misses.Load()
	}
	return s
}
