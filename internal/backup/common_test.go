package backup_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"github.com/holdfast-backup/holdfast/internal/zero"
)

const (
	chunk = 16 << 10 // of all tests
	disk  = names.Archive("disk.img.fidx")
)

// memImage is an image in memory that knows its extents where hints say so.
type memImage struct {
	b     []byte
	kinds []image.Kind // of each 4 KiB block
	reads atomic.Int64 // bytes
}

func (m *memImage) Size() int64 { return int64(len(m.b)) }

func (m *memImage) ReadAt(p []byte, off int64) (int, error) {
	n, err := bytes.NewReader(m.b).ReadAt(p, off)
	m.reads.Add(int64(n))
	return n, err
}

func (m *memImage) ExtentAt(off int64) (image.Extent, error) {
	if m.kinds == nil {
		return image.Extent{Offset: off, Length: m.Size() - off, Kind: image.Data}, nil
	}
	i := off / zero.BlockSize
	j := i + 1
	for j < int64(len(m.kinds)) && m.kinds[j] == m.kinds[i] {
		j++
	}
	return image.Extent{Offset: off, Length: min(j*zero.BlockSize, m.Size()) - off, Kind: m.kinds[i]}, nil
}

// randomImage has data, zeros, and zeros that it does not know of, in runs of
// random length.
func randomImage(rnd *rand.Rand, size int) *memImage {
	m := &memImage{b: make([]byte, size), kinds: make([]image.Kind, (size+zero.BlockSize-1)/zero.BlockSize)}
	for i := 0; i < len(m.kinds); {
		what := rnd.IntN(3)
		for n := 1 + rnd.IntN(24); n > 0 && i < len(m.kinds); n-- {
			if what == 0 {
				m.kinds[i] = image.Zero
			}
			if what == 1 {
				fill(rnd, m.b[i*zero.BlockSize:min((i+1)*zero.BlockSize, size)])
			}
			i++
		}
	}
	return m
}

// fill writes something that compresses by half.
func fill(rnd *rand.Rand, b []byte) {
	for i := range b {
		b[i] = "holdfast backup "[rnd.IntN(16)]
	}
}

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func key(t testing.TB, b byte) *chunkcrypt.Key {
	t.Helper()
	k, err := chunkcrypt.New([32]byte{b})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// at is the n-th snapshot of a group.
func at(n int64) names.Snapshot {
	return names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000 + n}
}

// job backs up one image with one worker.
func job(n int64, img image.Image) backup.Job {
	return backup.Job{
		Snapshot: at(n),
		Sources:  []backup.Source{{Name: disk, Image: img}},
		Options:  backup.Options{ChunkSize: chunk, Workers: 1},
	}
}

func encrypted(j backup.Job, k *chunkcrypt.Key) backup.Job {
	j.Options.CryptMode, j.Options.Key = manifest.ModeEncrypt, k
	return j
}

func run(t testing.TB, m *repotest.Memory, j backup.Job) backup.Report {
	t.Helper()
	r, err := backup.Run(t.Context(), m, j)
	if err != nil {
		t.Fatal(err)
	}
	clean(t, m)
	return r
}

// clean demands that nothing is left over.
func clean(t testing.TB, m *repotest.Memory) {
	t.Helper()
	if n := pagebuf.Outstanding(); n != 0 {
		t.Fatalf("%d buffers were not freed", n)
	}
	if n := m.InUse(); n != 0 {
		t.Fatalf("%d sessions or indexes are still open", n)
	}
}

// wantContent compares an archive with what it was made of.
func wantContent(t testing.TB, m *repotest.Memory, n int64, name names.Archive, k *chunkcrypt.Key, want []byte) {
	t.Helper()
	s, err := m.Open(t.Context(), at(n))
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Content(name, k)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: content differs (%d bytes, want %d)", name, len(got), len(want))
	}
}

// counts are the chunks of the four kinds, in the order of Stats.
func counts(s backup.Stats) [4]int64 {
	return [4]int64{s.Zero.Chunks, s.Unchanged.Chunks, s.Known.Chunks, s.Stored.Chunks}
}

// pipe is a reader that returns odd pieces.
type pipe struct {
	r   io.Reader
	rnd *rand.Rand
}

func (p pipe) Read(b []byte) (int, error) { return p.r.Read(b[:1+p.rnd.IntN(len(b))]) }
