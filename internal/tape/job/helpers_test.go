package job

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

const (
	chunkSize = 64 << 10 // four to a block of a tape
	image     = names.Archive("disk.img.fidx")
	tree      = names.Archive("root.pxar.didx")
	conf      = names.Archive("vm.conf.blob")
)

// store is a datastore on a disk in memory.
type store struct {
	*datastore.Store
	disk *simdisk.Disk
}

var stores atomic.Int64

func newStore(t testing.TB) store {
	t.Helper()
	d := simdisk.New(simdisk.Options{})
	if err := datastore.Create(t.Context(), d, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	s, err := datastore.Open(d, datastore.Options{
		Location: fmt.Sprintf("disk %d", stores.Add(1)),
		Sleep:    func(ctx context.Context, dt time.Duration) error { d.Advance(dt); return context.Cause(ctx) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return store{s, d}
}

func testKey(t testing.TB) *chunkcrypt.Key {
	t.Helper()
	k, err := chunkcrypt.New([32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func snapshot(name string) names.Snapshot {
	s, err := names.ParseSnapshot(name)
	if err != nil {
		panic(err)
	}
	return s
}

// day is a snapshot of vm/100.
func day(n int) names.Snapshot {
	return names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: int64(1_780_000_000 + n*86400)}
}

// content is n chunks that do not compress, those from some index on by the seed
// that has this index.
func content(n int, seeds ...uint64) []byte {
	b := make([]byte, n*chunkSize)
	for i := range n {
		seed := seeds[min(i, len(seeds)-1)]
		rng := mrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(i), byte(i >> 8)})
		_, _ = rng.Read(b[i*chunkSize : (i+1)*chunkSize])
	}
	return b
}

// keep stores an image, a file archive and a blob as one snapshot.
func keep(t testing.TB, s store, n names.Snapshot, data []byte, k *chunkcrypt.Key) {
	t.Helper()
	for ns := n.NS; !ns.IsRoot(); ns = ns.Parent() {
		if _, err := s.Namespaces(t.Context(), ns); err != nil {
			if err := prepare(t.Context(), s, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := write(t.Context(), s, n, data, k); err != nil {
		t.Fatal(err)
	}
}

func write(ctx context.Context, s repo.Repository, n names.Snapshot, data []byte, k *chunkcrypt.Key) (err error) {
	ses, err := s.Begin(ctx, repo.Begin{Snapshot: n, Owner: "guest@pbs"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ses.Abort()) }()
	enc, err := blob.NewEncoder(k, rand.Reader, true)
	if err != nil {
		return err
	}
	defer enc.Close()
	put := func(plain []byte) (digest.Digest, error) {
		d := digest.Of(plain)
		if k != nil {
			d = k.Digest(plain)
		}
		raw, err := enc.Append(nil, plain)
		if err == nil {
			_, err = ses.Put(ctx, d, len(plain), raw)
		}
		return d, err
	}
	mode := manifest.ModeNone
	if k != nil {
		mode = manifest.ModeEncrypt
	}
	m := manifest.New(n)
	w, err := ses.CreateFixed(image, int64(len(data)), chunkSize)
	if err != nil {
		return err
	}
	for i := range len(data) / chunkSize {
		d, err := put(data[i*chunkSize : (i+1)*chunkSize])
		if err != nil {
			return err
		}
		if err := w.Set(i, d); err != nil {
			return err
		}
	}
	sum, err := w.Close()
	if err != nil {
		return err
	}
	if err := m.Add(manifest.File{Filename: image.String(), CryptMode: mode, Size: uint64(len(data)), Csum: sum}); err != nil {
		return err
	}
	dyn, err := ses.CreateDynamic(tree)
	if err != nil {
		return err
	}
	end := 0
	for part := range slices.Chunk(data[:len(data)/2], 3*chunkSize-100) {
		d, err := put(part)
		if err != nil {
			return err
		}
		end += len(part)
		if err := dyn.Add(uint64(end), d); err != nil {
			return err
		}
	}
	size, sum, err := dyn.Close()
	if err != nil {
		return err
	}
	if err := m.Add(manifest.File{Filename: tree.String(), CryptMode: mode, Size: size, Csum: sum}); err != nil {
		return err
	}
	raw, err := enc.Append(nil, fmt.Appendf(nil, "memory: %d\n", n.Time))
	if err != nil {
		return err
	}
	if err := ses.PutBlob(ctx, conf, raw); err != nil {
		return err
	}
	if err := m.Add(manifest.File{Filename: conf.String(), CryptMode: mode, Size: uint64(len(raw)), Csum: digest.Of(raw)}); err != nil {
		return err
	}
	m.SetNotes("notes of " + n.String())
	if k != nil {
		if err := m.Sign(k); err != nil {
			return err
		}
	}
	return ses.Finish(ctx, m)
}

// listing is what a repository holds: of each snapshot all files, byte for byte,
// but for the manifest what it lists.
func listing(t testing.TB, s repo.Repository) map[string]string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	all, err := s.Namespaces(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]string{}
	for _, ns := range append([]names.Namespace{""}, all...) {
		infos, err := s.Snapshots(ctx, ns, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range infos {
			if !i.Finished {
				list[i.Snapshot.Path()] = "unfinished"
				continue
			}
			snap, err := s.Open(ctx, i.Snapshot)
			if err != nil {
				t.Fatal(err)
			}
			sum := bytes.Buffer{}
			for _, name := range fileNames(snap)[1:] {
				f, err := openFile(snap, name)
				if name == names.ClientLog && errors.Is(err, repo.ErrNotFound) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(f.write(&sum), f.close()); err != nil {
					t.Fatal(err)
				}
			}
			list[i.Snapshot.Path()] = fmt.Sprintf("%v %q %s %s", i.Files, i.Notes, i.Fingerprint, digest.Of(sum.Bytes()))
			if err := snap.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return list
}

// equal reports what of a is not in b, and what does not verify.
func equal(t testing.TB, a, b repo.Repository) {
	t.Helper()
	want, got := listing(t, a), listing(t, b)
	for name, what := range want {
		if got[name] != what {
			t.Errorf("%s is %q, not %q", name, got[name], what)
		}
	}
	for name, what := range got {
		if want[name] == "" {
			t.Errorf("%s is there: %s", name, what)
		}
	}
	verified(t, b)
}

func verified(t testing.TB, s repo.Repository) {
	t.Helper()
	rep, err := s.Verify(context.WithoutCancel(t.Context()), repo.VerifyOptions{Recursive: true, Key: testKey(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range rep.Snapshots {
		if err := errors.Join(v.Errors...); err != nil {
			t.Errorf("%s does not verify: %v", v.Snapshot, err)
		}
	}
}

// site is a library with an inventory.
type site struct {
	*World
	lib  *library
	dir  string
	now  time.Time
	pool media.Pool
	logs *[]string
}

// tapes are n empty cartridges of so many blocks, with names of a letter and a
// number.
func tapes(letter string, n, capacity int) []*cartridge {
	var list []*cartridge
	for i := range n {
		c := &cartridge{barcode: fmt.Sprintf("%s%05dL8", letter, i+1), capacity: capacity}
		if capacity > 0 {
			c.early = capacity - 4
		}
		list = append(list, c)
	}
	return list
}

func newSite(t testing.TB, list ...*cartridge) *site {
	t.Helper()
	s := &site{lib: newLibrary(list...), dir: t.TempDir(), now: time.Unix(1_790_000_000, 0), pool: media.Pool{Name: "daily"}, logs: new([]string)}
	s.reopen(t)
	return s
}

// reopen is another process on the same site.
func (s *site) reopen(t testing.TB) {
	t.Helper()
	state, err := media.Open(s.dir, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	log := func(kind string) func(string, ...any) {
		return func(format string, args ...any) { *s.logs = append(*s.logs, kind+fmt.Sprintf(format, args...)) }
	}
	s.World = &World{
		State: state,
		Now:   func() time.Time { s.now = s.now.Add(time.Second); return s.now },
		Logf:  log(""), Warnf: log("warning: "),
		Station: &Station{
			Name: "drive0", Open: s.lib.openDrive, Changer: s.lib, ChangerName: "lib0",
			Ask: func(what string) { log("ask: ")("%s", what) }, Logf: log("station: "),
			Sleep: func(ctx context.Context, _ time.Duration) error { return errNobody },
		},
	}
}

// errNobody ends the wait for people who are not there.
var errNobody = errors.New("nobody changes the medium")

func (s *site) label(t testing.TB) {
	t.Helper()
	if _, err := s.BarcodeLabel(t.Context(), s.pool.Name); err != nil {
		t.Fatal(err)
	}
}

// showLogs prints what jobs said if the test failed.
func (s *site) showLogs(t testing.TB) {
	if t.Failed() {
		for _, l := range *s.logs {
			t.Log(l)
		}
	}
}

func (s *site) backup(t testing.TB, from store, b Backup) Stats {
	t.Helper()
	b.Repo = from
	if b.Store == "" {
		b.Store = "store1"
	}
	stats, err := s.Backup(t.Context(), s.pool, b)
	if err != nil {
		s.showLogs(t)
		t.Fatal(err)
	}
	return stats
}

// restore brings everything of all media sets, oldest first, into a new store.
func (s *site) restore(t testing.TB) (store, RestoreStats) {
	t.Helper()
	to := newStore(t)
	target := &Target{Repo: to}
	inv, err := s.State.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	var sum RestoreStats
	for _, id := range inv.MediaSets() {
		stats, err := s.RestoreAll(t.Context(), Restore{MediaSet: id, Target: func(string) *Target { return target }})
		if err != nil {
			s.showLogs(t)
			t.Fatal(err)
		}
		sum.Snapshots += stats.Snapshots
		sum.Skipped += stats.Skipped
		sum.Failed += stats.Failed
		sum.Damaged += stats.Damaged
	}
	return to, sum
}
