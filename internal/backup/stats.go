package backup

import "sync/atomic"

// Count is a number of chunks and the plain bytes in them.
type Count struct {
	Chunks, Bytes int64
}

// Stats counts what happened to slots. Each slot is in exactly one of the four
// counts, so their sum is what is done.
type Stats struct {
	Zero      Count // all zero, by extents or after reading
	Unchanged Count // taken over from the previous index unread
	Known     Count // read, and the repository had the chunk
	Stored    Count // read, encoded and stored

	Read    int64 // bytes read from the source
	Encoded int64 // encoded bytes stored, that of the zero chunk included
}

// Done is the bytes of all slots that have their digest.
func (s Stats) Done() int64 {
	return s.Zero.Bytes + s.Unchanged.Bytes + s.Known.Bytes + s.Stored.Bytes
}

// Add returns the sum of both.
func (s Stats) Add(o Stats) Stats {
	add := func(a, b Count) Count { return Count{a.Chunks + b.Chunks, a.Bytes + b.Bytes} }
	return Stats{
		Zero:      add(s.Zero, o.Zero),
		Unchanged: add(s.Unchanged, o.Unchanged),
		Known:     add(s.Known, o.Known),
		Stored:    add(s.Stored, o.Stored),
		Read:      s.Read + o.Read,
		Encoded:   s.Encoded + o.Encoded,
	}
}

// Counters is a Stats that is being counted. Load may be called at any time,
// for progress; the zero value is ready.
type Counters struct {
	zero, unchanged, known, stored counter
	read, encoded                  atomic.Int64
}

type counter struct{ chunks, bytes atomic.Int64 }

func (c *counter) add(chunks, bytes int64) {
	c.chunks.Add(chunks)
	c.bytes.Add(bytes)
}

func (c *counter) load() Count { return Count{c.chunks.Load(), c.bytes.Load()} }

// Load returns the counts so far.
func (c *Counters) Load() Stats {
	return Stats{
		Zero:      c.zero.load(),
		Unchanged: c.unchanged.load(),
		Known:     c.known.load(),
		Stored:    c.stored.load(),
		Read:      c.read.Load(),
		Encoded:   c.encoded.Load(),
	}
}
