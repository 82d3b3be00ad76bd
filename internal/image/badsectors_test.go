package image_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// mem is an image in memory.
type mem struct{ *bytes.Reader }

func newMem(b []byte) mem { return mem{bytes.NewReader(b)} }

func TestBadSectorsAreZerosAndNoted(t *testing.T) {
	eio := fmt.Errorf("read disk: %w", syscall.EIO)
	for _, tc := range []struct {
		name     string
		bad, len int64
		want     []image.Range
	}{
		{"one byte", 50_000, 1, []image.Range{{Offset: 49_152, Length: 4096}}},
		{"two sectors", 8191, 2, []image.Range{{Offset: 4096, Length: 8192}}},
		{"first", 0, 1, []image.Range{{Offset: 0, Length: 4096}}},
		{"last, which is short", 99_999, 1, []image.Range{{Offset: 98_304, Length: 1696}}},
		{"all", 0, 100_000, []image.Range{{Offset: 0, Length: 100_000}}},
		{"none", 200_000, 1, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			content := random(100_000)
			want := slices.Clone(content)
			var total int64
			for _, r := range tc.want {
				clear(want[r.Offset:r.End()])
				total += r.Length
			}
			below := image.Faulty{Image: newMem(content), Bad: tc.bad, Length: tc.len, Err: eio}
			img, err := image.NewBadSectors(below, 4096, 0)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // a second read finds nothing new
				got := make([]byte, len(content))
				if n, err := img.ReadAt(got, 0); n != len(got) || err != nil {
					t.Fatalf("ReadAt = %d, %v", n, err)
				}
				if !bytes.Equal(got, want) {
					t.Error("other bytes than the bad sectors are changed")
				}
				d := img.Found()
				if !slices.Equal(d.Ranges, tc.want) || d.Total != total || d.More {
					t.Errorf("found %+v, want %v, %d bytes", d, tc.want, total)
				}
			}
		})
	}
}

func TestBadSectorsOfAnyReadPatternAreFoundOnce(t *testing.T) {
	content := random(1 << 18)
	below := image.Faulty{Image: newMem(content), Bad: 70_000, Length: 60_000, Err: syscall.EIO}
	for _, step := range []int{512, 4096, 5000, 1 << 16} {
		img, err := image.NewBadSectors(below, 4096, 0)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, step)
		for off := len(content) - step; off >= 0; off -= step { // backwards, so that runs grow at the front
			if _, err := img.ReadAt(p, int64(off)); err != nil {
				t.Fatal(err)
			}
		}
		d := img.Found()
		if len(d.Ranges) != 1 || d.Total != d.Ranges[0].Length || d.Ranges[0].Offset > 70_000 || d.Ranges[0].End() < 130_000 {
			t.Errorf("step %d: found %+v", step, d)
		}
	}
}

func TestBadSectorListIsBounded(t *testing.T) {
	below := image.Faulty{Image: newMem(random(1 << 20)), Length: 1 << 20, Err: syscall.EIO}
	img, err := image.NewBadSectors(below, 512, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(10) {
		if _, err := img.ReadAt(make([]byte, 512), i*4096); err != nil {
			t.Fatal(err)
		}
	}
	if d := img.Found(); len(d.Ranges) != 3 || d.Total != 5120 || !d.More {
		t.Errorf("found %+v, want 3 ranges, 5120 bytes and more", d)
	}
}

func TestOtherErrorsPassTheBadSectorFilter(t *testing.T) {
	for _, cause := range []error{syscall.ENXIO, &image.ShrunkError{}, errors.New("network down")} {
		below := image.Faulty{Image: newMem(random(1 << 16)), Bad: 5000, Length: 1, Err: cause}
		img, err := image.NewBadSectors(below, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := img.ReadAt(make([]byte, 1<<16), 0); !errors.Is(err, cause) {
			t.Errorf("err = %v, want %v", err, cause)
		}
		if d := img.Found(); d.Total != 0 {
			t.Errorf("%v is noted as %+v", cause, d)
		}
	}
}
