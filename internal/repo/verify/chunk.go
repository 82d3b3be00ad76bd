package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// worker owns the buffers of one goroutine.
type worker struct {
	*pass
	key   *chunkcrypt.Key // nil: encrypted chunks cannot be decoded here
	dec   *blob.Decoder
	raw   []byte
	plain [lanes][]byte
	soon  []digest.Digest
}

// job is one chunk on its way through a worker.
type job struct {
	chunk   chunkRef
	plain   []byte // decoded, its digest still to be compared; nil: nothing to compare
	decided bool   // err is the verdict of before
	err     error
}

func (p *pass) newWorker() (*worker, error) {
	w := &worker{pass: p}
	if p.c.fits(p.snap.Manifest()) {
		w.key = p.c.key
	}
	var err error
	w.dec, err = blob.NewDecoder(w.key)
	return w, err
}

// announce says which chunks will be read when those from first on are done. An
// index that cannot be read is found out when it is their turn.
func (w *worker) announce(list chunkList, first int) {
	if first%w.step != 0 {
		return
	}
	from, n := first+w.ahead, w.step
	if first == 0 && w.step > lanes {
		from, n = 0, w.ahead+w.step
	}
	w.soon = w.soon[:0]
	for i := from; i < min(from+n, list.Count()); i++ {
		ref, err := list.Chunk(i)
		if err != nil {
			break
		}
		if known, _ := w.c.verdict(ref.claim(w.encrypted)); !known {
			w.soon = append(w.soon, ref.digest)
		}
	}
	if len(w.soon) > 0 {
		w.snap.Prefetch(w.soon)
	}
}

// check verifies chunks, leaves the verdicts in the jobs, and sets aside what
// is damaged.
func (w *worker) check(ctx context.Context, jobs []job) {
	for i := range jobs {
		j := &jobs[i]
		if j.err != nil {
			continue
		}
		if j.decided, j.err = w.c.verdict(j.chunk.claim(w.encrypted)); !j.decided {
			j.plain, j.err = w.read(ctx, j.chunk, &w.plain[i])
		}
	}
	w.compare(jobs)
	for i := range jobs {
		j := &jobs[i]
		if j.decided {
			continue
		}
		if bad, ok := errors.AsType[*repo.CorruptError](j.err); ok && !errors.Is(bad.Err, errMode) && !errors.Is(bad.Err, errLength) {
			sound, err := w.c.store.SetAside(ctx, w.snap, j.chunk.digest, func() error { return w.again(ctx, j.chunk, &w.plain[i]) })
			switch {
			case sound:
				j.err = nil
			case err != nil:
				j.err = errors.Join(j.err, err)
			}
		}
		if errors.Is(j.err, repo.ErrChunkMissing) {
			if err := w.c.store.MarkLost(ctx, w.snap, j.chunk.digest); err != nil {
				j.err = errors.Join(j.err, err)
			}
		}
		w.c.remember(j.chunk.claim(w.encrypted), j.err)
		if n := w.c.chunks.Add(1); n%64 == 0 {
			w.c.report()
		}
	}
}

// again checks one chunk in full.
func (w *worker) again(ctx context.Context, chunk chunkRef, buf *[]byte) error {
	plain, err := w.read(ctx, chunk, buf)
	if err != nil || plain == nil {
		return err
	}
	one := []job{{chunk: chunk, plain: plain}}
	w.compare(one)
	return one[0].err
}

// compare hashes what was decoded, two at a time.
func (w *worker) compare(jobs []job) {
	var todo [lanes]*job
	n := 0
	for i := range jobs {
		if jobs[i].plain != nil {
			todo[n] = &jobs[i]
			n++
		}
	}
	var sums [lanes]digest.Digest
	switch {
	case n == 2 && w.encrypted:
		sums[0], sums[1] = w.key.Digest2(todo[0].plain, todo[1].plain)
	case n == 2:
		sums[0], sums[1] = digest.Of2(todo[0].plain, todo[1].plain)
	case n == 1 && w.encrypted:
		sums[0] = w.key.Digest(todo[0].plain)
	case n == 1:
		sums[0] = digest.Of(todo[0].plain)
	}
	for i, j := range todo[:n] {
		if sums[i] != j.chunk.digest {
			j.err = badChunk(j.chunk.digest, fmt.Errorf("its content has digest %s", sums[i]))
		}
	}
}

func badChunk(d digest.Digest, err error) error {
	return &repo.CorruptError{What: "chunk " + d.String(), Err: err}
}

// errMode is a chunk whose encryption is not what the index says: wrong here,
// perhaps right for another index, so it stays.
var errMode = errors.New("its encryption does not fit the archive's")

// errLength is a sound chunk of which the index says a wrong length.
var errLength = errors.New("the index says a wrong length of it")

// read checks all of a chunk but its digest. plain is nil when the chunk is
// encrypted and the key is not at hand.
func (w *worker) read(ctx context.Context, ref chunkRef, buf *[]byte) (plain []byte, err error) {
	raw, err := w.snap.ReadChunk(ctx, ref.digest, w.raw)
	w.raw = raw[:0]
	if err != nil {
		return nil, err
	}
	w.c.bytes.Add(int64(len(raw)))
	w.c.plain.Add(ref.size)
	if plain, err = w.decode(ref, raw, buf); err != nil {
		return nil, badChunk(ref.digest, err)
	}
	return plain, nil
}

func (w *worker) decode(ref chunkRef, raw []byte, buf *[]byte) ([]byte, error) {
	h, err := blob.Check(raw)
	if err != nil {
		return nil, err
	}
	if h.Kind.Encrypted() != w.encrypted {
		return nil, errMode
	}
	if w.encrypted && w.key == nil {
		return nil, nil
	}
	most := int(min(ref.size, blob.MaxChunk))
	if cap(*buf) < most {
		*buf = make([]byte, 0, most)
	}
	plain, err := w.dec.Append((*buf)[:0], raw, most)
	if err == nil {
		*buf = plain
		if int64(len(plain)) == ref.size {
			return plain, nil
		}
		err = fmt.Errorf("%d bytes, want %d", len(plain), ref.size)
	}
	return nil, w.orLength(ref, raw, err)
}

// orLength returns err, or says that the chunk is what it is called, but not as long
// as the index says. Then it stays: whoever writes an index must not be able to
// take the chunks of others away. This is rare enough to take memory for it.
func (w *worker) orLength(ref chunkRef, raw []byte, err error) error {
	plain, derr := w.dec.Append(nil, raw, blob.MaxChunk)
	if derr != nil {
		return err
	}
	d := digest.Of(plain)
	if w.encrypted {
		d = w.key.Digest(plain)
	}
	if d != ref.digest {
		return err
	}
	return fmt.Errorf("%w: %d bytes, and it has %d", errLength, ref.size, len(plain))
}
