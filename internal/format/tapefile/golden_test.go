package tapefile_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

// content is the uuid of the n-th file of the golden tape.
func content(n byte) uuid.UUID {
	id := uuid.MustParse("00112233-4455-4677-8899-aabbccddee00")
	id[15] = n
	return id
}

var (
	medium   = uuid.MustParse("01234567-89ab-cdef-0123-456789abcdef")
	mediaSet = uuid.MustParse("9da37a55-aac7-4deb-91c6-482b3b675f30")

	goldenLabel = tapefile.Label{UUID: medium, Text: "TEST01L8", Ctime: 1700000000}
	goldenSet   = tapefile.SetLabel{Pool: "daily", UUID: mediaSet, Ctime: 1700000100}
)

// helloBlob is "hello tape\n" as a plain blob of a chunk.
func helloBlob(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString("42ab3807be8370a11e3f79d2" + hex.EncodeToString([]byte("hello tape\n")))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func appendHeader(t testing.TB, h tapefile.Header, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	b, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goldenFiles are the contents of files that were computed from PBS's sources.
func goldenFiles(t testing.TB) map[string][]byte {
	t.Helper()
	label, err := goldenLabel.Header(content(0xff), 1700000000)
	files := map[string][]byte{"label": appendHeader(t, label, err)}
	set, err := goldenSet.Header(content(0x01), 1700000100, nil)
	files["media-set label"] = appendHeader(t, set, err)
	chunks, err := tapefile.ChunkArchive{Store: "store1"}.Header(content(0x02), 1700000200)
	b := appendHeader(t, chunks, err)
	raw := helloBlob(t)
	b = tapefile.AppendChunkHeader(b, digest.Of([]byte("hello tape\n")), len(raw))
	files["chunk archive"] = append(b, raw...)
	return files
}

func TestFilesAreTheGoldenOnes(t *testing.T) {
	files := goldenFiles(t)
	for _, tc := range []struct {
		name, sum string // SHA-256 of the one block
		size      int    // of its payload
	}{
		{"label", "80e49e9491a2aa2b18db2fdff07f0bceb7837a5c62f191c4a891b1bf9434f0d8", 0x97},
		{"media-set label", "db8e5e26bf74ece496af9503484d929df9f7861fd5803c67c8f8423e967c3355", 157},
		{"chunk archive", "9220a8a24007fc691cf379955ec75d8e2e8c7df12ca09bf3a5000ab7bf2a8674", 142},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := block(tapefile.BlockHeader{Last: true}, files[tc.name])
			if n := len(files[tc.name]); n != tc.size {
				t.Errorf("%d bytes of payload, want %d:\n%s", n, tc.size, hex.Dump(files[tc.name]))
			}
			if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != tc.sum {
				t.Errorf("SHA-256 of the block is %x:\n%s", sum, hex.Dump(b[:0xc0]))
			}
		})
	}
}

// readHeader reads a header and makes sure that the rest is left.
func readHeader(t testing.TB, file []byte) (tapefile.Header, *bytes.Reader) {
	t.Helper()
	r := bytes.NewReader(file)
	h, err := tapefile.ReadHeader(r)
	if err != nil {
		t.Fatal(err)
	}
	return h, r
}

func TestGoldenFilesAreRead(t *testing.T) {
	files := goldenFiles(t)
	h, _ := readHeader(t, files["label"])
	if l, err := h.Label(); err != nil || l != goldenLabel || h.UUID != content(0xff) || h.Ctime != 1700000000 {
		t.Errorf("label %+v, %v; header %+v", l, err, h)
	}
	h, _ = readHeader(t, files["media-set label"])
	if l, key, err := h.SetLabel(); err != nil || l != goldenSet || key != nil {
		t.Errorf("media-set label %+v, %q, %v", l, key, err)
	}
	h, r := readHeader(t, files["chunk archive"])
	if a, err := h.ChunkArchive(); err != nil || a.Store != "store1" {
		t.Errorf("chunk archive %+v, %v", a, err)
	}
	d, raw, err := tapefile.NewChunkReader(r).Next(nil)
	if err != nil || d != digest.Of([]byte("hello tape\n")) || !bytes.Equal(raw, helloBlob(t)) {
		t.Errorf("chunk %s, %x, %v", d, raw, err)
	}
}
