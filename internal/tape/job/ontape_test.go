package job

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// plainOf reads an image chunk by chunk.
func plainOf(t *testing.T, s repo.Snapshot, from int) ([]byte, error) {
	t.Helper()
	x, c, err := s.OpenFixed(image)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	dec, err := blob.NewDecoder(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	var out []byte
	for i := from; i < x.Count(); i++ {
		d, err := x.Digest(i)
		if err != nil {
			return out, err
		}
		raw, err := s.ReadChunk(t.Context(), d, nil)
		if err != nil {
			return out, err
		}
		plain, err := dec.Append(nil, raw, chunkSize)
		if err != nil {
			return out, err
		}
		if digest.Of(plain) != d {
			t.Fatalf("chunk %d is another", i)
		}
		out = append(out, plain...)
	}
	return out, nil
}

func TestArchivesAreReadStraightFromTape(t *testing.T) {
	s, from, r, _ := written(t)
	want := content(30, 1, 1, 1, 1, 1, 1, 3)
	for _, all := range []bool{true, false} {
		dir := filepath.Join(t.TempDir(), "spool")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		o, err := s.OpenSnapshot(t.Context(), r.MediaSet, Choice{"store1", day(3)}, dir)
		if err != nil {
			s.showLogs(t)
			t.Fatal(err)
		}
		if all {
			o.Want(image)
			if last, err := plainOf(t, o, 6); err != nil || !bytes.HasSuffix(want, last) {
				t.Fatalf("the last chunk is %d bytes, %v", len(last), err)
			}
			if err := o.letGo(); err != nil {
				t.Fatal(err)
			}
			s.lib.open = true // from now on nothing comes from the drive
		}
		got, err := plainOf(t, o, 0)
		if all {
			s.lib.open = false
		}
		if err != nil || !bytes.Equal(got, want) {
			s.showLogs(t)
			t.Errorf("all wanted: %v: %d bytes, %v", all, len(got), err)
		}
		was, err := from.Open(t.Context(), day(3))
		if err != nil {
			t.Fatal(err)
		}
		a, aerr := o.Blob(conf)
		b, berr := was.Blob(conf)
		if err := errors.Join(aerr, berr, was.Close()); err != nil || !bytes.Equal(a, b) {
			t.Errorf("the configuration is %q, %v", a, err)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
	}
	if _, err := s.OpenSnapshot(t.Context(), r.MediaSet, Choice{"store1", day(9)}, t.TempDir()); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("a snapshot that is not there: %v", err)
	}
}

func TestDamagedChunkIsToldWhenItIsReadFromTape(t *testing.T) {
	s, _, r, _ := written(t)
	for _, c := range append(s.lib.slots, s.lib.drive) {
		if c != nil && strings.HasPrefix(c.barcode, "R00001") {
			c.damaged = map[int]bool{6: true}
		}
	}
	for _, all := range []bool{true, false} {
		dir := filepath.Join(t.TempDir(), "spool")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		o, err := s.OpenSnapshot(t.Context(), r.MediaSet, Choice{"store1", day(0)}, dir)
		if err != nil {
			t.Fatal(err)
		}
		if all {
			o.Want(image)
		}
		_, err = plainOf(t, o, 0)
		if _, ok := errors.AsType[*repo.CorruptError](err); !ok && !errors.Is(err, blob.ErrFormat) {
			t.Errorf("all wanted: %v: %v", all, err)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestChunkThatCouldNotBeKeptIsReadAgain(t *testing.T) {
	s, _, r, _ := written(t)
	dir := filepath.Join(t.TempDir(), "spool")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	o, err := s.OpenSnapshot(t.Context(), r.MediaSet, Choice{"store1", day(3)}, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close() }()
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := plainOf(t, o, 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without its directory: %v", err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if got, err := plainOf(t, o, 0); err != nil || !bytes.Equal(got, content(30, 1, 1, 1, 1, 1, 1, 3)) {
		t.Errorf("with it again: %d bytes, %v", len(got), err)
	}
}
