package indexset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
)

type counter int

func (c *counter) Close() error { *c++; return nil }

func fixed(t testing.TB, size, chunk uint64, name func(i int) digest.Digest) *fidx.Index {
	h := fidx.Header{Size: size, ChunkSize: chunk}
	b := h.Append(nil)
	for i := range h.Count() {
		d := name(i)
		b = append(b, d[:]...)
	}
	x, err := fidx.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func dynamic(t testing.TB, count, chunk int, name func(i int) digest.Digest) *didx.Index {
	b := didx.Header{}.Append(nil)
	for i := range count {
		b = didx.Entry{End: uint64((i + 1) * chunk), Digest: name(i)}.Append(b)
	}
	x, err := didx.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func numbered(kind string) func(int) digest.Digest {
	return func(i int) digest.Digest { return digest.Of(fmt.Appendf(nil, "%s %d", kind, i)) }
}

func TestSetKnowsEveryChunkAndItsLength(t *testing.T) {
	var s Set
	var closed counter
	if err := s.AddFixed(fixed(t, 999*4096+100, 4096, numbered("f")), &closed); err != nil {
		t.Fatal(err)
	}
	if err := s.AddDynamic(dynamic(t, 1000, 77, numbered("d")), &closed); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		want := int64(4096)
		if i == 999 {
			want = 100
		}
		if n, ok, err := s.Length(numbered("f")(i)); n != want || !ok || err != nil {
			t.Fatalf("slot %d: %d, %v, %v, want %d", i, n, ok, err, want)
		}
		if n, ok, err := s.Length(numbered("d")(i)); n != 77 || !ok || err != nil {
			t.Fatalf("entry %d: %d, %v, %v", i, n, ok, err)
		}
		if ok, err := s.Has(numbered("other")(i)); ok || err != nil {
			t.Fatalf("a chunk that no index names is known: %v", err)
		}
	}
	if err := s.Close(); err != nil || closed != 2 {
		t.Fatalf("%d indexes closed, %v", closed, err)
	}
	if ok, _ := s.Has(numbered("f")(1)); ok {
		t.Fatal("a closed set knows something")
	}
}

// An image of zeros names one chunk again and again.
func TestRepeatedDigestsTakeNoTime(t *testing.T) {
	const count = 1 << 17
	for name, of := range map[string]func(int) digest.Digest{
		"one":           func(int) digest.Digest { return digest.Of(nil) },
		"two by turns":  func(i int) digest.Digest { return numbered("x")(i % 2) },
		"every one new": numbered("y"),
	} {
		var s Set
		if err := s.AddFixed(fixed(t, count*4096, 4096, of), new(counter)); err != nil {
			t.Fatal(err)
		}
		if n, ok, err := s.Length(of(count - 1)); n != 4096 || !ok || err != nil {
			t.Fatalf("%s: %d, %v, %v", name, n, ok, err)
		}
	}
}

func TestFailingIndexIsClosedAndUnknown(t *testing.T) {
	h := fidx.Header{Size: 100 * 4096, ChunkSize: 4096}
	broken := errors.New("disk gone")
	x, err := fidx.Open(headOnly{h.Append(nil), broken}, h.FileSize())
	if err != nil {
		t.Fatal(err)
	}
	var s Set
	var closed counter
	if err := s.AddFixed(x, &closed); !errors.Is(err, broken) || closed != 1 {
		t.Fatalf("%v, closed %d times", err, closed)
	}
	if ok, err := s.Has(digest.Digest{}); ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
}

// headOnly reads a header and nothing behind it.
type headOnly struct {
	head []byte
	err  error
}

func (h headOnly) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= int64(len(h.head)) {
		return copy(p, h.head[off:]), nil
	}
	return 0, h.err
}

var _ io.ReaderAt = headOnly{}
