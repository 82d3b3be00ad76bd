package fetch_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// lending lends every chunk, and some that are damaged.
type lending struct {
	repo.Snapshot
	spoil bool
	out   int // lent and not given back
	lent  int
}

func (l *lending) LendChunk(ctx context.Context, d digest.Digest) ([]byte, func(), error) {
	raw, err := l.ReadChunk(ctx, d, nil)
	if err != nil {
		return nil, nil, err
	}
	if l.spoil {
		raw[len(raw)-1] ^= 1
	}
	l.out++
	l.lent++
	return raw, func() { l.out-- }, nil
}

func TestLentChunksAreCheckedAndGivenBack(t *testing.T) {
	data := make([]byte, 30_000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	snap, x := archive(t, repotest.New(), data, nil)
	first, err := x.Entry(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []bool{false, true} {
		l := &lending{Snapshot: snap, spoil: spoil}
		r, err := fetch.ReaderFor(l, nil, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		err = r.Read(t.Context(), first.Digest, make([]byte, first.End))
		if spoil != fetch.IsDamage(err) || !spoil && err != nil {
			t.Errorf("damaged %v: %v", spoil, err)
		}
		if err := r.Read(t.Context(), digest.Of(nil), make([]byte, 1)); !fetch.IsDamage(err) {
			t.Errorf("a chunk that is not there: %v", err)
		}
		if l.lent != 1 || l.out != 0 {
			t.Errorf("%d were lent, %d not given back", l.lent, l.out)
		}
		r.Close()
	}
}
