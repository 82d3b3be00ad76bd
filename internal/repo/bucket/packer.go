package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packindex"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/extsort"
	"github.com/holdfast-backup/holdfast/internal/repo/digestset"
)

const (
	ownMost   = 1 << 21 // digests that a session knows of its own chunks: 32 MiB
	sortBytes = 8 << 20 // of records in memory
)

// packer fills the packs of one session and stores them, as many at a time as there
// are buffers but one. It is safe for concurrent use.
type packer struct {
	repo    *Repository
	session catalog.Number
	ctx     context.Context // ends the uploads
	size    int64           // of a pack
	// buffers are those that nobody uses; nil is one that is not made yet.
	buffers chan *pagebuf.Buffer
	uploads sync.WaitGroup

	mu      sync.Mutex
	cur     *openPack // nil: none
	sizes   []uint32  // of the packs, by number; those that are open have 0
	indexes uint32    // that may be stored
	known   *digestset.Set
	placed  *extsort.Sorter // packindex entries of all its chunks
	err     error           // of an upload: nothing goes on after it
}

// openPack is one being filled.
type openPack struct {
	number  uint32
	buf     *pagebuf.Buffer
	len     int
	entries []pack.Entry
	filling sync.WaitGroup
}

func (r *Repository) newPacker(ctx context.Context, n catalog.Number) *packer {
	p := &packer{
		repo: r, session: n, ctx: ctx, size: r.meta.PackSize,
		buffers: make(chan *pagebuf.Buffer, r.opt.Uploads+1),
		known:   digestset.New(ownMost),
		placed:  extsort.New(packindex.EntrySize, sortBytes),
	}
	for range cap(p.buffers) {
		p.buffers <- nil
	}
	return p
}

// has reports whether the session has stored a chunk itself. It may have forgotten.
func (p *packer) has(d digest.Digest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known.Has(d)
}

// put copies a chunk into a pack. stored is false when the session has it.
func (p *packer) put(ctx context.Context, d digest.Digest, raw []byte) (stored bool, err error) {
	if len(raw) == 0 || len(raw) > pack.MaxChunk {
		return false, fmt.Errorf("it has %d encoded bytes, want 1 to %d", len(raw), pack.MaxChunk)
	}
	for {
		to, at, err := p.reserve(d, len(raw))
		if err != nil || to == nil && at < 0 {
			return false, err
		}
		if to != nil {
			copy(to.buf.Bytes()[at:], raw)
			to.filling.Done()
			return true, nil
		}
		if err := p.open(ctx, len(raw)); err != nil {
			return false, err
		}
	}
}

// reserve finds room for a chunk. Without a pack it is not needed, if at is negative, or a
// new pack is.
func (p *packer) reserve(d digest.Digest, n int) (to *openPack, at int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.err != nil:
		return nil, 0, p.err
	case p.known.Has(d):
		return nil, -1, nil
	case p.cur == nil:
		return nil, 0, nil
	case !p.cur.fits(n, p.size):
		p.seal()
		return nil, 0, nil
	}
	to, at = p.cur, p.cur.len
	e := packindex.Entry{Digest: d, Location: pack.Location{Pack: p.id(to.number), Off: uint32(at), Len: uint32(n)}}
	if err := p.placed.Add(e.Append(nil)); err != nil {
		return nil, 0, err
	}
	to.entries = append(to.entries, pack.Entry{Digest: d, Len: uint32(n)})
	to.len += n
	to.filling.Add(1)
	p.known.Add(d)
	return to, at, nil
}

func (p *packer) id(number uint32) pack.ID {
	return pack.ID{Session: uint64(p.session), Number: number}
}

// fits reports whether one more chunk of n bytes belongs into the pack.
func (o *openPack) fits(n int, size int64) bool {
	return len(o.entries) == 0 || int64(o.len+n)+int64(pack.TailSize(len(o.entries)+1)) <= size
}

// open makes a new pack with room for n bytes the current one, unless somebody
// else has: then there are two rounds for whoever asked.
func (p *packer) open(ctx context.Context, n int) error {
	var buf *pagebuf.Buffer
	select {
	case buf = <-p.buffers:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
	need := max(p.size, int64(n)+int64(pack.TailSize(1)))
	if buf != nil && int64(len(buf.Bytes())) < need {
		buf.Free()
		buf = nil
	}
	if buf == nil {
		var err error
		if buf, err = pagebuf.New(int(need)); err != nil {
			p.buffers <- nil
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cur != nil || p.err != nil {
		p.buffers <- buf
		return p.err
	}
	p.cur = &openPack{number: uint32(len(p.sizes)), buf: buf}
	p.sizes = append(p.sizes, 0)
	return nil
}

// seal stores the current pack in the background. The caller has mu.
func (p *packer) seal() {
	o := p.cur
	p.cur = nil
	p.sizes[o.number] = uint32(int64(o.len) + int64(pack.TailSize(len(o.entries))))
	p.uploads.Go(func() {
		o.filling.Wait()
		body := &lent{b: bytes.NewReader(pack.AppendTable(o.buf.Bytes()[:o.len], o.entries))}
		id := p.id(o.number)
		err := p.repo.create(p.ctx, id.Key(), body)
		body.back()
		p.buffers <- o.buf
		if err == nil {
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.err == nil {
			p.err = fmt.Errorf("store pack %s: %w", id, err)
		}
	})
}

// flush begins to store what is not stored yet.
func (p *packer) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cur != nil {
		p.seal()
	}
}

// wait returns when all packs are stored.
func (p *packer) wait() error {
	p.uploads.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// close gives everything back, when the context of the uploads has ended or they have.
// Who puts meanwhile is told that the session has ended.
func (p *packer) close() error {
	p.mu.Lock()
	p.err = errors.Join(p.err, errEnded)
	cur := p.cur
	p.cur = nil
	p.mu.Unlock()
	p.uploads.Wait()
	if cur != nil {
		cur.filling.Wait()
		p.buffers <- cur.buf
	}
	for range cap(p.buffers) {
		(<-p.buffers).Free()
	}
	return p.placed.Close()
}

// keys are the objects of its packs.
func (p *packer) keys() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.sizes {
		all = append(all, p.id(uint32(i)).Key())
	}
	for i := range p.indexes {
		all = append(all, catalog.IndexKey(p.session, i))
	}
	return all
}

// packSize is the length of a pack of this session that is full.
func (p *packer) packSize(id pack.ID) (uint32, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if id.Session != uint64(p.session) || int64(id.Number) >= int64(len(p.sizes)) {
		return 0, false
	}
	return p.sizes[id.Number], true
}

// lent is a body that its owner takes back: a request that failed may still be
// reading it then.
type lent struct {
	mu sync.RWMutex
	b  *bytes.Reader // nil: it was taken back
}

func (l *lent) ReadAt(p []byte, off int64) (int, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.b == nil {
		return 0, fs.ErrClosed
	}
	return l.b.ReadAt(p, off)
}

// Size is the length of the body.
func (l *lent) Size() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.b == nil {
		return 0
	}
	return l.b.Size()
}

func (l *lent) back() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = nil
}

// create stores an object of a session, which nobody else writes.
func (r *Repository) create(ctx context.Context, key string, body objstore.Body) error {
	return objstore.Create(ctx, r.store, key, body, r.retention())
}
