package volume

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const (
	chunk = 64 << 10 // of all tests
	disk  = names.Archive("disk.img.fidx")
)

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 9)) }

// content is data and zeros in runs of random length.
func content(seed uint64, size int) []byte {
	r := rng(seed)
	b := make([]byte, size)
	for i := 0; i < size; {
		n := min(1+r.IntN(2*chunk), size-i)
		if r.IntN(3) > 0 {
			for j := range n {
				b[i+j] = byte(r.IntN(4) + 1)
			}
		}
		i += n
	}
	return b
}

// changed is b a day later.
func changed(seed uint64, b []byte) []byte {
	r := rng(seed)
	c := bytes.Clone(b)
	for range 5 {
		off := r.IntN(len(c))
		n := min(r.IntN(20_000), len(c)-off)
		for j := range n {
			c[off+j] = byte(r.IntN(3)) * 7
		}
	}
	clear(c[len(c)/2:][:chunk])
	return c
}

func at(n int64) names.Snapshot {
	return names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000 + n}
}

type bytesImage struct{ *bytes.Reader }

// save backs an image up as the n-th snapshot.
func save(t testing.TB, m *repotest.Memory, n int64, b []byte) Source {
	t.Helper()
	j := backup.Job{
		Snapshot: at(n),
		Sources:  []backup.Source{{Name: disk, Image: bytesImage{bytes.NewReader(b)}}},
		Options:  backup.Options{ChunkSize: chunk},
	}
	if _, err := backup.Run(t.Context(), m, j); err != nil {
		t.Fatal(err)
	}
	s, err := m.Open(t.Context(), at(n))
	if err != nil {
		t.Fatal(err)
	}
	return Source{Repository: "memory", Snapshot: s, Archive: disk}
}

// memory is a device that only counts what is done to it.
type memory struct {
	b             []byte
	writes, syncs int
}

func (m *memory) Size() int64 { return int64(len(m.b)) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m.b).ReadAt(p, off) }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.writes++
	return copy(m.b[off:], p), nil
}

func (m *memory) Zero(off, n int64) error {
	m.writes++
	clear(m.b[off : off+n])
	return nil
}

func (m *memory) Sync() error { m.syncs++; return nil }

// has is a device of size bytes, full of something, with a header.
func has(size int, h *volumeheader.Header) *memory {
	m := &memory{b: bytes.Repeat([]byte("something "), size/10+1)[:size]}
	if h != nil {
		h.Put(m.b)
	}
	return m
}

func on(d device) place { return place{path: "/dev/x", size: d.Size(), logical: 512} }

func header(t testing.TB, d device) volumeheader.Header {
	t.Helper()
	sector, err := readSector(d)
	if err != nil {
		t.Fatal(err)
	}
	h, err := volumeheader.Parse(sector)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func someday() time.Time { return time.Unix(1_790_000_000, 0) }

func one(o FillOptions) FillOptions {
	o.Now, o.Restore.Workers = someday, 1
	return o
}

// fill fills a device with one worker, so that a step is the same in each run.
func fill(t testing.TB, d device, s Source, o FillOptions) (Filled, error) {
	t.Helper()
	f, err := newFilling(on(d), s, one(o))
	if err != nil {
		t.Fatal(err)
	}
	return f.on(t.Context(), d)
}

func mustFill(t testing.TB, d device, s Source, o FillOptions) Filled {
	t.Helper()
	done, err := fill(t, d, s, o)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// wantImage holds a device to what a finished volume promises.
func wantImage(t testing.TB, d device, image []byte) {
	t.Helper()
	h := header(t, d)
	if h.Record == nil || h.Record.State != volumeheader.Complete || h.Record.Size != int64(len(image)) {
		t.Fatalf("header: %+v", h)
	}
	got := make([]byte, len(image))
	if _, err := d.ReadAt(got, h.Start()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, image) {
		t.Fatal("the payload is not the image")
	}
}

func mustDigest(t testing.TB, s Source) digest.Digest {
	t.Helper()
	d, _, err := s.identity(s.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
