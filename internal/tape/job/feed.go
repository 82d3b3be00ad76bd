package job

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
)

// spoolSize bounds the chunks that were read and are not on their way to the
// drive yet. With the ring of a tape file that is all the memory of a backup
// that grows with the data.
const spoolSize = 80 << 20

// wanted is a chunk to be read.
type wanted struct {
	digest digest.Digest
	size   int // of its plain data, bytes
}

// feed reads chunks ahead of the drive.
type feed struct {
	read    func(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error)
	ahead   func(ds []digest.Digest) // says what will be read soon; may be nil
	readers int
	spool   *spool
}

// order is a chunk on its way: wanted, read, written.
type order struct {
	wanted
	piece piece
	raw   []byte // in the piece, unless the chunk is longer than it says
	err   error
	done  chan struct{}
}

// run calls emit with the chunks that each yields, in this order, while the
// following ones are read. raw is valid during the call. A chunk that cannot be
// read is emitted with its error: whether that ends the run is for emit to say.
func (f *feed) run(ctx context.Context, each func(yield func(wanted) error) error, emit func(w wanted, raw []byte, err error) error) error {
	defer f.spool.reset()
	eg, ctx := errgroup.WithContext(ctx)
	depth := 4 * f.readers // orders that wait: their chunks are in the spool or will be
	todo, queue := make(chan *order, depth), make(chan *order, depth)
	eg.Go(func() error {
		defer close(todo)
		defer close(queue)
		return each(func(w wanted) error {
			p, err := f.spool.take(ctx, w.size+blob.EncryptedHeaderSize)
			if err != nil {
				return err
			}
			if f.ahead != nil {
				f.ahead([]digest.Digest{w.digest})
			}
			o := &order{wanted: w, piece: p, done: make(chan struct{})}
			for _, c := range []chan *order{queue, todo} {
				select {
				case c <- o:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		})
	})
	for range f.readers {
		eg.Go(func() error {
			for o := range todo {
				o.raw, o.err = f.read(ctx, o.digest, o.piece.mem[:0])
				close(o.done)
			}
			return nil
		})
	}
	eg.Go(func() error {
		for o := range queue {
			select {
			case <-o.done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			err := emit(o.wanted, o.raw, o.err)
			f.spool.give(o.piece)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return eg.Wait()
}
