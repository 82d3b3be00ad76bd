package archive

// streams finds sequential readers among all reads of an image. It only
// decides; the caller locks.
//
// Reads that touch each other, in any order, grow to a run. A run that is long
// enough is a stream: from then on reads near its end belong to it, because
// copiers have many requests on their way and leave out what they know to be
// zero. A stream whose reads become sparse, or come again and again, was none.
type streams struct {
	chunk int64
	zero  func(slot int) bool // known to be zero, without looking far
	now   int64
	list  [maxRuns]stream
}

const (
	maxRuns    = 16 // runs and streams
	maxStreams = 8
	near       = 4 // chunks before its end that belong to a stream
	behind     = 8 // chunks behind it that do: what was asked for long ago
	minJoins   = 3
	idle       = 256 // reads of others after which a stream has no claim to room
)

// stream is a run of reads.
type stream struct {
	start, next int64 // bytes; at start nothing is missing before next
	joins       int
	live        bool  // it is a stream
	used        int64 // when it was read last

	mark, bytes int64 // bytes read since the end was at mark

	window  int   // slots to be fetched ahead
	issued  int   // slots before this one were looked at
	told    int   // slots before this one were announced to the snapshot
	claimed []int // slots fetched ahead that the reader has not reached
}

// observe notes a read and returns the stream that it belongs to, nil if none.
func (s *streams) observe(off, n int64) *stream {
	s.now++
	end := off + n
	for k := range s.list {
		t := &s.list[k]
		if t.live && off >= t.next-behind*s.chunk && off <= max(t.next+near*s.chunk, int64(t.issued)*s.chunk) {
			return s.follow(t, off, end)
		}
	}
	for k := range s.list {
		t := &s.list[k]
		switch {
		case t.live || t.used == 0:
			continue
		case t.next == end && t.start <= off:
			t.used = s.now // the same again
			return nil
		case t.next == off:
			t.next = end
		case t.start == end:
			t.start = off
		default:
			continue
		}
		t.joins++
		t.used = s.now
		s.merge(t)
		return s.confirm(t, n)
	}
	*s.oldest(false) = stream{start: off, next: end, used: s.now}
	return nil
}

// merge joins another run that t has come to touch.
func (s *streams) merge(t *stream) {
	for k := range s.list {
		o := &s.list[k]
		if o == t || o.live || o.used == 0 || o.start != t.next && o.next != t.start {
			continue
		}
		t.start, t.next = min(t.start, o.start), max(t.next, o.next)
		t.joins += o.joins + 1
		*o = stream{}
	}
}

// confirm makes a stream of a run that is long enough.
func (s *streams) confirm(t *stream, n int64) *stream {
	long := t.next - t.start
	switch {
	case long < s.chunk/2:
		return nil
	case t.joins < minJoins && n < s.chunk/4:
		return nil
	}
	live := 0
	for k := range s.list {
		if s.list[k].live {
			live++
		}
	}
	if live == maxStreams {
		*s.oldest(true) = stream{}
	}
	t.live, t.window = true, 1
	t.mark, t.bytes = t.next, 0
	t.issued = int((t.next-1)/s.chunk) + 1
	return t
}

// follow lets a stream have a read. Reads that leave out too much end it.
func (s *streams) follow(t *stream, off, end int64) *stream {
	t.used = s.now
	t.bytes += end - off
	for slot := (t.next + s.chunk - 1) / s.chunk; (slot+1)*s.chunk <= off; slot++ {
		if s.zero(int(slot)) {
			t.mark += s.chunk // nobody need read it
		}
	}
	t.next = max(t.next, end)
	gone := t.next - t.mark
	again := t.bytes > 2*(gone+(behind+near)*s.chunk)
	if again || gone >= 2*s.chunk && t.bytes*4 < gone {
		*t = stream{}
		return nil
	}
	if gone >= 2*s.chunk {
		t.mark, t.bytes = t.next, 0
	}
	at := int((t.next - 1) / s.chunk)
	t.issued = max(t.issued, at+1)
	keep := t.claimed[:0]
	for _, slot := range t.claimed {
		if slot > at {
			keep = append(keep, slot)
		}
	}
	t.claimed = keep
	return t
}

// oldest returns the run, or the stream, that was read least recently.
func (s *streams) oldest(live bool) *stream {
	var o *stream
	for k := range s.list {
		t := &s.list[k]
		if (t.live == live) && (o == nil || t.used < o.used) {
			o = t
		}
	}
	return o // there are more places than streams
}

// active reports a stream that was read from lately, among all reads.
func (s *streams) active(t *stream) bool { return t.live && s.now-t.used <= idle }

// late says that a reader had to wait: a wider window may spare him that.
func (t *stream) late() { t.window = min(2*t.window, maxWindow) }

// narrow makes windows smaller, for what was fetched went unused.
func (s *streams) narrow() {
	for k := range s.list {
		s.list[k].window = max(1, s.list[k].window/2)
	}
}

const maxWindow = 64
