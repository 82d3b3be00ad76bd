package tape

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

// AtEnd says what becomes of a file that does not fit on the medium.
type AtEnd int

const (
	GiveUp AtEnd = iota // it is marked as incomplete, and has to be written again
	Cut                 // it ends early, and its readers see that from what it holds
)

// Writer writes one tape file. It uses the drive until Finish or Close
// returned, so nobody else may. It is not safe for concurrent use.
type Writer struct {
	ring
	atEnd AtEnd
	cur   []byte // the block that is being filled, or nil
	fill  int    // bytes of payload in it
	short bool   // data was refused
	sent  chan outgoing
	done  sync.WaitGroup
	ended error // what Finish answered; nil before
	isEnd bool

	drive   Drive         // from here on: the goroutine's
	seq     uint32        // of the next block
	dropped bool          // data that came after the early warning
	err     error         // what stopped it
	stop    chan struct{} // closed when nothing more is taken
	stopped bool

	early   atomic.Bool
	written atomic.Int64
}

// outgoing is a block on its way to the drive.
type outgoing struct {
	block            []byte
	size             int
	last, incomplete bool
}

var (
	_ io.WriteCloser = (*Writer)(nil)
	_ io.ReaderFrom  = (*Writer)(nil)
)

// NewWriter begins a tape file at the position of the drive, which must be
// behind a filemark or at the beginning.
func NewWriter(d Drive, atEnd AtEnd) (*Writer, error) {
	r, err := newRing()
	if err != nil {
		return nil, err
	}
	w := &Writer{ring: r, atEnd: atEnd, drive: d, sent: make(chan outgoing, RingBlocks), stop: make(chan struct{})}
	w.done.Go(w.run)
	return w, nil
}

// Write adds to the file. After the early warning it takes nothing more and
// returns ErrEarly; what it took before is on the tape only as far as Written
// says.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if err := w.ready(); err != nil {
			return n, err
		}
		k := copy(room(w.cur)[w.fill:], p)
		w.filled(k)
		n, p = n+k, p[k:]
	}
	return n, nil
}

// ReadFrom adds what r holds to the file, without a copy in between.
func (w *Writer) ReadFrom(r io.Reader) (n int64, err error) {
	for {
		if err := w.ready(); err != nil {
			return n, err
		}
		k, err := r.Read(room(w.cur)[w.fill:])
		w.filled(k)
		n += int64(k)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// Early reports whether the drive has told that the end of the medium is near.
func (w *Writer) Early() bool { return w.early.Load() }

// Written is how many bytes of the stream the drive has taken. After Finish it
// is what the file holds.
func (w *Writer) Written() int64 { return w.written.Load() }

// Finish writes the last block and the filemark and frees the memory.
// incomplete marks the file as given up. A file of which data did not fit on
// the medium is given up with ErrEarly, unless it may be Cut. After an error of
// the drive nothing more is written: the file has no last block then. Finish
// does not wait until the data is on the medium; see [Drive.Sync].
func (w *Writer) Finish(incomplete bool) error {
	if w.isEnd {
		return w.ended
	}
	if w.cur == nil {
		w.cur = <-w.free // blocks come back whatever happens
	}
	w.sent <- outgoing{w.cur, w.fill, true, incomplete || w.short && w.atEnd == GiveUp}
	close(w.sent)
	w.done.Wait()
	w.mem.Free()
	w.isEnd, w.cur, w.ended = true, nil, w.err
	if w.err == nil && (w.dropped || w.short) && w.atEnd == GiveUp {
		w.ended = ErrEarly
	}
	return w.ended
}

// Close gives the file up if it was not finished.
func (w *Writer) Close() error {
	if w.isEnd {
		return nil
	}
	return w.Finish(true)
}

// ready makes sure that there is a block with room, or says why there is none.
func (w *Writer) ready() error {
	if w.isEnd {
		return errors.New("the tape file is finished")
	}
	select {
	case <-w.stop:
		return w.why()
	default:
	}
	if w.cur != nil {
		return nil
	}
	select {
	case w.cur = <-w.free:
		return nil
	case <-w.stop:
		return w.why()
	}
}

// why is what ended the stream, after stop was closed: data is refused.
func (w *Writer) why() error {
	w.short = true
	if w.err != nil {
		return w.err
	}
	return ErrEarly
}

// filled takes account of k more bytes in the present block.
func (w *Writer) filled(k int) {
	if w.fill += k; w.fill == tapefile.PayloadSize {
		w.sent <- outgoing{block: w.cur, size: w.fill}
		w.cur, w.fill = nil, 0
	}
}

// run carries blocks to the drive until the stream ends.
func (w *Writer) run() {
	for o := range w.sent {
		if !w.stopped || o.last {
			w.put(o)
		} else {
			w.dropped = true
		}
		w.free <- o.block
	}
}

// put writes one block, and behind the last one the filemark.
func (w *Writer) put(o outgoing) {
	if w.err != nil {
		return
	}
	h := tapefile.BlockHeader{Size: o.size, Seq: w.seq, Last: o.last}
	if o.last {
		if w.dropped {
			h.Size = 0 // what came before it is missing
		}
		h.Incomplete = o.incomplete || w.dropped && w.atEnd == GiveUp
	}
	h.Put(o.block)
	early, err := w.drive.WriteBlock(o.block)
	if err != nil {
		w.failed(fmt.Errorf("write block %d of the tape file: %w", w.seq, err))
		return
	}
	w.seq++
	w.written.Add(int64(h.Size))
	if o.last {
		var atMark bool
		atMark, err = w.drive.WriteFilemark()
		early = early || atMark
	}
	if err != nil {
		w.failed(fmt.Errorf("write the filemark of the tape file: %w", err))
		return
	}
	if early {
		w.early.Store(true)
		w.halt()
	}
}

func (w *Writer) failed(err error) {
	w.err = err
	w.halt()
}

// halt makes the stream take nothing more.
func (w *Writer) halt() {
	if !w.stopped {
		w.stopped = true
		close(w.stop)
	}
}
