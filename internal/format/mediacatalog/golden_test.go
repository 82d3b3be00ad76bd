package mediacatalog_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/mediacatalog"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

var (
	medium   = uuid.MustParse("01234567-89ab-cdef-0123-456789abcdef")
	mediaSet = uuid.MustParse("9da37a55-aac7-4deb-91c6-482b3b675f30")
	hello    = digest.Of([]byte("hello tape\n"))
)

// content is the uuid of the n-th file of the golden tape.
func content(n byte) uuid.UUID {
	id := uuid.MustParse("00112233-4455-4677-8899-aabbccddee00")
	id[15] = n
	return id
}

func snapshot(t testing.TB, path string) names.Snapshot {
	t.Helper()
	s, err := names.ParseSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// writer appends records and fails the test when one is refused.
type writer struct {
	t     testing.TB
	log   []byte
	state mediacatalog.State
	ends  []int // of the log after each call
}

func (w *writer) done(b []byte, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	w.log = b
	w.ends = append(w.ends, len(b))
}

func (w *writer) label(file uint64, id uuid.UUID, seq uint64) {
	w.t.Helper()
	w.done(w.state.AppendLabel(w.log, file, id, seq))
}

func (w *writer) archive(file uint64, store string, chunks ...digest.Digest) {
	w.t.Helper()
	w.done(w.state.AppendArchive(w.log, file, content(byte(file)), store, slices.Values(chunks)))
}

func (w *writer) snapshot(file uint64, store, path string) {
	w.t.Helper()
	w.done(w.state.AppendSnapshot(w.log, file, content(byte(file)), store, snapshot(w.t, path)))
}

func golden(t testing.TB) *writer {
	t.Helper()
	w := &writer{t: t}
	w.label(0, medium, 0)
	w.label(1, mediaSet, 0)
	w.archive(2, "store1", hello)
	w.snapshot(3, "store1", "vm/100/2023-11-14T22:13:20Z")
	return w
}

// readAll returns all records and what ended them.
func readAll(r *mediacatalog.Reader) (all []mediacatalog.Record, err error) {
	for {
		rec, err := r.Next()
		if err != nil {
			return all, err
		}
		all = append(all, *rec)
	}
}

func TestCatalogIsTheGoldenOne(t *testing.T) {
	log := golden(t).log
	const want = "a406ab764ad71796a81e768ec313e902e4afb6568944ae55fbfc4af11679f914"
	if sum := sha256.Sum256(log); hex.EncodeToString(sum[:]) != want || len(log) != 238 {
		t.Fatalf("%d bytes with SHA-256 %x:\n%s", len(log), sum, hex.Dump(log))
	}
}

func TestMagicIsDerivedFromItsName(t *testing.T) {
	want := sha256.Sum256([]byte("Proxmox Backup Media Catalog v1.1"))
	if got := golden(t).log[:8]; !bytes.Equal(got, want[:8]) {
		t.Fatalf("magic %x, want %x", got, want[:8])
	}
	old := sha256.Sum256([]byte("Proxmox Backup Media Catalog v1.0"))
	_, err := readAll(mediacatalog.NewReader(bytes.NewReader(old[:8])))
	if !errors.Is(err, mediacatalog.ErrCorrupt) {
		t.Fatalf("version 1.0 gives %v", err)
	}
}

func TestGoldenCatalogIsRead(t *testing.T) {
	log := golden(t).log
	for i := range log { // what the room between fields holds does not count
		if i == 0x64 || i == 0xc5 || i == 0xc8 {
			log[i] = 0xaa
		}
	}
	r := mediacatalog.NewReader(iotest.HalfReader(bytes.NewReader(log)))
	all, err := readAll(r)
	if err != io.EOF || r.Good() != int64(len(log)) {
		t.Fatalf("ended by %v, good up to %d of %d", err, r.Good(), len(log))
	}
	want := []mediacatalog.Record{
		{Kind: mediacatalog.Label, UUID: medium, Offset: 8},
		{Kind: mediacatalog.Label, File: 1, UUID: mediaSet, Offset: 41},
		{Kind: mediacatalog.ArchiveStart, File: 2, UUID: content(2), Store: "store1", Offset: 74},
		{Kind: mediacatalog.Chunk, File: 2, UUID: content(2), Store: "store1", Digest: hello, Offset: 113},
		{Kind: mediacatalog.ArchiveEnd, File: 2, UUID: content(2), Store: "store1", Offset: 146},
		{Kind: mediacatalog.Snapshot, File: 3, UUID: content(3), Store: "store1", Path: "vm/100/2023-11-14T22:13:20Z", Offset: 171},
	}
	if !slices.Equal(all, want) {
		t.Fatalf("got  %+v\nwant %+v", all, want)
	}
}
