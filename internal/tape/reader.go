package tape

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

// Reader reads one tape file. It uses the drive until it has met the end of the
// file or Close returned, so nobody else may. It is not safe for concurrent
// use.
type Reader struct {
	ring
	present incoming // what is being read
	left    []byte   // what is left of it
	err     error    // what Read answers from now on

	full chan incoming
	quit chan struct{}
	done sync.WaitGroup
	runs bool
	over bool // the memory is gone

	drive Drive  // the goroutine's, while it runs
	spare []byte // where a filemark is read to
	seq   uint32 // of the next block
}

// incoming is a block from the drive.
type incoming struct {
	block      []byte
	payload    []byte
	last       bool
	incomplete bool
	err        error
}

var (
	_ io.ReadCloser = (*Reader)(nil)
	_ io.WriterTo   = (*Reader)(nil)
)

// NewReader begins to read the file at the position of the drive. It fails with
// ErrEndOfData where the data ends, with ErrFilemark for a file without blocks,
// and with ErrForeign for one that is not a backup's.
func NewReader(d Drive) (*Reader, error) {
	ring, err := newRing()
	if err != nil {
		return nil, err
	}
	r := &Reader{ring: ring, drive: d, full: make(chan incoming, RingBlocks), quit: make(chan struct{})}
	r.spare = <-r.free
	first := r.next(<-r.free)
	if first.block == nil {
		r.mem.Free()
		return nil, first.err
	}
	r.present, r.left = first, first.payload
	return r, nil
}

// Read reads on in the file. At its end, which is io.EOF, the drive stands
// behind the filemark. Other ends are ErrIncomplete for a file that was given
// up, ErrAborted for one without a last block, ErrSequence, ErrForeign and
// tapefile.ErrFormat for blocks that do not belong there, and what the drive
// says. All come after what was readable.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !r.more() {
		return 0, r.err
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// WriteTo writes the rest of the file to w, without a copy in between.
func (r *Reader) WriteTo(w io.Writer) (n int64, err error) {
	for r.more() {
		k, err := w.Write(r.left)
		n += int64(k)
		r.left = r.left[k:]
		if err != nil {
			return n, err
		}
	}
	if errors.Is(r.err, io.EOF) {
		return n, nil
	}
	return n, r.err
}

// Close ends reading and frees the memory. Where the end of the file was not
// met, the drive stands anywhere in the file, and has to be moved with Locate.
func (r *Reader) Close() error {
	if r.over {
		return nil
	}
	close(r.quit)
	r.done.Wait()
	r.mem.Free()
	r.over, r.left = true, nil
	if r.err == nil {
		r.err = errors.New("the tape file is closed")
	}
	return nil
}

// more makes sure that something is left to read, or that err says why not.
func (r *Reader) more() bool {
	for len(r.left) == 0 && r.err == nil {
		switch {
		case r.present.err != nil:
			r.err = r.present.err
		case r.present.incomplete:
			r.err = ErrIncomplete
		case r.present.last:
			r.err = io.EOF
		default:
			r.advance()
		}
	}
	return r.err == nil
}

// advance gives the present block back and waits for the next one. Reading
// ahead begins here: who only looks at the first block moves no tape for it.
func (r *Reader) advance() {
	r.free <- r.present.block
	r.present = incoming{}
	if !r.runs {
		r.runs = true
		r.done.Go(r.run)
	}
	r.present = <-r.full
	r.left = r.present.payload
}

// run reads ahead until the file ends.
func (r *Reader) run() {
	for {
		var block []byte
		select {
		case <-r.quit:
			return
		case block = <-r.free:
		}
		in := r.next(block)
		r.full <- in // there is a place for every block
		if in.last || in.err != nil {
			return
		}
	}
}

// next reads a block, and behind the last one the filemark.
func (r *Reader) next(block []byte) incoming {
	n, err := r.drive.ReadBlock(block)
	if err != nil {
		if r.seq > 0 && (errors.Is(err, ErrFilemark) || errors.Is(err, ErrEndOfData)) {
			err = fmt.Errorf("%w: after %d blocks came %w", ErrAborted, r.seq, err)
		} else {
			err = fmt.Errorf("read block %d of the tape file: %w", r.seq, err)
		}
		return incoming{err: err}
	}
	h, err := tapefile.ParseBlock(block[:n])
	switch {
	case errors.Is(err, tapefile.ErrMagic):
		return incoming{err: fmt.Errorf("block %d of the tape file is %w: %w", r.seq, ErrForeign, err)}
	case err != nil:
		return incoming{err: fmt.Errorf("block %d of the tape file: %w", r.seq, err)}
	case h.Seq != r.seq:
		return incoming{err: fmt.Errorf("%w in the tape file: number %d came where %d belongs", ErrSequence, h.Seq, r.seq)}
	}
	r.seq++
	in := incoming{block: block, payload: room(block)[:h.Size], last: h.Last, incomplete: h.Incomplete}
	if h.Last {
		in.err = r.mark()
	}
	return in
}

// mark reads the filemark behind the last block. That it is missing at the end
// of the data is no damage: whoever appends writes it.
func (r *Reader) mark() error {
	_, err := r.drive.ReadBlock(r.spare)
	switch {
	case err == nil:
		return fmt.Errorf("%w: a block came behind the last one", ErrSequence)
	case errors.Is(err, ErrFilemark), errors.Is(err, ErrEndOfData):
		return nil
	}
	return fmt.Errorf("read the filemark of the tape file: %w", err)
}
