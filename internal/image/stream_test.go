package image_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/holdfast-backup/holdfast/internal/image"
)

func TestStreamGivesEveryByteOnce(t *testing.T) {
	content := random(1000)
	for _, size := range []int64{image.SizeUnknown, 1000} {
		for _, step := range []int{1, 7, 500, 999, 1000, 1001, 4096} {
			s := image.NewStream(iotest.HalfReader(bytes.NewReader(content)), size)
			var got []byte
			for {
				p := make([]byte, step)
				n, err := s.Next(p)
				got = append(got, p[:n]...)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil || n != step {
					t.Fatalf("size %d step %d: Next = %d, %v", size, step, n, err)
				}
			}
			if !bytes.Equal(got, content) || s.Offset() != 1000 {
				t.Errorf("size %d step %d: %d bytes, offset %d", size, step, len(got), s.Offset())
			}
			if n, err := s.Next(make([]byte, 5)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("after the end: %d, %v", n, err)
			}
		}
	}
}

func TestStreamOfAnotherLengthThanDeclaredIsAnError(t *testing.T) {
	for _, size := range []int64{0, 999, 1001, 5000} {
		s := image.NewStream(bytes.NewReader(random(1000)), size)
		var err error
		for err == nil {
			_, err = s.Next(make([]byte, 64))
		}
		if _, ok := errors.AsType[*image.LengthError](err); !ok {
			t.Errorf("declared %d of 1000: %v, want a LengthError", size, err)
		}
		if _, again := s.Next(make([]byte, 64)); again != err { //nolint:errorlint // the same value
			t.Errorf("declared %d: the error changes to %v", size, again)
		}
	}
}

func TestStreamErrorsComeWithTheBytesBeforeThem(t *testing.T) {
	broken := errors.New("cable pulled")
	s := image.NewStream(io.MultiReader(bytes.NewReader(random(100)), iotest.ErrReader(broken)), image.SizeUnknown)
	n, err := s.Next(make([]byte, 4096))
	if n != 100 || !errors.Is(err, broken) {
		t.Errorf("Next = %d, %v; want 100, %v", n, err, broken)
	}
}
