package job

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
)

// numbered is a chunk whose content follows from its number.
func numbered(n, size int) (wanted, []byte) {
	b := make([]byte, size)
	for i := 0; i+8 <= size; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], uint64(n)<<32+uint64(i))
	}
	var d digest.Digest
	binary.LittleEndian.PutUint64(d[:], uint64(n))
	return wanted{d, size}, b
}

func testFeed(t *testing.T, readers, size int, read func(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error)) *feed {
	t.Helper()
	before := pagebuf.Outstanding()
	s, err := newSpool(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.close()
		if n := pagebuf.Outstanding(); n != before {
			t.Errorf("%d buffers are left", n-before)
		}
	})
	return &feed{read: read, readers: readers, spool: s}
}

func TestChunksComeInOrderWhateverTheReadersDo(t *testing.T) {
	for _, readers := range []int{1, 3, 8} {
		rng := rand.New(rand.NewPCG(uint64(readers), 1))
		sizes := make([]int, 400)
		for i := range sizes {
			sizes[i] = 8 * (1 + rng.IntN(500))
		}
		f := testFeed(t, readers, 16<<10, func(_ context.Context, d digest.Digest, buf []byte) ([]byte, error) {
			n := int(binary.LittleEndian.Uint64(d[:]))
			if n%7 == 0 {
				time.Sleep(time.Duration(n%5) * 100 * time.Microsecond) // the order of readers changes
			}
			_, b := numbered(n, sizes[n])
			return append(buf, b...), nil
		})
		for range 2 { // a feed can be used again
			next := 0
			err := f.run(t.Context(), func(yield func(wanted) error) error {
				for n, size := range sizes {
					w, _ := numbered(n, size)
					if err := yield(w); err != nil {
						return err
					}
				}
				return nil
			}, func(w wanted, raw []byte, err error) error {
				want, b := numbered(next, sizes[next])
				if err != nil || w != want || !bytes.Equal(raw, b) {
					return fmt.Errorf("chunk %d is %v, %v", next, w, err)
				}
				next++
				return nil
			})
			if err != nil || next != len(sizes) {
				t.Fatalf("%d readers: %d chunks, %v", readers, next, err)
			}
		}
	}
}

func TestSpoolNeverHoldsMoreThanItsSize(t *testing.T) {
	const size, piece = 64 << 10, 4 << 10
	var ahead, most atomic.Int64
	f := testFeed(t, 8, size, func(_ context.Context, _ digest.Digest, buf []byte) ([]byte, error) {
		if n := ahead.Add(1); n > most.Load() {
			most.Store(n)
		}
		return buf, nil
	})
	err := f.run(t.Context(), func(yield func(wanted) error) error {
		for n := range 500 {
			w, _ := numbered(n, 8)
			w.size = piece - 44 // with the header of a chunk
			if err := yield(w); err != nil {
				return err
			}
		}
		return nil
	}, func(wanted, []byte, error) error {
		ahead.Add(-1)
		return nil
	})
	if err != nil || most.Load() > size/piece {
		t.Errorf("%d chunks of %d bytes in a spool of %d, %v", most.Load(), piece, size, err)
	}
}

func TestChunkLongerThanItSaysIsReadAllTheSame(t *testing.T) {
	long := bytes.Repeat([]byte("long"), 3000)
	f := testFeed(t, 2, 1<<10, func(_ context.Context, _ digest.Digest, buf []byte) ([]byte, error) {
		return append(buf, long...), nil
	})
	err := f.run(t.Context(), func(yield func(wanted) error) error {
		return errors.Join(yield(wanted{size: 100}), yield(wanted{size: 200}))
	}, func(_ wanted, raw []byte, err error) error {
		if !bytes.Equal(raw, long) {
			return errors.New("it is cut")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestFeedEndsWithTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	read := func(_ context.Context, d digest.Digest, buf []byte) ([]byte, error) {
		if binary.LittleEndian.Uint64(d[:]) == 5 {
			return buf, broken
		}
		return append(buf, 1), nil
	}
	each := func(fail int) func(yield func(wanted) error) error {
		return func(yield func(wanted) error) error {
			for n := range 1000 {
				if n == fail {
					return broken
				}
				w, _ := numbered(n, 100)
				if err := yield(w); err != nil {
					return err
				}
			}
			return nil
		}
	}
	f := testFeed(t, 4, 2<<10, read)
	n := 0
	count := func(_ wanted, _ []byte, err error) error { n++; return err }
	if err := f.run(t.Context(), each(-1), count); !errors.Is(err, broken) || n != 6 {
		t.Errorf("a chunk that cannot be read: %v after %d", err, n)
	}
	if err := f.run(t.Context(), each(3), count); !errors.Is(err, broken) {
		t.Errorf("an index that cannot be read: %v", err)
	}
	if err := f.run(t.Context(), each(-1), func(wanted, []byte, error) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("a drive that fails: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	err := f.run(ctx, each(-1), func(wanted, []byte, error) error { cancel(broken); return nil })
	if !errors.Is(err, broken) {
		t.Errorf("a job that is cancelled: %v", err)
	}
	n = 0
	ok := func(_ wanted, _ []byte, err error) error {
		if err == nil {
			n++
		}
		return nil
	}
	if err := f.run(t.Context(), each(-1), ok); err != nil || n != 999 {
		t.Errorf("afterwards: %d, %v", n, err)
	}
}
