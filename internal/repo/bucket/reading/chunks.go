package reading

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/lookup"
)

// ReadChunk appends the encoded chunk to buf[:0], not yet checked.
func (p *Snapshot) ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	it, err := p.ahead.claim(ctx, d)
	if err != nil {
		return buf[:0], err
	}
	if it != nil {
		defer p.ahead.drop(it)
		return append(buf[:0], it.raw...), nil
	}
	raw, err := p.chunk(ctx, d, func(size int) ([]byte, error) {
		if cap(buf) < size {
			buf = make([]byte, size)
		}
		return buf[:size], nil
	})
	if err != nil {
		return buf[:0], err
	}
	return raw, nil
}

// LendChunk returns the encoded chunk, not yet checked, where it lies. It is the
// caller's until back is called, which must be before Close.
func (p *Snapshot) LendChunk(ctx context.Context, d digest.Digest) (raw []byte, back func(), err error) {
	it, err := p.ahead.claim(ctx, d)
	if err != nil {
		return nil, nil, err
	}
	if it == nil {
		it = &item{name: d, done: make(chan struct{})}
		close(it.done) // it is nobody else's
		it.raw, err = p.chunk(ctx, d, func(size int) ([]byte, error) { return p.ahead.room(it, size) })
		if err != nil {
			p.ahead.drop(it)
			return nil, nil, err
		}
	}
	return it.raw, func() { p.ahead.drop(it) }, nil
}

// OpenChunk opens the encoded chunk, unchecked, for whoever passes it on.
func (p *Snapshot) OpenChunk(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	raw, back, err := p.LendChunk(ctx, d)
	if err != nil {
		return nil, 0, err
	}
	return lent{bytes.NewReader(raw), back}, int64(len(raw)), nil
}

type lent struct {
	io.Reader
	back func()
}

func (l lent) Close() error {
	l.back()
	return nil
}

// Prefetch says that these chunks will be read soon, in this order.
func (p *Snapshot) Prefetch(ds []digest.Digest) { p.ahead.announce(ds) }

// Distance is how far ahead Prefetch wants to be called.
func (p *Snapshot) Distance() (chunks int, bytes int64) { return maxLine / 4, p.opt.Budget * 4 / 3 }

// Locate says where a chunk lies, as the newest state that was seen has it; as it is now, where
// a list of moved chunks that the other one names is gone.
func (p *Snapshot) Locate(ctx context.Context, d digest.Digest) (pack.Location, error) {
	l, err := p.locate(ctx, p.opt.Seen(), d)
	if !errors.Is(err, objstore.ErrNotFound) {
		return l, err
	}
	state, err := p.opt.Refresh(ctx)
	if err != nil {
		return pack.Location{}, err
	}
	return p.locate(ctx, state, d)
}

// chunk reads a chunk to where place says, which is asked when its size is known. That one of
// a snapshot which was removed is not there says nothing of the chunk.
func (p *Snapshot) chunk(ctx context.Context, d digest.Digest, place func(size int) ([]byte, error)) ([]byte, error) {
	raw, err := p.seek(ctx, d, place)
	if !p.listed || !errors.Is(err, repo.ErrChunkMissing) {
		return raw, err
	}
	if gone := p.removed(p.opt.Seen(), "chunk "+d.String()); gone != nil { // the state is new
		return nil, gone
	}
	return nil, err
}

// seek reads a chunk; again, if it turns out to be elsewhere.
func (p *Snapshot) seek(ctx context.Context, d digest.Digest, place func(size int) ([]byte, error)) ([]byte, error) {
	var before pack.Location
	state, fresh, which := p.opt.Seen(), false, lookup.Gone
	for {
		l, err := p.follow(ctx, state, d, which)
		if err == nil && l == before {
			return nil, fmt.Errorf("%w: %s: pack %s, in which it should be, is not there", repo.ErrChunkMissing, d, l.Pack)
		}
		var raw []byte
		if err == nil {
			raw, err = p.fetch(ctx, d, l, place)
		}
		switch {
		case err == nil:
			return raw, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !errors.Is(err, objstore.ErrNotFound) && !errors.Is(err, repo.ErrChunkMissing):
			return nil, fmt.Errorf("read chunk %s: %w", d, err)
		case fresh && errors.Is(err, repo.ErrChunkMissing):
			return nil, err
		case fresh:
			return nil, fmt.Errorf("%w: %s: %w", repo.ErrChunkMissing, d, err)
		}
		before, fresh, which = l, true, lookup.Every
		if state, err = p.opt.Refresh(ctx); err != nil {
			return nil, fmt.Errorf("read chunk %s: %w", d, err)
		}
	}
}

// fetch reads the chunk that lies at l.
func (p *Snapshot) fetch(ctx context.Context, d digest.Digest, l pack.Location, place func(size int) ([]byte, error)) ([]byte, error) {
	raw, err := place(int(l.Len))
	if err != nil {
		return nil, err
	}
	err = resume.Fetch(ctx, p.opt.Store, l.Pack.Key(), raw, int64(l.Off))
	if errors.Is(err, resume.ErrShort) {
		err = &repo.CorruptError{What: "chunk " + d.String(), Err: err}
	}
	return raw, err
}
