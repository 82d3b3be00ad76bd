package archive_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const tree = names.Archive("root.pxar.didx")

// odd cuts where a random generator says.
type odd struct {
	rng  *rand.Rand
	left int
}

func (o *odd) Max() int { return 20_000 }
func (o *odd) Reset()   { o.left = 0 }

func (o *odd) Scan(p []byte) int {
	if o.left == 0 {
		o.left = 1 + o.rng.IntN(o.Max())
	}
	if len(p) < o.left {
		o.left -= len(p)
		return 0
	}
	n := o.left
	o.left = 0
	return n
}

// saveTree backs b up as a file archive and opens the snapshot.
func saveTree(t testing.TB, b []byte, k *chunkcrypt.Key) (*repotest.Memory, *repotest.Snapshot) {
	t.Helper()
	m := repotest.New()
	name := names.Snapshot{Group: names.Group{Type: names.Host, ID: "1"}, Time: 1}
	s, err := m.Begin(t.Context(), repo.Begin{Snapshot: name})
	if err != nil {
		t.Fatal(err)
	}
	o := backup.Options{Workers: 2, Key: k}
	if k != nil {
		o.CryptMode = manifest.ModeEncrypt
	}
	w, err := backup.NewWriter(s, o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r, err := w.DynamicFrom(t.Context(), tree, &odd{rng: rand.New(rand.NewPCG(1, 1))}, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	l := manifest.New(name)
	if err := l.Add(r.Archive); err != nil {
		t.Fatal(err)
	}
	if k != nil {
		if err := l.Sign(k); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Finish(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	snap, err := m.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	m.Reset()
	return m, snap
}

func openTree(t testing.TB, s repo.Snapshot, k *chunkcrypt.Key, c *archive.Cache) *archive.Dynamic {
	t.Helper()
	d, err := archive.OpenDynamic(t.Context(), s, tree, k, c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFileArchiveReadsAnywhere(t *testing.T) {
	data := content(6 << 20) // 600 chunks, so more than one page of the table
	for name, k := range map[string]*chunkcrypt.Key{"plain": nil, "encrypted": key(t)} {
		t.Run(name, func(t *testing.T) {
			m, snap := saveTree(t, data, k)
			for _, chunks := range []int64{1, 5, 60} {
				c := archive.NewCache(chunks * 24 << 10)
				d := openTree(t, snap, k, c)
				if d.Size() != int64(len(data)) {
					t.Fatalf("%d bytes", d.Size())
				}
				var wg sync.WaitGroup
				for reader := range 4 {
					wg.Go(func() {
						rng := rand.New(rand.NewPCG(uint64(reader), 9))
						off := 0
						for range 300 {
							if rng.IntN(3) == 0 {
								off = rng.IntN(len(data))
							}
							p := make([]byte, 1+rng.IntN(50_000))
							n, err := d.ReadAt(p, int64(off))
							want := data[off:min(off+len(p), len(data))]
							if !bytes.Equal(p[:n], want) || (err != nil) != (n < len(p)) || err != nil && !errors.Is(err, io.EOF) {
								t.Errorf("[%d,+%d): %d bytes, %v", off, len(p), n, err)
								return
							}
							if off += n; off >= len(data) {
								off = 0
							}
						}
					})
				}
				wg.Wait()
				if _, err := d.ReadAt(make([]byte, 1), -1); err == nil {
					t.Error("a negative offset is read")
				}
				if n, err := d.ReadAt(make([]byte, 1), d.Size()); n != 0 || !errors.Is(err, io.EOF) {
					t.Errorf("behind the end: %d, %v", n, err)
				}
				if err := errors.Join(d.Close(), d.Close()); err != nil {
					t.Fatal(err)
				}
				if _, err := d.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
					t.Errorf("after Close: %v", err)
				}
				if s := c.Stats(); s.Used > s.Limit && chunks > 1 {
					t.Errorf("%+v", s)
				}
				c.Close()
			}
			clean(t, m)
		})
	}
}

// A reader who goes from chunk to chunk finds most of them there, and nothing is
// fetched twice.
func TestFileArchiveIsFetchedAheadOfASequentialReader(t *testing.T) {
	data := content(3 << 20)
	synctest.Test(t, func(t *testing.T) {
		m, snap := saveTree(t, data, nil)
		c := archive.NewCache(2 << 20)
		defer c.Close()
		d := openTree(t, snap, nil, c)
		got := make([]byte, 0, len(data))
		p := make([]byte, 4096)
		for int64(len(got)) < d.Size() {
			n, err := d.ReadAt(p, int64(len(got)))
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			got = append(got, p[:n]...)
			synctest.Wait()
		}
		if !bytes.Equal(got, data) {
			t.Error("read something else")
		}
		s := d.Stats()
		if s.Misses > 10 || s.AheadUsed < s.Fetched-10 || int64(m.Calls(repotest.OpRead)) != s.Fetched {
			t.Errorf("%+v, %d reads", s, m.Calls(repotest.OpRead))
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Two archives of a snapshot share chunks and their fetches.
func TestFileArchivesShareACache(t *testing.T) {
	data := content(1 << 20)
	m, snap := saveTree(t, data, nil)
	c := archive.NewCache(4 << 20)
	one, two := openTree(t, snap, nil, c), openTree(t, snap, nil, c)
	var wg sync.WaitGroup
	for _, d := range []*archive.Dynamic{one, two} {
		wg.Go(func() {
			p := make([]byte, len(data))
			if _, err := d.ReadAt(p, 0); err != nil || !bytes.Equal(p, data) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := m.Calls(repotest.OpRead); n > len(m.Chunks) {
		t.Errorf("%d chunks were fetched %d times", len(m.Chunks), n)
	}
	if err := errors.Join(one.Close(), two.Close()); err != nil {
		t.Fatal(err)
	}
	c.Close()
	clean(t, m)
}

func TestFileArchiveRefusesDamage(t *testing.T) {
	data := content(200_000)
	m, snap := saveTree(t, data, nil)
	d := openTree(t, snap, nil, nil)
	for _, raw := range m.Chunks {
		raw[len(raw)-1] ^= 1
	}
	for range 2 {
		_, err := d.ReadAt(make([]byte, 10), 100_000)
		if _, ok := errors.AsType[*repo.CorruptError](err); !ok || !strings.Contains(err.Error(), tree.String()) {
			t.Errorf("%v", err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	d, err := archive.OpenDynamic(ctx, snap, tree, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	cancel(why)
	if _, err := d.ReadAt(make([]byte, 10), 0); !errors.Is(err, why) {
		t.Errorf("after the end of the context: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	clean(t, m)
}

func TestADistantSnapshotHearsOfWhatIsFetchedAheadOfAFileArchive(t *testing.T) {
	b := content(40 * chunk)
	_, s := saveTree(t, b, nil)
	d := &repotest.Distant{Snapshot: s, Chunks: 100, Bytes: 1 << 30}
	x := openTree(t, d, nil, nil)
	defer x.Close()
	p := make([]byte, 1000)
	for off := int64(0); off < int64(len(b)); off += int64(len(p)) {
		if _, err := x.ReadAt(p[:min(len(p), len(b)-int(off))], off); err != nil {
			t.Fatal(err)
		}
	}
	if read, surprise, most, _ := d.Heard(); surprise > read/4 || most < 4 {
		t.Errorf("%d chunks were read, %d without notice; up to %d were announced", read, surprise, most)
	}
}
