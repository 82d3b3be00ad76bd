package datastore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// The index that Proxmox Backup Server wrote comes out byte for byte, given its
// entries and the number and time that it happened to have.
func TestDynamicIndexIsThatOfTheVector(t *testing.T) {
	want, err := os.ReadFile("../format/didx/testdata/three-chunks.pxar.didx")
	if err != nil {
		t.Fatal(err)
	}
	x, err := didx.Open(bytes.NewReader(want), int64(len(want)))
	if err != nil {
		t.Fatal(err)
	}
	d := newDisk(t)
	d.Advance(time.Unix(x.Ctime, 0).Sub(d.Now()))
	s, err := datastore.Open(d, datastore.Options{Location: "simulated disk"})
	if err != nil {
		t.Fatal(err)
	}
	n := snapshotAt("100", time.Unix(1_700_000_000, 0))
	ses := begin(t, s, n)
	w, err := ses.CreateDynamic(contract.TreeName)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Each(func(_ int, _, end int64, d digest.Digest) error { return w.Add(uint64(end), d) }); err != nil {
		t.Fatal(err)
	}
	size, sum, err := w.Close()
	if err != nil || size != uint64(x.Size()) || sum != x.Header.Sum {
		t.Fatalf("%d bytes, checksum %s, %v; want %d, %s", size, sum, err, x.Size(), x.Header.Sum)
	}
	got, err := d.Content(n.Path() + "/" + contract.TreeName.String())
	if err != nil || len(got) < didx.HeaderSize {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	copy(got[8:24], want[8:24]) // the random number
	if !bytes.Equal(got, want) {
		t.Errorf("index\n%x\nwant\n%x", got, want)
	}
	if err := ses.Abort(); err != nil {
		t.Fatal(err)
	}
}

// An index of many blocks reads back as it was written.
func TestDynamicIndexOfManyEntries(t *testing.T) {
	for _, count := range []int{1, 1023, 1024, 1025, 5000} {
		s := mustOpen(t, newDisk(t))
		n := snapshotAt("100", time.Unix(1_700_000_000, 0))
		ses := begin(t, s, n)
		raw := encoded(t, []byte("x"), nil, false)
		if _, err := ses.Put(t.Context(), digest.Of([]byte("x")), 1, raw); err != nil {
			t.Fatal(err)
		}
		w, err := ses.CreateDynamic(contract.TreeName)
		if err != nil {
			t.Fatal(err)
		}
		var end uint64
		entries := make([]didx.Entry, count)
		for i := range entries {
			end += uint64(1 + i*7919%blob.MaxChunk)
			binary.LittleEndian.PutUint32(entries[i].Digest[:], uint32(i)+1)
			entries[i].End = end
			if err := w.Add(end, entries[i].Digest); err != nil {
				t.Fatal(err)
			}
		}
		size, sum, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		m := manifest.New(n)
		if err := m.Add(manifest.File{Filename: contract.TreeName.String(), CryptMode: manifest.ModeNone, Size: size, Csum: sum}); err != nil {
			t.Fatal(err)
		}
		if err := ses.Finish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		snap, err := s.Open(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		x, closer, err := snap.OpenDynamic(contract.TreeName)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]didx.Entry, x.Count())
		if err := x.Entries(0, got); err != nil || !slices.Equal(got, entries) {
			t.Errorf("%d entries come back as %d, %v", count, len(got), err)
		}
		if err := errors.Join(closer.Close(), snap.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDynamicIndexRefusesWhatTheFormatCannotHold(t *testing.T) {
	s := mustOpen(t, newDisk(t))
	ses := begin(t, s, snapshotAt("100", time.Unix(1_700_000_000, 0)))
	if _, err := ses.CreateDynamic(contract.ImageName); err == nil {
		t.Error("a name of a fixed index is taken")
	}
	w, err := ses.CreateDynamic(contract.TreeName)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ses.CreateDynamic(contract.TreeName); !errors.Is(err, repo.ErrExists) {
		t.Errorf("the same index twice: %v", err)
	}
	d := digest.Of([]byte("x"))
	if err := w.Add(100, d); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"a chunk without bytes":   w.Add(100, d),
		"a chunk that goes back":  w.Add(99, d),
		"a chunk too large":       w.Add(101+blob.MaxChunk, d),
		"a chunk without a name":  w.Add(200, digest.Digest{}),
		"an end beyond all files": w.Add(1<<63, d),
	} {
		if err == nil || !strings.Contains(err.Error(), contract.TreeName.String()) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := w.Add(100+blob.MaxChunk, d); err != nil {
		t.Errorf("the largest chunk: %v", err)
	}
	if err := ses.Finish(t.Context(), manifest.New(ses.Snapshot())); err == nil || !strings.Contains(err.Error(), "still being written") {
		t.Errorf("finish with an open index: %v", err)
	}
	if _, _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Close(); err == nil {
		t.Error("closed twice")
	}
	if err := w.Add(300+blob.MaxChunk, d); err == nil {
		t.Error("an entry after Close")
	}
	if err := ses.Abort(); err != nil {
		t.Fatal(err)
	}
}

// What came to nothing leaves no file, and no snapshot that lacks it.
func TestEmptyDynamicIndexEndsTheBackup(t *testing.T) {
	d := newDisk(t)
	ses := begin(t, mustOpen(t, d), snapshotAt("100", time.Unix(1_700_000_000, 0)))
	w, err := ses.CreateDynamic(contract.TreeName)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Close(); err == nil || !strings.Contains(err.Error(), "no entries") {
		t.Fatalf("an empty index: %v", err)
	}
	if err := ses.PutBlob(t.Context(), contract.ConfName, encoded(t, []byte("x"), nil, false)); err != nil {
		t.Fatal(err)
	}
	m := manifest.New(ses.Snapshot())
	if err := m.Add(manifest.File{Filename: contract.ConfName.String(), CryptMode: manifest.ModeNone, Size: 13}); err != nil {
		t.Fatal(err)
	}
	if err := ses.Finish(t.Context(), m); err == nil || !strings.Contains(err.Error(), "could not be written") {
		t.Errorf("finish: %v", err)
	}
	if err := ses.Abort(); err != nil {
		t.Fatal(err)
	}
	for _, f := range d.Files() {
		if strings.HasPrefix(f, "vm/") || strings.Contains(f, "didx") {
			t.Errorf("%s is left", f)
		}
	}
}

// A session that is given up closes what it was writing.
func TestAbortClosesOpenIndexes(t *testing.T) {
	d := newDisk(t)
	ses := begin(t, mustOpen(t, d), snapshotAt("100", time.Unix(1_700_000_000, 0)))
	w, err := ses.CreateDynamic(contract.TreeName)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ses.CreateFixed(contract.ImageName, contract.ChunkSize, contract.ChunkSize)
	if err != nil {
		t.Fatal(err)
	}
	if err := ses.Abort(); err != nil {
		t.Fatal(err)
	}
	if err := f.Set(0, digest.Of(nil)); err == nil {
		t.Error("a slot is set in a closed file")
	}
	if err := w.Add(1, digest.Of(nil)); err != nil {
		t.Fatal(err) // only in memory
	}
	if _, _, err := w.Close(); err == nil {
		t.Error("an index is completed after the end of its session")
	}
	if _, err := ses.CreateDynamic("other.pxar.didx"); err == nil {
		t.Error("an index is begun after the end of its session")
	}
	for _, f := range d.Files() {
		if strings.Contains(f, "idx") {
			t.Errorf("%s is left", f)
		}
	}
}
