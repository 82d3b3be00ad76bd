package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const tree = names.Archive("root.pxar.didx")

// archive stores data in chunks of random sizes and opens it.
func archive(t testing.TB, m *repotest.Memory, data []byte, key *chunkcrypt.Key) (*repotest.Snapshot, *fetch.Dynamic) {
	t.Helper()
	n := names.Snapshot{Group: names.Group{Type: names.Host, ID: "h"}, Time: 1_700_000_000}
	s, err := m.Begin(t.Context(), repo.Begin{Snapshot: n})
	if err != nil {
		t.Fatal(err)
	}
	enc, err := blob.NewEncoder(key, nil, true)
	if key != nil {
		enc, err = blob.NewEncoder(key, rand.NewChaCha8([32]byte{1}), true)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	w, err := s.CreateDynamic(tree)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for at := 0; at < len(data); {
		plain := data[at:min(len(data), at+1+rng.IntN(20_000))]
		at += len(plain)
		d := fetch.Digest(key, plain)
		raw, err := enc.Append(nil, plain)
		if err == nil {
			_, err = s.Put(t.Context(), d, len(plain), raw)
		}
		if err == nil {
			err = w.Add(uint64(at), d)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	size, sum, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	l := manifest.New(n)
	mode := manifest.ModeNone
	if key != nil {
		mode = manifest.ModeEncrypt
	}
	if err := l.Add(manifest.File{Filename: tree.String(), CryptMode: mode, Size: size, Csum: sum}); err != nil {
		t.Fatal(err)
	}
	if key != nil {
		if err := l.Sign(key); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Finish(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	snap, err := m.Open(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	x, err := fetch.OpenDynamic(snap, tree, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
		if n := pagebuf.Outstanding(); n != 0 {
			t.Errorf("%d buffers were not freed", n)
		}
	})
	return snap, x
}

func noise(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{2}).Read(b)
	return b
}

func testKey(t testing.TB) *chunkcrypt.Key {
	t.Helper()
	k, err := chunkcrypt.New([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestStreamReadsEveryRange(t *testing.T) {
	data := noise(400_000)
	for name, key := range map[string]*chunkcrypt.Key{"plain": nil, "encrypted": testKey(t)} {
		t.Run(name, func(t *testing.T) {
			snap, x := archive(t, repotest.New(), data, key)
			rng := rand.New(rand.NewPCG(3, 4))
			for round := range 60 {
				off := rng.IntN(len(data) + 1)
				n := rng.IntN(len(data) - off + 1)
				if round == 0 {
					off, n = 0, len(data)
				}
				s, err := fetch.NewStream(t.Context(), snap, x, int64(off), int64(n), 1+round%4)
				if err != nil {
					t.Fatal(err)
				}
				var got bytes.Buffer
				if round%2 == 0 {
					_, err = s.WriteTo(&got)
				} else {
					_, err = io.Copy(&got, iotest.OneByteReader(io.LimitReader(s, 5000)))
					if err == nil {
						_, err = got.ReadFrom(s)
					}
				}
				if err != nil || !bytes.Equal(got.Bytes(), data[off:off+n]) {
					t.Fatalf("[%d,+%d): %d bytes, %v", off, n, got.Len(), err)
				}
				s.Close()
				if _, err := s.Read(make([]byte, 1)); err == nil {
					t.Fatal("a closed stream is read")
				}
			}
			for _, r := range [][2]int64{{-1, 1}, {0, int64(len(data)) + 1}, {int64(len(data)) + 1, -1}} {
				if s, err := fetch.NewStream(t.Context(), snap, x, r[0], r[1], 0); err == nil {
					s.Close()
					t.Errorf("range %v is taken", r)
				}
			}
		})
	}
}

// A damaged chunk ends the stream just before it.
func TestStreamStopsAtDamage(t *testing.T) {
	data := noise(400_000)
	m := repotest.New()
	snap, x := archive(t, m, data, nil)
	for i := range x.Count() {
		e, err := x.Entry(i)
		if err != nil {
			t.Fatal(err)
		}
		start, _, err := x.Bounds(i)
		if err != nil {
			t.Fatal(err)
		}
		good := m.Chunks[e.Digest]
		bad := bytes.Clone(good)
		bad[len(bad)-1] ^= 1
		m.Chunks[e.Digest] = bad
		s, err := fetch.NewStream(t.Context(), snap, x, 0, -1, 2)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		s.Close()
		if _, ok := errors.AsType[*repo.CorruptError](err); !ok || !strings.Contains(err.Error(), tree.String()) {
			t.Errorf("chunk %d: %v", i, err)
		}
		if !bytes.Equal(got, data[:start]) {
			t.Errorf("chunk %d: %d bytes before it, want %d", i, len(got), start)
		}
		m.Chunks[e.Digest] = good
	}
}

func TestStreamEndsWithItsContext(t *testing.T) {
	m := repotest.New()
	snap, x := archive(t, m, noise(400_000), nil)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	s, err := fetch.NewStream(ctx, snap, x, 0, -1, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := io.ReadFull(s, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel(why)
	if _, err := io.Copy(io.Discard, s); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

func TestOpenDynamicRefuses(t *testing.T) {
	m := repotest.New()
	snap, _ := archive(t, m, noise(1000), testKey(t))
	if _, err := fetch.OpenDynamic(snap, "disk.img.fidx", nil); err == nil {
		t.Error("the name of an image is taken")
	}
	if _, err := fetch.OpenDynamic(snap, "other.pxar.didx", nil); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("an archive that is not there: %v", err)
	}
	if _, err := fetch.OpenDynamic(snap, tree, nil); !errors.Is(err, blob.ErrNoKey) {
		t.Errorf("without the key: %v", err)
	}
	other, err := chunkcrypt.New([32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fetch.OpenDynamic(snap, tree, other); !errors.Is(err, manifest.ErrWrongKey) {
		t.Errorf("with another key: %v", err)
	}
	snap.File(tree)[4096]++
	if _, err := fetch.OpenDynamic(snap, tree, testKey(t)); err == nil {
		t.Error("a changed index is opened")
	}
	snap.File(tree)[4096]--
}

func TestADistantSnapshotHearsOfAllChunksLongBefore(t *testing.T) {
	data := noise(3_000_000) // 300 chunks
	snap, x := archive(t, repotest.New(), data, nil)
	for _, tc := range []struct {
		chunks  int
		bytes   int64
		at, n   int64
		highest int
	}{
		{100, 1 << 30, 0, -1, 100},
		{1000, 500_000, 0, -1, 60},
		{1000, 1 << 30, 0, -1, 305},
		{100, 1 << 30, 1_000_000, 500_000, 60},
		{100, 1, 0, -1, 1},
	} {
		d := &repotest.Distant{Snapshot: snap, Chunks: tc.chunks, Bytes: tc.bytes}
		s, err := fetch.NewStream(t.Context(), d, x, tc.at, tc.n, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, s); err != nil {
			t.Fatal(err)
		}
		s.Close()
		read, surprise, most, waiting := d.Heard()
		if few := tc.bytes == 1; !few && (surprise > 1 || most < tc.highest/2) || most > tc.highest+2 || waiting != 0 || read < 40 {
			t.Errorf("%+v: %d chunks were read, %d without notice; up to %d were announced, %d in vain", tc, read, surprise, most, waiting)
		}
	}
}
