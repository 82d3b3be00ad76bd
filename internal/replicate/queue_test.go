package replicate

import (
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// distant notes what was announced.
type distant struct {
	repo.Snapshot
	chunks int
	bytes  int64
	told   []digest.Digest
}

func (d *distant) Distance() (int, int64)      { return d.chunks, d.bytes }
func (d *distant) Prefetch(ds []digest.Digest) { d.told = append(d.told, ds...) }

func TestADistantSourceHearsOfChunksBeforeTheyAreCopied(t *testing.T) {
	for _, tc := range []struct {
		name   string
		chunks int
		bytes  int64
		ahead  int // chunks that are announced before the first one is begun
	}{
		{"so many chunks", 50, 1 << 40, 48},
		{"so many bytes", 1000, 300, 24},
		{"less than one", 0, 0, 0},
		{"all", 1000, 1 << 40, 500},
	} {
		d := &distant{chunks: tc.chunks, bytes: tc.bytes}
		var begun []digest.Digest
		first := -1
		q := newQueue(d, func(k chunk) {
			if first < 0 {
				first = len(d.told)
			}
			if tc.ahead > 0 && !slices.Contains(d.told, k.digest) {
				t.Errorf("%s: a chunk is copied of which the source has not heard", tc.name)
			}
			begun = append(begun, k.digest)
		})
		var all []digest.Digest
		for i := range 500 {
			k := chunk{digest: digest.Digest{byte(i), byte(i >> 8)}, size: 10}
			all = append(all, k.digest)
			q.add(k)
			if n := len(all) - len(begun); n > max(tc.chunks, 1) || int64(n)*10 > max(tc.bytes, 10) {
				t.Fatalf("%s: %d chunks are held back", tc.name, n)
			}
		}
		q.flush()
		if !slices.Equal(begun, all) {
			t.Errorf("%s: %d of 500 chunks are copied, or in another order", tc.name, len(begun))
		}
		if first < tc.ahead {
			t.Errorf("%s: %d chunks were announced before the first was copied, want %d", tc.name, first, tc.ahead)
		}
		if tc.ahead > 0 && !slices.Equal(d.told, all) {
			t.Errorf("%s: %d chunks were announced, or in another order", tc.name, len(d.told))
		}
	}
}

func TestANearSourceIsNotWaitedFor(t *testing.T) {
	n := 0
	q := newQueue(nil, func(chunk) { n++ })
	for i := range 5 {
		if q.add(chunk{}); n != i+1 {
			t.Errorf("%d of %d are begun", n, i+1)
		}
	}
	q.flush()
}
