package datastore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

const (
	chunkSize = 1024 // small, so that many disks fit through the tests; two sectors
	imageName = names.Archive("disk.img.fidx")
	confName  = names.Archive("vm.conf.blob")
	treeName  = names.Archive("root.pxar.didx")
)

// client is a minimal backup client: no parallelism, no cleverness, so that a
// failure is the store's.
type client struct {
	enc *blob.Encoder
	dec *blob.Decoder
}

func newClient(t testing.TB) *client {
	t.Helper()
	enc, err := blob.NewEncoder(nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := blob.NewDecoder(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { enc.Close(); dec.Close() })
	return &client{enc, dec}
}

// backup stores img and conf as one snapshot, and a third archive that is made
// of both. Chunks equal to the previous snapshot's, those of the image in the
// same slot, are not sent.
func (c *client) backup(ctx context.Context, s *datastore.Store, n names.Snapshot, img, conf []byte) error {
	ses, err := s.Begin(ctx, repo.Begin{Snapshot: n})
	if err != nil {
		return err
	}
	return c.write(ctx, ses, img, conf)
}

// mend stores the snapshot anew.
func (c *client) mend(ctx context.Context, s *datastore.Store, n names.Snapshot, img, conf []byte) error {
	ses, err := s.Mend(ctx, n)
	if err != nil {
		return err
	}
	return c.write(ctx, ses, img, conf)
}

func (c *client) write(ctx context.Context, ses repo.Session, img, conf []byte) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, ses.Abort())
		}
	}()
	m := manifest.New(ses.Snapshot())
	sum, err := c.image(ctx, ses, img)
	if err != nil {
		return err
	}
	if err := m.Add(manifest.File{Filename: imageName.String(), CryptMode: manifest.ModeNone, Size: uint64(len(img)), Csum: sum}); err != nil {
		return err
	}
	size, sum, err := c.tree(ctx, ses, treeOf(img, conf))
	if err != nil {
		return err
	}
	if err := m.Add(manifest.File{Filename: treeName.String(), CryptMode: manifest.ModeNone, Size: size, Csum: sum}); err != nil {
		return err
	}
	raw, err := c.enc.Append(nil, conf)
	if err != nil {
		return err
	}
	if err := ses.PutBlob(ctx, confName, raw); err != nil {
		return err
	}
	if err := m.Add(manifest.File{Filename: confName.String(), CryptMode: manifest.ModeNone, Size: uint64(len(raw)), Csum: digest.Of(raw)}); err != nil {
		return err
	}
	return ses.Finish(ctx, m)
}

func (c *client) image(ctx context.Context, ses repo.Session, img []byte) (digest.Digest, error) {
	w, err := ses.CreateFixed(imageName, int64(len(img)), chunkSize)
	if err != nil {
		return digest.Digest{}, err
	}
	known, err := knownDigests(ses)
	if err != nil {
		return digest.Digest{}, errors.Join(err, ignore(w.Close()))
	}
	for i := 0; i*chunkSize < len(img); i++ {
		plain := img[i*chunkSize : min((i+1)*chunkSize, len(img))]
		d := digest.Of(plain)
		if i >= len(known) || known[i] != d {
			if err := c.send(ctx, ses, d, plain); err != nil {
				return digest.Digest{}, errors.Join(err, ignore(w.Close()))
			}
		}
		if err := w.Set(i, d); err != nil {
			return digest.Digest{}, errors.Join(err, ignore(w.Close()))
		}
	}
	return w.Close()
}

// treeOf is what the dynamic archive holds: chunks that are in no image, and
// that move when what comes before them grows.
func treeOf(img, conf []byte) []byte {
	tree := bytes.Clone(conf)
	for _, b := range img {
		tree = append(tree, ^b)
	}
	return tree
}

// cut returns the length of the chunk that b begins with; it depends on the
// content.
func cut(b []byte) int { return min(len(b), 3*chunkSize/2+4*int(b[0])) }

func (c *client) tree(ctx context.Context, ses repo.Session, tree []byte) (size uint64, sum digest.Digest, err error) {
	w, err := ses.CreateDynamic(treeName)
	if err != nil {
		return 0, sum, err
	}
	known := map[digest.Digest]bool{}
	if prev := ses.Previous(); prev != nil {
		x, closer, err := prev.OpenDynamic(treeName)
		if err != nil {
			return 0, sum, err // without Close: the end of the session has to do
		}
		err = x.Each(func(_ int, _, _ int64, d digest.Digest) error { known[d] = true; return nil })
		if err := errors.Join(err, closer.Close()); err != nil {
			return 0, sum, err
		}
	}
	for len(tree) > 0 {
		plain := tree[:cut(tree)]
		tree = tree[len(plain):]
		d := digest.Of(plain)
		if !known[d] {
			err = c.send(ctx, ses, d, plain)
		}
		size += uint64(len(plain))
		if err == nil {
			err = w.Add(size, d)
		}
		if err != nil {
			return 0, sum, err
		}
	}
	return w.Close()
}

func ignore(_ digest.Digest, _ error) error { return nil }

func knownDigests(ses repo.Session) ([]digest.Digest, error) {
	prev := ses.Previous()
	if prev == nil {
		return nil, nil
	}
	x, closer, err := prev.OpenFixed(imageName)
	if err != nil {
		return nil, err
	}
	known := make([]digest.Digest, x.Count())
	return known, errors.Join(x.Digests(0, known), closer.Close())
}

