package bucket

import (
	"context"
	"errors"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/packindex"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// indexChunks is how many chunks an index has at most.
const indexChunks = 64 << 10

// storeIndexes stores where the chunks of the session lie.
func (p *packer) storeIndexes(ctx context.Context) (runs []catalog.Run, err error) {
	var x *newIndex
	store := func() error {
		run, err := x.store(ctx, p, uint32(len(runs)))
		x = nil
		runs = append(runs, run)
		return err
	}
	defer func() {
		if x != nil {
			err = errors.Join(err, x.file.Close())
		}
	}()
	var last digest.Digest
	for rec, err := range p.placed.All() {
		if err != nil {
			return nil, err
		}
		e := packindex.Entry{Digest: digest.Digest(rec), Location: placeOf(rec)}
		if e.Digest == last { // the session had forgotten it
			continue
		}
		last = e.Digest
		if x == nil {
			if x, err = beginIndex(); err != nil {
				return nil, err
			}
		}
		if err := x.add(e); err != nil {
			return nil, err
		}
		if x.w.Chunks() == indexChunks {
			if err := store(); err != nil {
				return nil, err
			}
		}
	}
	if x != nil {
		return runs, store()
	}
	return runs, nil
}

// newIndex is an index being written.
type newIndex struct {
	file  *spool.File
	w     *packindex.Writer
	packs map[uint32]struct{}
}

func beginIndex() (*newIndex, error) {
	f, err := spool.Create()
	if err != nil {
		return nil, err
	}
	return &newIndex{f, packindex.NewWriter(io.NewOffsetWriter(f, 0)), map[uint32]struct{}{}}, nil
}

func (x *newIndex) add(e packindex.Entry) error {
	x.packs[e.Pack.Number] = struct{}{}
	return x.w.Add(e)
}

// store stores the index and removes the temporary file.
func (x *newIndex) store(ctx context.Context, p *packer, number uint32) (run catalog.Run, err error) {
	defer func() { err = errors.Join(err, x.file.Close()) }()
	run.Chunks, run.Packs = x.w.Chunks(), int64(len(x.packs))
	if run.Bytes, run.Head, err = x.w.Close(); err != nil {
		return run, err
	}
	if run.Head <= catalog.InlineMost {
		run.Inline = make([]byte, run.Head)
		if _, err := x.file.ReadAt(run.Inline, run.Bytes-run.Head); err != nil {
			return run, err
		}
	}
	p.mu.Lock()
	p.indexes = max(p.indexes, number+1)
	p.mu.Unlock()
	return run, p.repo.create(ctx, catalog.IndexKey(p.session, number), &fileBody{x.file, run.Bytes})
}

// fileBody is a file as a body.
type fileBody struct {
	io.ReaderAt
	size int64
}

// Size is the length of the body.
func (f *fileBody) Size() int64 { return f.size }
