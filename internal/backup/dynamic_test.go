package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/chunker"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const fileArchive = names.Archive("root.pxar.didx")

func cutter(t testing.TB) *chunker.Chunker {
	t.Helper()
	c, err := chunker.New(chunker.MinAverage)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// session backs up what write writes, as the n-th snapshot.
func session(ctx context.Context, m *repotest.Memory, n int64, o backup.Options, write func(*backup.Writer) error) (err error) {
	s, err := m.Begin(ctx, repo.Begin{Snapshot: at(n)})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Abort())
		}
	}()
	w, err := backup.NewWriter(s, o)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := write(w); err != nil {
		return err
	}
	list := manifest.New(at(n))
	for _, f := range w.Files() {
		if err := list.Add(f); err != nil {
			return err
		}
	}
	if o.Key != nil {
		if err := list.Sign(o.Key); err != nil {
			return err
		}
	}
	return s.Finish(ctx, list)
}

// dynamic backs one archive up.
func dynamic(t testing.TB, m *repotest.Memory, n int64, o backup.Options, data []byte) (r backup.Result) {
	t.Helper()
	err := session(t.Context(), m, n, o, func(w *backup.Writer) (err error) {
		r, err = w.DynamicFrom(t.Context(), fileArchive, cutter(t), pipe{bytes.NewReader(data), rng(uint64(n))})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	clean(t, m)
	return r
}

func random(seed uint64, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

func TestDynamicArchiveReadsBackAndIsCutByContent(t *testing.T) {
	data := slices.Concat(random(1, 1<<20), make([]byte, 1<<20), random(2, 300_001))
	for name, k := range map[string]*chunkcrypt.Key{"plain": nil, "encrypted": key(t, 1)} {
		t.Run(name, func(t *testing.T) {
			for workers := 1; workers <= 4; workers++ {
				o := backup.Options{Workers: workers, Key: k}
				if k != nil {
					o.CryptMode = manifest.ModeEncrypt
				}
				m := repotest.New()
				r := dynamic(t, m, 0, o, data)
				wantContent(t, m, 0, fileArchive, k, data)
				if r.Stats.Done() != int64(len(data)) || r.Stats.Read != int64(len(data)) || r.Archive.Size != uint64(len(data)) {
					t.Fatalf("%+v", r)
				}
				if r.Stats.Zero.Bytes != 3*256<<10 { // the fourth begins in what is before
					t.Errorf("%d bytes of zeros", r.Stats.Zero.Bytes)
				}
				// The same boundaries as the chunker's alone.
				s, err := m.Open(t.Context(), at(0))
				if err != nil {
					t.Fatal(err)
				}
				x, closer, err := s.OpenDynamic(fileArchive)
				if err != nil {
					t.Fatal(err)
				}
				var got, want []int64
				if err := x.Each(func(_ int, _, end int64, _ digest.Digest) error { got = append(got, end); return nil }); err != nil {
					t.Fatal(err)
				}
				_ = closer.Close()
				c := cutter(t)
				for at := 0; at < len(data); {
					n := c.Scan(data[at:])
					if n == 0 {
						n = len(data) - at
					}
					at += n
					want = append(want, int64(at))
				}
				if !slices.Equal(got, want) {
					t.Errorf("cut at %d, want %d", got, want)
				}
			}
		})
	}
}

// An insertion costs the chunk that it is in, and perhaps the next.
func TestDynamicArchiveSharesWhatMoved(t *testing.T) {
	for name, k := range map[string]*chunkcrypt.Key{"plain": nil, "encrypted": key(t, 1)} {
		t.Run(name, func(t *testing.T) {
			o := backup.Options{Workers: 2, Key: k}
			if k != nil {
				o.CryptMode = manifest.ModeEncrypt
			}
			m := repotest.New()
			data := random(3, 4<<20)
			dynamic(t, m, 0, o, data)
			m.Reset()
			if r := dynamic(t, m, 1, o, data); r.Stats.Stored.Chunks != 0 || m.Calls(repotest.OpHas) != 0 || r.NotReused != "" {
				t.Errorf("the same again: %+v, %d questions", r, m.Calls(repotest.OpHas))
			}
			data = slices.Concat(data[:1<<20], []byte("inserted"), data[1<<20:])
			m.Reset()
			r := dynamic(t, m, 2, o, data)
			if r.Stats.Stored.Chunks < 1 || r.Stats.Stored.Chunks > 3 || int64(m.Calls(repotest.OpHas)) != r.Stats.Stored.Chunks {
				t.Errorf("after an insertion: %+v, %d questions", r.Stats, m.Calls(repotest.OpHas))
			}
			wantContent(t, m, 2, fileArchive, k, data)
			other := o
			other.Key, other.CryptMode = key(t, 9), manifest.ModeEncrypt
			if r := dynamic(t, m, 3, other, data); r.NotReused == "" || r.Stats.Known.Chunks != 0 {
				t.Errorf("another key: %+v", r)
			}
			wantContent(t, m, 3, fileArchive, other.Key, data)
		})
	}
}

// Reused chunks stand between written ones, in order, whatever the workers do.
func TestInjectedChunksKeepTheirPlace(t *testing.T) {
	m := repotest.New()
	old := random(4, 2<<20)
	dynamic(t, m, 0, backup.Options{Workers: 1}, old)
	var want []byte
	err := session(t.Context(), m, 1, backup.Options{Workers: 3}, func(w *backup.Writer) error {
		idx, closer, why := w.PreviousDynamic(fileArchive)
		if idx == nil {
			t.Fatal(why)
		}
		defer closer.Close()
		d, err := w.Dynamic(t.Context(), fileArchive, cutter(t))
		if err != nil {
			return err
		}
		defer d.Abort()
		rnd := rng(7)
		for i := range 40 {
			fresh := random(uint64(10+i), rnd.IntN(200_000))
			if _, err := d.Write(fresh); err != nil {
				return err
			}
			want = append(want, fresh...)
			var reused []backup.Reused
			for range rnd.IntN(400) {
				k := rnd.IntN(idx.Count())
				e, err := idx.Entry(k)
				if err != nil {
					return err
				}
				start, end, err := idx.Bounds(k)
				if err != nil {
					return err
				}
				if len(want) > 64<<20 && len(reused) > 0 {
					break
				}
				reused = append(reused, backup.Reused{Digest: e.Digest, Length: int(end - start)})
				want = append(want, old[start:end]...)
			}
			if err := d.Inject(reused); err != nil {
				return err
			}
			if d.Offset() != int64(len(want)) {
				t.Fatalf("offset %d, want %d", d.Offset(), len(want))
			}
		}
		_, err = d.Close()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	clean(t, m)
	wantContent(t, m, 1, fileArchive, nil, want)
}

// A split archive has several streams that are written by turns, or at once.
func TestSeveralDynamicArchivesAtATime(t *testing.T) {
	m := repotest.New()
	a, b := random(5, 3<<20), random(6, 2<<20)
	const other = names.Archive("catalog.pcat1.didx")
	err := session(t.Context(), m, 0, backup.Options{Workers: 2}, func(w *backup.Writer) error {
		one, err := w.Dynamic(t.Context(), fileArchive, cutter(t))
		if err != nil {
			return err
		}
		defer one.Abort()
		two, err := w.Dynamic(t.Context(), other, cutter(t))
		if err != nil {
			return err
		}
		defer two.Abort()
		for n := range 3 {
			if _, err := one.Write(a[n<<20 : (n+1)<<20]); err != nil {
				return err
			}
			if n < 2 {
				if _, err := two.Write(b[n<<20 : (n+1)<<20]); err != nil {
					return err
				}
			}
		}
		_, err = one.Close()
		_, err2 := two.Close()
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
	clean(t, m)
	wantContent(t, m, 0, fileArchive, nil, a)
	wantContent(t, m, 0, other, nil, b)
	err = session(t.Context(), m, 1, backup.Options{Workers: 2}, func(w *backup.Writer) error {
		var wg sync.WaitGroup
		var errs [2]error
		for i, data := range [][]byte{a, b} {
			wg.Go(func() {
				for round := range 5 {
					name := names.Archive(fmt.Sprintf("part-%d-%d.pxar.didx", i, round))
					if _, err := w.DynamicFrom(t.Context(), name, cutter(t), bytes.NewReader(data)); err != nil {
						errs[i] = err
					}
				}
			})
		}
		wg.Wait()
		return errors.Join(errs[:]...)
	})
	if err != nil {
		t.Fatal(err)
	}
	clean(t, m)
	wantContent(t, m, 1, "part-1-4.pxar.didx", nil, b)
}

func TestDynamicRefuses(t *testing.T) {
	m := repotest.New()
	for what, write := range map[string]func(w *backup.Writer) error{
		"an empty archive": func(w *backup.Writer) error {
			_, err := w.DynamicFrom(t.Context(), fileArchive, cutter(t), bytes.NewReader(nil))
			return err
		},
		"the name of an image": func(w *backup.Writer) error {
			_, err := w.Dynamic(t.Context(), disk, cutter(t))
			return err
		},
		"a chunk that nobody cuts": func(w *backup.Writer) error {
			d, err := w.Dynamic(t.Context(), fileArchive, cutter(t))
			if err != nil {
				return err
			}
			defer d.Abort()
			return d.Append(make([]byte, 256<<10+1))
		},
		"a reader that fails": func(w *backup.Writer) error {
			_, err := w.DynamicFrom(t.Context(), fileArchive, cutter(t), io.MultiReader(bytes.NewReader(make([]byte, 1000)), broken{}))
			return err
		},
	} {
		if err := session(t.Context(), m, 0, backup.Options{Workers: 1}, write); err == nil {
			t.Errorf("%s: no error", what)
		}
		clean(t, m)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errIO }

// Every operation fails once, or the context ends in it, each in a run of its
// own.
func TestEveryFailureEndsADynamicArchiveCleanly(t *testing.T) {
	data := random(8, 1<<20)
	stop := errors.New("stop")
	for _, op := range []string{repotest.OpHas, repotest.OpPut, repotest.OpCreate, repotest.OpAdd, repotest.OpClose, repotest.OpOpen} {
		for _, cancels := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, cancelled %v", op, cancels), func(t *testing.T) {
				for n := int64(1); ; n++ {
					reached := false
					synctest.Test(t, func(t *testing.T) {
						m := repotest.New()
						dynamic(t, m, 0, backup.Options{Workers: 2}, data)
						changed := slices.Concat(random(9, 400_000), data, random(10, 400_000))
						ctx, cancel := context.WithCancelCause(t.Context())
						defer cancel(nil)
						var left atomic.Int64
						left.Store(n)
						m.Fail = func(o string) error {
							if o != op || left.Add(-1) != 0 {
								return nil
							}
							if cancels {
								cancel(stop)
								return nil
							}
							return errInjected
						}
						err := session(ctx, m, 1, backup.Options{Workers: 2}, func(w *backup.Writer) error {
							_, err := w.DynamicFrom(ctx, fileArchive, cutter(t), bytes.NewReader(changed))
							return err
						})
						clean(t, m)
						reached = left.Load() <= 0
						switch {
						case !reached, op == repotest.OpOpen && !cancels:
							if err != nil {
								t.Fatal(err)
							}
							return
						case cancels && errors.Is(err, stop), !cancels && errors.Is(err, errInjected):
						case cancels && (op == repotest.OpAdd || op == repotest.OpClose) && errors.Is(err, context.Canceled):
							// the end of the session noticed
						default:
							t.Fatalf("call %d: %v", n, err)
						}
						if m.Snapshots() != 1 {
							t.Fatal("a snapshot is visible")
						}
					})
					if !reached {
						if n == 1 {
							t.Fatal("never called")
						}
						return
					}
				}
			})
		}
	}
}

// A sparse file of a TiB in chunks of 256 KiB names the chunk of zeros four million
// times. Its places must not be looked for one behind the other.
func TestKnownChunksOfASparseFileTakeNoTime(t *testing.T) {
	m := repotest.New()
	s, err := m.Begin(t.Context(), repo.Begin{Snapshot: at(0)})
	if err != nil {
		t.Fatal(err)
	}
	const name, count, length = names.Archive("root.pxar.didx"), 1 << 20, 256 << 10
	zeros := digest.Of(make([]byte, length))
	m.Chunks[zeros] = []byte("not read")
	w, err := s.CreateDynamic(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(count) {
		if err := w.Add((i+1)*length, zeros); err != nil {
			t.Fatal(err)
		}
	}
	size, sum, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	list := manifest.New(at(0))
	if err := list.Add(manifest.File{Filename: string(name), CryptMode: manifest.ModeNone, Size: size, Csum: sum}); err != nil {
		t.Fatal(err)
	}
	if err := s.Finish(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	next, err := m.Begin(t.Context(), repo.Begin{Snapshot: at(1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = next.Abort() }()
	bw, err := backup.NewWriter(next, backup.Options{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer bw.Close()
	known, why := bw.Known(name)
	defer known.Close()
	if ok, err := known.Has(zeros, length); !ok || err != nil {
		t.Errorf("%v, %v, %s", ok, err, why)
	}
}
