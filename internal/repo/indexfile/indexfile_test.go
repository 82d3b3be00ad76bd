package indexfile_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/indexfile"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// temporary is an index in a temporary file.
type temporary struct {
	*spool.File
	settled int
	err     error
}

func (f *temporary) Settle(err error) error {
	f.settled++
	f.err = err
	return err
}

func (f *temporary) content(t *testing.T) []byte {
	t.Helper()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return b
}

func options(t *testing.T) (*temporary, indexfile.Options) {
	t.Helper()
	file, err := spool.Create()
	if err != nil {
		t.Fatal(err)
	}
	f := &temporary{File: file}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, indexfile.Options{
		Create: func() (indexfile.File, error) { return f, nil }, Now: time.Unix(1_700_000_000, 0), Rand: rand.Reader,
	}
}

func numbered(i int) (d digest.Digest) {
	binary.LittleEndian.PutUint32(d[:], uint32(i)+1)
	return d
}

var snapshot = names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000}

// fixed writes an index of count slots.
func fixed(t *testing.T, count int) []byte {
	t.Helper()
	f, o := options(t)
	w, err := indexfile.NewFixed("disk.img.fidx", int64(count)*4096, 4096, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if err := w.Set(i, numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil || f.settled != 1 || f.err != nil {
		t.Fatalf("%v, settled %d times with %v", err, f.settled, f.err)
	}
	return f.content(t)
}

func TestIndexesInTemporaryFilesAreRead(t *testing.T) {
	raw := fixed(t, 3000)
	x, err := fidx.Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil || x.Count() != 3000 || x.Ctime != 1_700_000_000 {
		t.Fatalf("%+v, %v", x, err)
	}
	f, o := options(t)
	w, err := indexfile.NewDynamic("root.pxar.didx", o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		if err := w.Add(uint64(i+1)*1000, numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	size, sum, err := w.Close()
	if err != nil || size != 3_000_000 || f.settled != 1 || f.err != nil {
		t.Fatalf("%d bytes, %v, settled %d times with %v", size, err, f.settled, f.err)
	}
	raw = f.content(t)
	y, err := didx.Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil || y.Count() != 3000 || y.Header.Sum != sum {
		t.Fatalf("%+v, %v", y, err)
	}
}

func TestAnIndexWithAHoleIsSettledWithItsError(t *testing.T) {
	f, o := options(t)
	w, err := indexfile.NewFixed("disk.img.fidx", 3*4096, 4096, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Set(1, numbered(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err == nil || f.settled != 1 || f.err == nil {
		t.Errorf("%v, settled %d times with %v", err, f.settled, f.err)
	}
}

func TestWhatIsPutMustBeAnIndexWhoseChecksumIsRight(t *testing.T) {
	whole := fixed(t, 10)
	for _, tc := range []struct {
		name  string
		spoil func([]byte) []byte
		bad   bool
	}{
		{"whole", func(b []byte) []byte { return b }, false},
		{"another digest", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, true},
		{"a foreign magic", func(b []byte) []byte { b[0] ^= 1; return b }, true},
		{"too short", func(b []byte) []byte { return b[:len(b)-1] }, true},
		{"nothing", func([]byte) []byte { return nil }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, o := options(t)
			raw := tc.spoil(bytes.Clone(whole))
			size, _, err := indexfile.Put(t.Context(), snapshot, "disk.img.fidx", bytes.NewReader(raw), o.Create)
			_, corrupt := errors.AsType[*repo.CorruptError](err)
			if corrupt != tc.bad || (err != nil) != tc.bad || f.settled != 1 || (f.err != nil) != tc.bad {
				t.Fatalf("%v, settled %d times with %v", err, f.settled, f.err)
			}
			if !tc.bad && (size != 10*4096 || !bytes.Equal(f.content(t), whole)) {
				t.Errorf("%d bytes of an archive, and the index is another", size)
			}
		})
	}
}
