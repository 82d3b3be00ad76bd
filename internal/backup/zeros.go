package backup

import (
	"context"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
)

// runSetter is a FixedWriter that takes one digest for many slots.
type runSetter interface {
	SetRun(first, n int, d digest.Digest) error
}

// zeros sets a run of slots that are all zero, the last of which may be short.
func (k *worker) zeros(ctx context.Context, a *archive, first, n int) error {
	if last := first + n - 1; a.span(last, 1) < int64(a.chunk) {
		if err := k.zero(ctx, a, last, int(a.span(last, 1))); err != nil {
			return k.at(a, last, err)
		}
		n--
	}
	if n == 0 {
		return nil
	}
	d, err := k.zeroChunk(ctx, a.count, a.chunk)
	if err == nil {
		err = setRun(a, first, n, d)
	}
	if err != nil {
		return k.at(a, first, err)
	}
	k.countZero(a, n, a.span(first, n))
	return nil
}

func setRun(a *archive, first, n int, d digest.Digest) error {
	if s, ok := a.fw.(runSetter); ok {
		return s.SetRun(first, n, d)
	}
	for i := range n {
		if err := a.fw.Set(first+i, d); err != nil {
			return err
		}
	}
	return nil
}

// bulkSetter is a FixedWriter that takes many digests at once.
type bulkSetter interface {
	SetDigests(first int, ds []digest.Digest) error
}

func setDigests(a *archive, first int, ds []digest.Digest) error {
	if s, ok := a.fw.(bulkSetter); ok {
		return s.SetDigests(first, ds)
	}
	for i, d := range ds {
		if err := a.fw.Set(first+i, d); err != nil {
			return err
		}
	}
	return nil
}

// zero sets one slot of length zero bytes.
func (k *worker) zero(ctx context.Context, a *archive, slot, length int) error {
	d, err := k.zeroChunk(ctx, a.count, length)
	if err != nil {
		return err
	}
	if err := a.fw.Set(slot, d); err != nil {
		return err
	}
	k.countZero(a, 1, int64(length))
	return nil
}

func (k *worker) countZero(a *archive, chunks int, bytes int64) {
	a.count.zero.add(int64(chunks), bytes)
	k.w.opts.Counters.zero.add(int64(chunks), bytes)
}

// zeroChunk returns the digest of length zero bytes and makes sure, once for
// each length, that the repository has that chunk. Two workers that need the
// first one wait for each other: it is rare and short.
func (k *worker) zeroChunk(ctx context.Context, count *Counters, length int) (digest.Digest, error) {
	w := k.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if d, ok := w.zeros[length]; ok {
		return d, nil
	}
	buf, err := pagebuf.New(length)
	if err != nil {
		return digest.Digest{}, err
	}
	defer buf.Free()
	d := digestOf(w.opts.chunkKey(), buf.Bytes())
	_, encoded, err := k.store(ctx, d, buf.Bytes())
	if err != nil {
		return digest.Digest{}, fmt.Errorf("chunk of zeros: %w", err)
	}
	count.encoded.Add(int64(encoded))
	w.opts.Counters.encoded.Add(int64(encoded))
	w.zeros[length] = d
	return d, nil
}

func digestOf(key *chunkcrypt.Key, plain []byte) digest.Digest {
	if key != nil {
		return key.Digest(plain)
	}
	return digest.Of(plain)
}

// digestOf2 names two chunks in less time than twice digestOf.
func digestOf2(key *chunkcrypt.Key, a, b []byte) (digest.Digest, digest.Digest) {
	if key != nil {
		return key.Digest2(a, b)
	}
	return digest.Of2(a, b)
}