func (c *client) send(ctx context.Context, ses repo.Session, d digest.Digest, plain []byte) error {
	has, err := ses.Has(ctx, d)
	if err != nil || has {
		return err
	}
	raw, err := c.enc.Append(nil, plain)
	if err != nil {
		return err
	}
	_, err = ses.Put(ctx, d, len(plain), raw)
	return err
}

// restore reads a snapshot back, believing nothing.
func (c *client) restore(ctx context.Context, s *datastore.Store, n names.Snapshot) (img, conf []byte, err error) {
	snap, err := s.Open(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	x, closer, err := snap.OpenFixed(imageName)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	img = make([]byte, 0, min(x.Size, 1<<20))
	var raw []byte
	for i := range x.Count() {
		d, err := x.Digest(i)
		if err != nil {
			return nil, nil, err
		}
		if raw, err = snap.ReadChunk(ctx, d, raw); err != nil {
			return nil, nil, fmt.Errorf("chunk %d: %w", i, err)
		}
		before := len(img)
		if img, err = c.dec.Append(img, raw, chunkSize); err != nil {
			return nil, nil, fmt.Errorf("chunk %d: %w", i, err)
		}
		if digest.Of(img[before:]) != d {
			return nil, nil, fmt.Errorf("chunk %d has the wrong content", i)
		}
	}
	if raw, err = snap.Blob(confName); err != nil {
		return nil, nil, err
	}
	if conf, err = c.dec.Append(nil, raw, 1<<20); err != nil {
		return nil, nil, err
	}
	tree, err := c.restoreTree(ctx, snap)
	if err == nil && !bytes.Equal(tree, treeOf(img, conf)) {
		err = errors.New("the dynamic archive restores to something else")
	}
	return img, conf, err
}

func (c *client) restoreTree(ctx context.Context, snap repo.Snapshot) (tree []byte, err error) {
	x, closer, err := snap.OpenDynamic(treeName)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	err = x.Each(func(i int, start, end int64, d digest.Digest) error {
		raw, err := snap.ReadChunk(ctx, d, nil)
		if err != nil {
			return fmt.Errorf("chunk %d: %w", i, err)
		}
		if tree, err = c.dec.Append(tree, raw, 4*chunkSize); err != nil {
			return fmt.Errorf("chunk %d: %w", i, err)
		}
		if int64(len(tree)) != end || digest.Of(tree[start:]) != d {
			return fmt.Errorf("chunk %d has the wrong content", i)
		}
		return nil
	})
	return tree, err
}

func (c *client) putLog(ctx context.Context, s *datastore.Store, n names.Snapshot, text string) error {
	raw, err := c.enc.Append(nil, []byte(text))
	if err != nil {
		return err
	}
	return s.PutLog(ctx, n, raw)
}

func (c *client) readLog(ctx context.Context, s *datastore.Store, n names.Snapshot) (text string, err error) {
	snap, err := s.Open(ctx, n)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	raw, err := snap.Blob(names.ClientLog)
	if err != nil {
		return "", err
	}
	plain, err := c.dec.Append(nil, raw, 1<<20)
	return string(plain), err
}

// content is what a snapshot must restore to.
type content struct{ img, conf []byte }

func randomContent(rng *rand.Rand, chunks int) content {
	c := content{img: make([]byte, chunks*chunkSize-int(rng.IntN(2))*100), conf: fmt.Appendf(nil, "memory: %d\n", rng.IntN(1<<16))}
	fill(rng, c.img)
	return c
}

// changed returns the content with some of its chunks written over.
func (c content) changed(rng *rand.Rand) content {
	n := content{bytes.Clone(c.img), fmt.Appendf(nil, "memory: %d\n", rng.IntN(1<<16))}
	for range 1 + rng.IntN(2) {
		i := rng.IntN((len(n.img) + chunkSize - 1) / chunkSize)
		fill(rng, n.img[i*chunkSize:min((i+1)*chunkSize, len(n.img))])
	}
	return n
}

func fill(rng *rand.Rand, b []byte) {
	var word [8]byte
	for i := 0; i < len(b); i += len(word) {
		binary.LittleEndian.PutUint64(word[:], rng.Uint64())
		copy(b[i:], word[:])
	}
}

func snapshotAt(id string, at time.Time) names.Snapshot {
	return names.Snapshot{Group: names.Group{Type: names.VM, ID: id}, Time: at.Unix()}
}

// newDisk returns a disk with an empty store, and its opener.
func newDisk(t testing.TB) *simdisk.Disk {
	t.Helper()
	d := simdisk.New(simdisk.Options{})
	if err := datastore.Create(t.Context(), d, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	return d
}

// open opens the store on a disk; sleeping moves the disk's clock.
func open(fsys vfs.FS, d *simdisk.Disk) (*datastore.Store, error) {
	return datastore.Open(fsys, datastore.Options{
		Location: "simulated disk",
		Sleep: func(ctx context.Context, dt time.Duration) error {
			d.Advance(dt)
			return context.Cause(ctx)
		},
	})
}

func mustOpen(t testing.TB, d *simdisk.Disk) *datastore.Store {
	t.Helper()
	s, err := open(d, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
