package replicate_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/replicate"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

const (
	chunkSize = 1024
	image     = names.Archive("disk.img.fidx")
	tree      = names.Archive("root.pxar.didx")
	conf      = names.Archive("vm.conf.blob")
)

// place is a datastore on a disk in memory.
type place struct {
	*datastore.Store
	disk *simdisk.Disk
}

func newPlace(t testing.TB) place {
	t.Helper()
	d := simdisk.New(simdisk.Options{})
	if err := datastore.Create(t.Context(), d, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	return place{open(t, d, d), d}
}

var places int

func open(t testing.TB, fsys vfs.FS, d *simdisk.Disk) *datastore.Store {
	t.Helper()
	places++
	s, err := datastore.Open(fsys, datastore.Options{
		Location: fmt.Sprintf("disk %d", places),
		Sleep:    func(ctx context.Context, dt time.Duration) error { d.Advance(dt); return context.Cause(ctx) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func key(t testing.TB) *chunkcrypt.Key {
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

// content is n chunks, of which those from some index on depend on the seed.
func content(n int, seeds ...uint64) []byte {
	var b []byte
	for i := range n {
		seed := seeds[min(i, len(seeds)-1)]
		rng := mrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(i)})
		part := make([]byte, chunkSize)
		_, _ = rng.Read(part)
		b = append(b, part...)
	}
	return b
}

// backup stores an image, a file archive and a blob as one snapshot.
func backup(t testing.TB, s repo.Repository, n names.Snapshot, data []byte, k *chunkcrypt.Key) {
	t.Helper()
	if err := store(t.Context(), s, n, data, k); err != nil {
		t.Fatal(err)
	}
}

func store(ctx context.Context, s repo.Repository, n names.Snapshot, data []byte, k *chunkcrypt.Key) (err error) {
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
	for part := range slices.Chunk(data, 3*chunkSize-100) {
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

// run replicates and wants it to succeed in all.
func run(t testing.TB, from, to repo.Repository, o replicate.Options) replicate.Report {
	t.Helper()
	o.Logf = t.Logf
	rep, err := replicate.Run(t.Context(), from, to, o)
	if err = errors.Join(err, rep.Err()); err != nil {
		t.Fatal(err)
	}
	return rep
}

// listing is what a repository holds, one line a snapshot: what its manifest says,
// notes and the log with it.
func listing(t testing.TB, s repo.Repository, ns names.Namespace) []string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	all, err := s.Namespaces(ctx, ns)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, n := range append([]names.Namespace{ns}, all...) {
		infos, err := s.Snapshots(ctx, n, nil)
		if err != nil {
			t.Fatal(err)
		}
		rest := strings.TrimPrefix(strings.TrimPrefix(n.String(), ns.String()), "/")
		for _, i := range infos {
			if !i.Finished {
				list = append(list, path.Join(rest, i.Snapshot.String())+" unfinished")
				continue
			}
			list = append(list, fmt.Sprintf("%s %v %q %s %s", path.Join(rest, i.Snapshot.String()), i.Files, i.Notes, i.Fingerprint, logText(t, s, i.Snapshot)))
		}
	}
	return list
}

func logText(t testing.TB, s repo.Repository, n names.Snapshot) string {
	t.Helper()
	snap, err := s.Open(context.WithoutCancel(t.Context()), n)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = snap.Close() }()
	raw, err := snap.Blob(names.ClientLog)
	if errors.Is(err, repo.ErrNotFound) {
		return "no log"
	}
	return fmt.Sprintf("log %x %v", raw, err)
}

// equal reports a difference between two repositories, and that the second one
// does not verify.
func equal(t testing.TB, a, b repo.Repository) {
	t.Helper()
	same(t, listing(t, a, names.Root), listing(t, b, names.Root))
	verified(t, b)
}

func same(t testing.TB, want, got []string) {
	t.Helper()
	if !slices.Equal(want, got) {
		t.Errorf("the source has\n  %s\nthe target has\n  %s", strings.Join(want, "\n  "), strings.Join(got, "\n  "))
	}
}

func verified(t testing.TB, s repo.Repository) {
	t.Helper()
	rep, err := s.Verify(context.WithoutCancel(t.Context()), repo.VerifyOptions{Recursive: true, Key: key(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range rep.Snapshots {
		if err := errors.Join(v.Errors...); err != nil {
			t.Errorf("%s does not verify: %v", v.Snapshot, err)
		}
	}
}

func putLog(t testing.TB, s repo.Repository, n names.Snapshot, text string) {
	t.Helper()
	enc, err := blob.NewEncoder(nil, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	raw, err := enc.Append(nil, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PutLog(t.Context(), n, raw); err != nil {
		t.Fatal(err)
	}
}

func spoil(t testing.TB, p place, name string) {
	t.Helper()
	err := p.disk.Corrupt(name, func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)-1] ^= 1
		return b
	})
	if err != nil {
		t.Fatal(err)
	}
}
