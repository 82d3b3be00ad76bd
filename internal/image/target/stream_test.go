package target_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/target"
)

func TestPipeGetsZerosForWhatIsLeftOut(t *testing.T) {
	var out bytes.Buffer
	s := target.NewStream(&out, 5*mib)
	if !s.Fresh() || !image.NeedsOrder(s) {
		t.Error("a pipe is fresh and needs order")
	}
	want := make([]byte, 5*mib)
	for _, off := range []int64{10, 3 * mib} {
		copy(want[off:], "data")
		if n, err := s.WriteAt([]byte("data"), off); n != 4 || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := s.Zero(4*mib, 100); err != nil {
		t.Fatal(err)
	}
	if err := s.Finish(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%d bytes came, or other ones", out.Len())
	}
	if _, err := s.WriteAt([]byte("x"), 0); !errors.Is(err, target.ErrOrder) {
		t.Errorf("going back: %v", err)
	}
}

// broken fails after n bytes.
type broken struct{ n int }

func (b *broken) Write(p []byte) (int, error) {
	k := min(b.n, len(p))
	b.n -= k
	if k < len(p) {
		return k, io.ErrClosedPipe
	}
	return k, nil
}

func TestPipeThatBreaksStaysBroken(t *testing.T) {
	for n := range 300 {
		s := target.NewStream(&broken{n}, 300)
		_, first := s.WriteAt(make([]byte, 100), 50)
		second := s.Finish()
		if second == nil || !errors.Is(second, io.ErrClosedPipe) {
			t.Fatalf("broken after %d bytes: WriteAt %v, Finish %v", n, first, second)
		}
	}
}
