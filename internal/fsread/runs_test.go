package fsread_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

type bytesImage struct{ *bytes.Reader }

func (b bytesImage) Size() int64 { return b.Reader.Size() }

func TestAFileIsItsRunsAndZerosBetween(t *testing.T) {
	disk := bytesImage{bytes.NewReader([]byte("0123456789"))}
	runs := []fsread.Run{{Offset: 0, Length: 4, At: 6}, {Offset: 4, Length: 4, At: fsread.Hole}, {Offset: 8, Length: 4, At: 0}}
	f := fsread.NewFile(disk, "test", 11, func(off int64) (fsread.Run, error) { return runs[off/4], nil })
	got, err := io.ReadAll(io.NewSectionReader(f, 0, 100))
	if want := "6789\x00\x00\x00\x00012"; err != nil || string(got) != want {
		t.Fatalf("%q, %v, want %q", got, err, want)
	}
	one := make([]byte, 3)
	if n, err := f.ReadAt(one, 9); n != 2 || err != io.EOF || string(one[:2]) != "12" {
		t.Errorf("the end: %d, %v, %q", n, err, one[:n])
	}
	for off, want := range map[int64]image.Extent{
		1: {Offset: 1, Length: 3}, 5: {Offset: 5, Length: 3, Kind: image.Zero}, 9: {Offset: 9, Length: 2},
	} {
		if e, err := image.ExtentAt(f, off); err != nil || e != want {
			t.Errorf("extent at %d: %+v, %v", off, e, err)
		}
	}
}

func TestARunBehindTheEndOfTheImageIsDamage(t *testing.T) {
	disk := bytesImage{bytes.NewReader(make([]byte, 10))}
	f := fsread.NewFile(disk, "test", 8, func(int64) (fsread.Run, error) { return fsread.Run{Length: 8, At: 4}, nil })
	var bad *fsread.CorruptError
	if _, err := f.ReadAt(make([]byte, 8), 0); !errors.As(err, &bad) {
		t.Errorf("%v", err)
	}
}
