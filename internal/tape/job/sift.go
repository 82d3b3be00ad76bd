package job

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// sifters is how many chunks of an archive are looked at at a time, and
// siftBuffers how many are in memory. With the plain data that makes seven of at
// most 16 MiB.
const (
	sifters     = 3
	siftBuffers = 4
)

// sift reads all chunks of an archive, compares each with its checksum and, if
// it is not encrypted, with its digest, and hands the sound ones to keep, which
// is called by several goroutines. It returns the digests of the sound ones, in
// their order, also with an error.
func sift(ctx context.Context, r io.Reader, keep func(ctx context.Context, d digest.Digest, raw []byte) error, warn func(format string, args ...any)) ([]digest.Digest, error) {
	type chunk struct {
		n      int
		digest digest.Digest
		raw    []byte
	}
	var (
		eg, inner = errgroup.WithContext(ctx)
		found     = make(chan chunk)
		free      = make(chan []byte, siftBuffers)
		mu        sync.Mutex
		list      []digest.Digest
		spoilt    = map[int]error{}
	)
	for range siftBuffers {
		free <- nil
	}
	for range sifters {
		eg.Go(func() error {
			dec, err := blob.NewDecoder(nil)
			if err != nil {
				return err
			}
			defer dec.Close()
			var plain []byte
			for c := range found {
				var why error
				if plain, why = sound(dec, c.digest, c.raw, plain); why != nil {
					mu.Lock()
					spoilt[c.n] = why
					mu.Unlock()
				} else if err := keep(inner, c.digest, c.raw); err != nil {
					return err
				}
				free <- c.raw
			}
			return nil
		})
	}
	var rerr error
	eg.Go(func() error {
		defer close(found)
		chunks := tapefile.NewChunkReader(r)
		for n := 0; ; n++ {
			var buf []byte
			select {
			case buf = <-free:
			case <-inner.Done():
				return context.Cause(inner)
			}
			d, raw, err := chunks.Next(buf)
			if err != nil {
				rerr = ended(err)
				return nil
			}
			list = append(list, d)
			select {
			case found <- chunk{n, d, raw}:
			case <-inner.Done():
				return context.Cause(inner)
			}
		}
	})
	err := eg.Wait()
	for _, n := range slices.Sorted(maps.Keys(spoilt)) { // one after the other, in the order of the tape
		warn("chunk %s: %v", list[n], spoilt[n])
	}
	if err != nil {
		return nil, err
	}
	good := list[:0]
	for n, d := range list {
		if spoilt[n] == nil {
			good = append(good, d)
		}
	}
	return good, rerr
}

// sound compares a chunk with what can be known of it without a key. plain is
// scratch space.
func sound(dec *blob.Decoder, d digest.Digest, raw, plain []byte) ([]byte, error) {
	h, err := blob.Check(raw)
	if err != nil || h.Kind.Encrypted() {
		return plain, err
	}
	plain, err = dec.Append(plain[:0], raw, blob.MaxChunk)
	if err != nil {
		return nil, err
	}
	if is := digest.Of(plain); is != d {
		return plain, &repo.CorruptError{What: "chunk " + d.String(), Err: fmt.Errorf("its content has digest %s", is)}
	}
	return plain, nil
}

// nobody keeps no chunk.
func nobody(context.Context, digest.Digest, []byte) error { return nil }
