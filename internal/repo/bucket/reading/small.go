package reading

import (
	"context"
	"errors"
	"math"

	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// small is the whole object of a snapshot, if it is small: whoever opens one archive
// opens others as a rule, and the chunk map with them.
type small struct {
	turn chan struct{} // holds one token: who has it may load
	b    []byte
}

// smallMost bounds what is small: an image of 50 GiB, or a tree of 10,000 chunks.
const smallMost = 768 << 10

func (s *small) init() {
	s.turn = make(chan struct{}, 1)
	s.turn <- struct{}{}
}

// whole returns the bytes of the object, nil if it is not small.
func (p *Snapshot) whole() ([]byte, error) {
	size := p.size()
	if size < 0 || size > smallMost {
		return nil, nil
	}
	select {
	case <-p.small.turn:
	case <-p.ctx.Done():
		return nil, context.Cause(p.ctx)
	}
	defer func() { p.small.turn <- struct{}{} }()
	if p.small.b == nil {
		b := make([]byte, size)
		err := resume.Fetch(p.ctx, p.opt.Store, catalog.SnapshotObject(p.rec.Session), b, 0)
		if errors.Is(err, resume.ErrShort) {
			return nil, nil // what is there of it can be had part by part
		}
		if err != nil {
			return nil, err
		}
		p.small.b = b
	}
	return p.small.b, nil
}

// size is the end of the last part of the object, -1 where a part is nonsense.
func (p *Snapshot) size() int64 {
	end := int64(0)
	spans := []catalog.Span{p.rec.Map}
	for _, f := range p.rec.Files {
		spans = append(spans, f.Span)
	}
	for _, s := range spans {
		if s.Off < 0 || s.Len < 0 || s.Off > math.MaxInt64-s.Len {
			return -1
		}
		end = max(end, s.Off+s.Len)
	}
	return end
}
