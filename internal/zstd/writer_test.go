package zstd_test

import (
	"bytes"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/zstd"
)

func TestFrameLengthIsWhatAnEncoderWrote(t *testing.T) {
	e, err := zstd.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, in := range [][]byte{nil, {1}, make([]byte, 1<<20), bytes.Repeat([]byte("some text, "), 50_000), bytes.Repeat([]byte{1, 2, 3}, 100)} {
		out := make([]byte, zstd.Bound(len(in)))
		n, ok := e.Compress(out, in)
		if !ok {
			t.Fatal("does not fit")
		}
		if got, ok := zstd.FrameLength(append(out[:n:n], make([]byte, 4096)...)); !ok || got != n {
			t.Errorf("%d bytes: %d, %v, want %d", len(in), got, ok, n)
		}
		if n > 8 {
			if got, ok := zstd.FrameLength(out[:n-1]); ok {
				t.Errorf("cut short: %d", got)
			}
		}
	}
}

func TestAWriterWritesWhatADecoderReads(t *testing.T) {
	in := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for b := in; len(b) > 0; {
		n := min(len(b), 77_777)
		if _, err := w.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got := make([]byte, len(in))
	if n, err := d.Decompress(got, out.Bytes()); err != nil || n != len(in) || !bytes.Equal(got, in) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
