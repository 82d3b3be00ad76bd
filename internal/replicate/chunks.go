package replicate

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// chunks brings the chunks of an archive to the target. each calls its function
// with every chunk in order.
func (c *copying) chunks(ctx context.Context, f manifest.File, each func(func(d digest.Digest, size int64) error) error) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(c.run.Workers)
	encrypted := f.CryptMode == manifest.ModeEncrypt
	begin := func(k chunk) { eg.Go(func() error { return c.chunk(ctx, k) }) }
	queue := newQueue(c.snap, begin)
	var stop error // not the fault of the index
	err := each(func(d digest.Digest, size int64) error {
		if stop = context.Cause(ctx); stop != nil {
			return stop
		}
		if size < 1 || size > blob.MaxChunk {
			return wrong(f, fmt.Errorf("chunk %s of %d bytes", d, size))
		}
		var known bool
		if known, stop = c.isKnown(d); stop != nil {
			return stop
		}
		if known {
			c.run.count.known.Add(1)
			return nil
		}
		queue.add(chunk{d, int(size), encrypted})
		return nil
	})
	if err == nil {
		queue.flush()
	}
	werr := eg.Wait()
	switch {
	case werr != nil: // the first thing that went wrong
		return werr
	case stop != nil:
		return stop
	}
	return atSource(err)
}

// isKnown reports whether the target has a chunk, or will have it when this archive
// is there. It notes the chunk.
func (c *copying) isKnown(d digest.Digest) (bool, error) {
	if _, ok := c.seen[d]; ok {
		return true, nil
	}
	known, err := c.known.Has(d)
	if err == nil && len(c.seen) < maxSeen {
		c.seen[d] = struct{}{}
	}
	return known, err
}

// chunk is one that the target may lack.
type chunk struct {
	digest    digest.Digest
	size      int // plain bytes
	encrypted bool
}

// chunk copies one chunk unless the target has it.
func (c *copying) chunk(ctx context.Context, k chunk) error {
	s, err := c.run.slots.get(ctx)
	if err != nil {
		return err
	}
	defer c.run.slots.put(s)
	has, err := c.ses.Has(ctx, k.digest)
	if err != nil {
		return err
	}
	if has {
		c.run.count.known.Add(1)
		return nil
	}
	raw, err := c.snap.ReadChunk(ctx, k.digest, s.raw)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return atSource(err)
	}
	s.raw = raw[:0]
	if err := s.check(raw, k); err != nil {
		return atSource(&repo.CorruptError{What: "chunk " + k.digest.String(), Err: err})
	}
	if err := c.run.Rate.Wait(ctx, len(raw)); err != nil {
		return err
	}
	if _, err := c.ses.Put(ctx, k.digest, k.size, raw); err != nil {
		return err
	}
	c.run.count.chunks.Add(1)
	c.run.count.bytes.Add(int64(len(raw)))
	c.run.progress()
	return nil
}

// slot is what copying one chunk needs.
type slot struct {
	raw, plain []byte
	dec        *blob.Decoder
}

// check compares a chunk with what the index and the manifest say of it.
func (s *slot) check(raw []byte, k chunk) error {
	h, err := blob.Check(raw)
	switch {
	case err != nil:
		return err
	case h.Kind.Encrypted() && !k.encrypted:
		return errors.New("it is encrypted, and the archive is not")
	case !h.Kind.Encrypted() && k.encrypted:
		return errors.New("it is not encrypted, and the archive is")
	case len(raw) > blob.MaxEncoded(blob.MaxChunk):
		return fmt.Errorf("it has %d bytes", len(raw))
	case k.encrypted:
		return nil // the rest is for who has the key
	}
	if cap(s.plain) < k.size {
		s.plain = make([]byte, 0, k.size)
	}
	plain, err := s.dec.Append(s.plain[:0], raw, k.size)
	if err != nil {
		return err
	}
	s.plain = plain[:0]
	if len(plain) != k.size {
		return fmt.Errorf("it holds %d bytes, the index says %d", len(plain), k.size)
	}
	if d := digest.Of(plain); d != k.digest {
		return fmt.Errorf("its content has digest %s", d)
	}
	return nil
}

// slots bounds how many chunks are in memory.
type slots struct{ free chan *slot }

func newSlots(n int) *slots {
	s := &slots{make(chan *slot, n)}
	for range n {
		s.free <- &slot{}
	}
	return s
}

// get waits for a slot.
func (s *slots) get(ctx context.Context) (*slot, error) {
	select {
	case one := <-s.free:
		if one.dec != nil {
			return one, nil
		}
		var err error
		if one.dec, err = blob.NewDecoder(nil); err != nil {
			s.free <- one
			return nil, err
		}
		return one, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s *slots) put(one *slot) { s.free <- one }

// close frees the decoders, when nobody has a slot any more.
func (s *slots) close() {
	for range cap(s.free) {
		if one := <-s.free; one.dec != nil {
			one.dec.Close()
		}
	}
}
