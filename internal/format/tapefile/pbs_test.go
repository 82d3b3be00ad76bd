package tapefile_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

// pbsFiles returns the contents of the files on a tape of PBS, after each block was
// written again and came out the same.
func pbsFiles(t *testing.T, name string) [][]byte {
	t.Helper()
	f, err := os.Open("testdata/pbs-4.2.1/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var files [][]byte
	var content []byte
	b := make([]byte, tapefile.BlockSize)
	for {
		if _, err := io.ReadFull(z, b); errors.Is(err, io.EOF) {
			return files
		} else if err != nil {
			t.Fatal(err)
		}
		h, err := tapefile.ParseBlock(b)
		if err != nil {
			t.Fatal(err)
		}
		again := block(h, b[tapefile.BlockHeaderSize:][:h.Size])
		if !bytes.Equal(again, b) {
			t.Fatalf("block %d of file %d comes back changed", h.Seq, len(files))
		}
		content = append(content, b[tapefile.BlockHeaderSize:][:h.Size]...)
		if h.Last {
			files, content = append(files, content), nil
		}
	}
}

// wantAgain checks that a header is written as PBS wrote it.
func wantAgain(t *testing.T, file []byte, h tapefile.Header, err error) {
	t.Helper()
	if b := appendHeader(t, h, err); !bytes.HasPrefix(file, b) {
		t.Fatalf("written as\n%q\nand by PBS as\n%q", b, file[:min(len(b), len(file))])
	}
}

func TestTapeOfPBSIsReadAndWrittenAgain(t *testing.T) {
	files := pbsFiles(t, "plain.blocks.gz")
	if len(files) != 6 {
		t.Fatalf("%d files", len(files))
	}
	h, r := readHeader(t, files[0])
	label, err := h.Label()
	if err != nil || label.Text != "HF0011L8" || label.Pool != "tiny" || r.Len() != 0 {
		t.Fatalf("%+v, %v", label, err)
	}
	again, err := label.Header(h.UUID, h.Ctime)
	wantAgain(t, files[0], again, err)

	h, r = readHeader(t, files[1])
	set, key, err := h.SetLabel()
	if err != nil || set.Pool != "tiny" || set.Seq != 0 || !set.Key.IsZero() || key != nil || r.Len() != 0 {
		t.Fatalf("%+v, %q, %v", set, key, err)
	}
	again, err = set.Header(h.UUID, h.Ctime, nil)
	wantAgain(t, files[1], again, err)

	h, r = readHeader(t, files[2])
	chunks, err := h.ChunkArchive()
	if err != nil || chunks.Store != "store2" {
		t.Fatalf("%+v, %v", chunks, err)
	}
	again, err = chunks.Header(h.UUID, h.Ctime)
	wantAgain(t, files[2], again, err)
	wantChunks(t, files[2][len(files[2])-r.Len():])

	for i, path := range []string{"host/tiny/2026-11-29T22:28:00Z", "ns/ns1/host/tiny/2026-11-29T22:28:01Z"} {
		file := files[3+i]
		h, r = readHeader(t, file)
		snap, err := h.SnapshotArchive()
		if err != nil || snap.Store != "store2" || snap.Snapshot != snapshot(t, path) || r.Len() == 0 {
			t.Fatalf("%+v, %v", snap, err)
		}
		again, err = snap.Header(h.UUID, h.Ctime)
		wantAgain(t, file, again, err)
	}

	h, r = readHeader(t, files[5])
	cat, err := h.CatalogArchive()
	if err != nil || cat.Medium != label.UUID || cat.MediaSet != set.UUID || cat.Seq != 0 || r.Len() == 0 {
		t.Fatalf("%+v, %v", cat, err)
	}
	wantAgain(t, files[5], cat.Header(h.UUID, h.Ctime, true), nil)
}

// wantChunks opens the two chunks of the tape.
func wantChunks(t *testing.T, archive []byte) {
	t.Helper()
	c := tapefile.NewChunkReader(bytes.NewReader(archive))
	var again []byte
	for n := 0; ; n++ {
		d, raw, err := c.Next(nil)
		if errors.Is(err, io.EOF) {
			if n != 2 || c.Cut() || !bytes.Equal(again, archive) {
				t.Fatalf("%d chunks, cut %v", n, c.Cut())
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		again = append(tapefile.AppendChunkHeader(again, d, len(raw)), raw...)
		dec, err := blob.NewDecoder(nil)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := dec.Append(nil, raw, blob.MaxChunk)
		dec.Close()
		if err != nil || digest.Of(plain) != d {
			t.Fatalf("chunk %s: %v", d, err)
		}
	}
}

func TestEncryptedMediaSetLabelOfPBSIsReadAndWrittenAgain(t *testing.T) {
	files := pbsFiles(t, "encrypted.blocks.gz")
	h, _ := readHeader(t, files[1])
	set, key, err := h.SetLabel()
	if err != nil || set.Key.IsZero() {
		t.Fatalf("%+v, %v", set, err)
	}
	again, err := set.Header(h.UUID, h.Ctime, key)
	wantAgain(t, files[1], again, err)
	f, err := keyfile.Parse(key)
	if err != nil {
		t.Fatal(err)
	}
	if k, _, err := f.Unlock([]byte("correct-horse")); err != nil || k.Fingerprint() != set.Key {
		t.Fatalf("the key does not open: %v", err)
	}
}
