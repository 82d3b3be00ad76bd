package volume

import (
	"bytes"
	"context"
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

func TestVerifySaysWhereAVolumeDiffers(t *testing.T) {
	both(t, func(t *testing.T, path string) {
		m, img := repotest.New(), content(1, 2<<20+700)
		s := save(t, m, 1, img)
		if _, err := Fill(t.Context(), path, s, FillOptions{}); err != nil {
			t.Fatal(err)
		}
		out, err := Verify(t.Context(), path, s, VerifyOptions{})
		if err != nil || out.Differs != 0 || out.Ranges != nil || out.Bytes != int64(len(img)) || out.Header.Record.State != volumeheader.Complete {
			t.Fatalf("%+v, %v", out, err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range []int64{512 + 2*chunk, 512 + 4*chunk - 1, 512 + 2<<20 + 699} { // two chunks that are neighbours, and the end
			b := make([]byte, 1)
			_, err := f.ReadAt(b, off)
			b[0] ^= 1
			_, werr := f.WriteAt(b, off)
			if err := errors.Join(err, werr); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		out, err = Verify(t.Context(), path, s, VerifyOptions{})
		want := []image.Range{{Offset: 2 * chunk, Length: 2 * chunk}, {Offset: 2 << 20, Length: 700}}
		if err != nil || !reflect.DeepEqual(out.Ranges, want) || out.Differs != 2*chunk+700 {
			t.Errorf("%+v, %v", out, err)
		}
		if n := pagebuf.Outstanding(); n != 0 || m.InUse() != 0 {
			t.Errorf("%d buffers, %d indexes are left", n, m.InUse())
		}
	})
}

func TestVerifyComparesWithNothingElse(t *testing.T) {
	m, img := repotest.New(), content(1, 2<<20)
	s, later := save(t, m, 1, img), save(t, m, 2, changed(3, img))
	path := file(t, devSize)
	if _, err := Verify(t.Context(), path, s, VerifyOptions{}); !errors.Is(err, volumeheader.ErrNone) {
		t.Errorf("an empty file: %v", err)
	}
	if _, err := Fill(t.Context(), path, s, FillOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(t.Context(), path, later, VerifyOptions{}); !errors.Is(err, ErrOther) {
		t.Errorf("another snapshot: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if _, err := Verify(ctx, path, s, VerifyOptions{}); !errors.Is(err, enough) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Fill(ctx, path, later, FillOptions{}); err == nil {
		t.Fatal("filled")
	}
	if _, err := Verify(t.Context(), path, later, VerifyOptions{}); !errors.Is(err, ErrFilling) {
		t.Errorf("interrupted fill: %v", err)
	}
}

func TestManyDifferencesAreCountedAndNotListed(t *testing.T) {
	m := repotest.New()
	img := bytes.Repeat([]byte{1}, chunk*(2*maxRanges+10))
	s := save(t, m, 1, img)
	path := file(t, int64(len(img))+512)
	if _, err := Fill(t.Context(), path, s, FillOptions{}); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for off := int64(512); off < int64(len(img)); off += 2 * chunk {
		if _, err := f.WriteAt([]byte{2}, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := Verify(t.Context(), path, s, VerifyOptions{})
	if err != nil || len(out.Ranges) != maxRanges || !out.More || out.Differs != chunk*(maxRanges+5) {
		t.Errorf("%d ranges, %d bytes, %v", len(out.Ranges), out.Differs, err)
	}
}
