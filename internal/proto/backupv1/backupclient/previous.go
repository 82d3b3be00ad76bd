package backupclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/indexset"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// previous is the base of a session. Indexes come over its connection, which
// makes their chunks known to both ends; chunks come from a reader of the same
// snapshot, which is opened when one is asked for.
type previous struct {
	s      *Session
	name   names.Snapshot
	m      *manifest.Manifest
	known  indexset.Set
	reader func(context.Context, names.Snapshot) (repo.Snapshot, error)

	mu      sync.Mutex
	indexes map[names.Archive]any // *fidx.Index or *didx.Index; their files belong to known
	open    repo.Snapshot         // of reader; nil: not yet
	shown   map[names.Archive]bool
}

// openPrevious asks for the base. One that cannot be read is none: everything is
// sent again then. That the connection is lost is another matter.
func (b *Session) openPrevious(reader func(context.Context, names.Snapshot) (repo.Snapshot, error)) (*previous, error) {
	t, err := b.wire.previousTime(b.ctx)
	if err != nil || t == 0 {
		return nil, err
	}
	name := b.name
	name.Time = t
	p := &previous{s: b, name: name, reader: reader, indexes: map[names.Archive]any{}, shown: map[names.Archive]bool{}}
	var raw bytes.Buffer
	err = b.wire.previous(b.ctx, names.Manifest, &raw, backupv1.MaxEncoded)
	if err == nil {
		p.m, err = spool.Manifest(raw.Bytes(), name)
	}
	switch _, lost := errors.AsType[*upgrade.LostError](err); {
	case lost:
		return nil, fmt.Errorf("manifest of the previous backup: %w", err)
	case b.ctx.Err() != nil:
		return nil, context.Cause(b.ctx)
	case err != nil:
		return nil, nil
	}
	return p, nil
}

// Name is that of the base.
func (p *previous) Name() names.Snapshot { return p.name }

// Manifest is that of the base; it is not to be changed.
func (p *previous) Manifest() *manifest.Manifest { return p.m }

// OpenFixed fetches an index and compares it with the manifest.
func (p *previous) OpenFixed(name names.Archive) (*fidx.Index, io.Closer, error) {
	x, err := p.index(name, func(f *spool.File, listed manifest.File) (any, error) {
		x, c, err := spool.Fixed(f, p.name, listed)
		if err != nil {
			return nil, err
		}
		return x, p.known.AddFixed(x, c)
	})
	if err != nil {
		return nil, nil, err
	}
	idx, ok := x.(*fidx.Index)
	if !ok {
		return nil, nil, fmt.Errorf("archive %s is no fixed index", name)
	}
	return idx, kept{}, nil
}

// OpenDynamic does the same for a dynamic index.
func (p *previous) OpenDynamic(name names.Archive) (*didx.Index, io.Closer, error) {
	x, err := p.index(name, func(f *spool.File, listed manifest.File) (any, error) {
		x, c, err := spool.Dynamic(f, p.name, listed)
		if err != nil {
			return nil, err
		}
		return x, p.known.AddDynamic(x, c)
	})
	if err != nil {
		return nil, nil, err
	}
	idx, ok := x.(*didx.Index)
	if !ok {
		return nil, nil, fmt.Errorf("archive %s is no dynamic index", name)
	}
	return idx, kept{}, nil
}

// kept is an index that stays until the session ends.
type kept struct{}

func (kept) Close() error { return nil }

// index fetches an index once. open takes the file over.
func (p *previous) index(name names.Archive, open func(*spool.File, manifest.File) (any, error)) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x, ok := p.indexes[name]; ok {
		return x, nil
	}
	listed, ok := p.m.File(name.String())
	if !ok {
		return nil, fmt.Errorf("archive %s in %s: %w", name, p.name, repo.ErrNotFound)
	}
	f, err := spool.Create()
	if err != nil {
		return nil, err
	}
	if err := p.s.wire.previous(p.s.ctx, name, f, math.MaxInt64-1); err != nil {
		return nil, errors.Join(fmt.Errorf("archive %s in %s: %w", name, p.name, err), f.Close())
	}
	x, err := open(f, listed)
	if err != nil {
		return nil, err
	}
	p.indexes[name] = x
	return x, nil
}

// Blob fetches an encoded blob and compares it with the manifest.
func (p *previous) Blob(name names.Archive) ([]byte, error) {
	listed, ok := p.m.File(name.String())
	if !ok && name != names.Manifest && name != names.ClientLog {
		return nil, fmt.Errorf("archive %s in %s: %w", name, p.name, repo.ErrNotFound)
	}
	var raw bytes.Buffer
	if err := p.s.wire.previous(p.s.ctx, name, &raw, backupv1.MaxEncoded); err != nil {
		return nil, fmt.Errorf("archive %s in %s: %w", name, p.name, err)
	}
	if !ok {
		return raw.Bytes(), nil
	}
	return raw.Bytes(), spool.Blob(raw.Bytes(), p.name, listed)
}

// ReadChunk reads a chunk through a reader of the base.
func (p *previous) ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	r, err := p.reading(ctx)
	if err != nil {
		return buf[:0], err
	}
	return r.ReadChunk(ctx, d, buf)
}

// Prefetch says that these chunks will be read soon.
func (p *previous) Prefetch(ds []digest.Digest) {
	p.mu.Lock()
	r := p.open
	p.mu.Unlock()
	if h, ok := r.(interface{ Prefetch(ds []digest.Digest) }); ok {
		h.Prefetch(ds)
	}
}

// reading opens the reader, and in it the indexes that are open here: it hands
// out no other chunks.
func (p *previous) reading(ctx context.Context) (repo.Snapshot, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		if p.reader == nil {
			return nil, errors.New("the chunks of the previous backup cannot be read here")
		}
		r, err := p.reader(p.s.ctx, p.name)
		if err != nil {
			return nil, fmt.Errorf("read the previous backup: %w", err)
		}
		p.open = r
	}
	for name, x := range p.indexes {
		if p.shown[name] {
			continue
		}
		var c io.Closer
		var err error
		if _, fixed := x.(*fidx.Index); fixed {
			_, c, err = p.open.OpenFixed(name)
		} else {
			_, c, err = p.open.OpenDynamic(name)
		}
		if err == nil {
			err = c.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("read the previous backup: %w", err)
		}
		p.shown[name] = true
	}
	return p.open, ctx.Err()
}

// Close does nothing: the base is open as long as the session.
func (p *previous) Close() error { return nil }

// release closes what the session has of the base.
func (p *previous) release() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.known.Close()
	if p.open != nil {
		err = errors.Join(err, p.open.Close())
		p.open = nil
	}
	return err
}
