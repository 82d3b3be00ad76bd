package contract

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// What a backup of the client has. Chunks are small.
const (
	ChunkSize = 1024
	ImageName = names.Archive("disk.img.fidx")
	ConfName  = names.Archive("vm.conf.blob")
	TreeName  = names.Archive("root.pxar.didx")
)

// Client is a minimal backup client: no parallelism, no cleverness, so that a
// failure is the repository's.
type Client struct {
	enc *blob.Encoder
	dec *blob.Decoder
}

// NewClient returns a client without a key, which does not compress.
func NewClient(t testing.TB) *Client {
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
	return &Client{enc, dec}
}

// Content is what a snapshot must restore to: an image, a small file, and a tree that is
// made of both.
type Content struct{ Image, Conf []byte }

// Equal compares.
func (c Content) Equal(o Content) bool {
	return bytes.Equal(c.Image, o.Image) && bytes.Equal(c.Conf, o.Conf)
}

// Random makes content of some chunks.
func Random(rng *rand.Rand, chunks int) Content {
	c := Content{make([]byte, chunks*ChunkSize-int(rng.IntN(2))*100), fmt.Appendf(nil, "memory: %d\n", rng.IntN(1<<16))}
	Fill(rng, c.Image)
	return c
}

// Changed returns the content with some of its chunks written over.
func (c Content) Changed(rng *rand.Rand) Content {
	n := Content{bytes.Clone(c.Image), fmt.Appendf(nil, "memory: %d\n", rng.IntN(1<<16))}
	for range 1 + rng.IntN(2) {
		i := rng.IntN((len(n.Image) + ChunkSize - 1) / ChunkSize)
		Fill(rng, n.Image[i*ChunkSize:min((i+1)*ChunkSize, len(n.Image))])
	}
	return n
}

// Fill writes noise over b.
func Fill(rng *rand.Rand, b []byte) {
	var word [8]byte
	for i := 0; i < len(b); i += len(word) {
		binary.LittleEndian.PutUint64(word[:], rng.Uint64())
		copy(b[i:], word[:])
	}
}

// Beginner is where backups begin.
type Beginner interface {
	Begin(ctx context.Context, b repo.Begin) (repo.Session, error)
}

// Opener is where snapshots are opened.
type Opener interface {
	Open(ctx context.Context, n names.Snapshot) (repo.Snapshot, error)
}

// Backup stores content as one snapshot. Chunks equal to the previous snapshot's
// are not sent.
func (c *Client) Backup(ctx context.Context, r Beginner, n names.Snapshot, what Content) error {
	ses, err := r.Begin(ctx, repo.Begin{Snapshot: n})
	if err != nil {
		return err
	}
	return c.Write(ctx, ses, what)
}

// MendAll stores the snapshot anew.
func (c *Client) MendAll(ctx context.Context, r repo.Mender, n names.Snapshot, what Content) error {
	ses, err := r.Mend(ctx, n)
	if err != nil {
		return err
	}
	return c.Write(ctx, ses, what)
}

// Write stores content in a session and finishes it, or aborts it.
func (c *Client) Write(ctx context.Context, ses repo.Session, what Content) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, ses.Abort())
		}
	}()
	m, err := c.WriteAll(ctx, ses, what)
	if err != nil {
		return err
	}
	return ses.Finish(ctx, m)
}

// WriteAll does all but to finish.
func (c *Client) WriteAll(ctx context.Context, ses repo.Session, what Content) (*manifest.Manifest, error) {
	m := manifest.New(ses.Snapshot())
	sum, err := c.WriteImage(ctx, ses, what.Image)
	if err != nil {
		return nil, err
	}
	if err := m.Add(manifest.File{Filename: ImageName.String(), CryptMode: manifest.ModeNone, Size: uint64(len(what.Image)), Csum: sum}); err != nil {
		return nil, err
	}
	size, sum, err := c.tree(ctx, ses, what.Tree())
	if err != nil {
		return nil, err
	}
	if err := m.Add(manifest.File{Filename: TreeName.String(), CryptMode: manifest.ModeNone, Size: size, Csum: sum}); err != nil {
		return nil, err
	}
	raw, err := c.Encode(what.Conf)
	if err != nil {
		return nil, err
	}
	if err := ses.PutBlob(ctx, ConfName, raw); err != nil {
		return nil, err
	}
	return m, m.Add(manifest.File{Filename: ConfName.String(), CryptMode: manifest.ModeNone, Size: uint64(len(raw)), Csum: digest.Of(raw)})
}

// Encode makes a blob.
func (c *Client) Encode(plain []byte) ([]byte, error) { return c.enc.Append(nil, plain) }

// WriteImage stores an image.
func (c *Client) WriteImage(ctx context.Context, ses repo.Session, img []byte) (digest.Digest, error) {
	w, err := ses.CreateFixed(ImageName, int64(len(img)), ChunkSize)
	if err != nil {
		return digest.Digest{}, err
	}
	known, err := knownDigests(ses)
	if err != nil {
		return digest.Digest{}, err
	}
	for i := 0; i*ChunkSize < len(img); i++ {
		plain := img[i*ChunkSize : min((i+1)*ChunkSize, len(img))]
		d := digest.Of(plain)
		if i >= len(known) || known[i] != d {
			if err := c.Send(ctx, ses, plain); err != nil {
				return digest.Digest{}, err
			}
		}
		if err := w.Set(i, d); err != nil {
			return digest.Digest{}, err
		}
	}
	return w.Close()
}

func knownDigests(ses repo.Session) ([]digest.Digest, error) {
	prev := ses.Previous()
	if prev == nil {
		return nil, nil
	}
	x, closer, err := prev.OpenFixed(ImageName)
	if err != nil {
		return nil, err
	}
	known := make([]digest.Digest, x.Count())
	return known, errors.Join(x.Digests(0, known), closer.Close())
}

// Tree is what the dynamic archive holds: chunks that are in no image, and
// that move when what comes before them grows.
func (c Content) Tree() []byte {
	tree := bytes.Clone(c.Conf)
	for _, b := range c.Image {
		tree = append(tree, ^b)
	}
	return tree
}

// cut returns the length of the chunk that b begins with; it depends on the
// content.
func cut(b []byte) int { return min(len(b), 3*ChunkSize/2+4*int(b[0])) }

func (c *Client) tree(ctx context.Context, ses repo.Session, tree []byte) (size uint64, sum digest.Digest, err error) {
	w, err := ses.CreateDynamic(TreeName)
	if err != nil {
		return 0, sum, err
	}
	known := map[digest.Digest]bool{}
	if prev := ses.Previous(); prev != nil {
		x, closer, err := prev.OpenDynamic(TreeName)
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
			err = c.Send(ctx, ses, plain)
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

// Send stores one chunk, unless it is there.
func (c *Client) Send(ctx context.Context, ses repo.Session, plain []byte) error {
	d := digest.Of(plain)
	has, err := ses.Has(ctx, d)
	if err != nil || has {
		return err
	}
	raw, err := c.Encode(plain)
	if err != nil {
		return err
	}
	_, err = ses.Put(ctx, d, len(plain), raw)
	return err
}

// Restore reads a snapshot back, believing nothing.
func (c *Client) Restore(ctx context.Context, r Opener, n names.Snapshot) (what Content, err error) {
	snap, err := r.Open(ctx, n)
	if err != nil {
		return what, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	return c.Read(ctx, snap)
}

// Read reads all of an open snapshot.
func (c *Client) Read(ctx context.Context, snap repo.Snapshot) (what Content, err error) {
	x, closer, err := snap.OpenFixed(ImageName)
	if err != nil {
		return what, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	for i := range x.Count() {
		d, err := x.Digest(i)
		if err == nil {
			what.Image, err = c.chunk(ctx, snap, d, what.Image)
		}
		if err != nil {
			return what, fmt.Errorf("chunk %d: %w", i, err)
		}
	}
	raw, err := snap.Blob(ConfName)
	if err != nil {
		return what, err
	}
	if what.Conf, err = c.dec.Append(nil, raw, 1<<20); err != nil {
		return what, err
	}
	tree, err := c.readTree(ctx, snap)
	if err == nil && !bytes.Equal(tree, what.Tree()) {
		err = errors.New("the dynamic archive restores to something else")
	}
	return what, err
}

// chunk appends one that is proven.
func (c *Client) chunk(ctx context.Context, snap repo.Snapshot, d digest.Digest, to []byte) ([]byte, error) {
	raw, err := snap.ReadChunk(ctx, d, nil)
	if err != nil {
		return to, err
	}
	before := len(to)
	if to, err = c.dec.Append(to, raw, 4*ChunkSize); err != nil {
		return to, &repo.CorruptError{What: "chunk " + d.String(), Err: err}
	}
	if digest.Of(to[before:]) != d {
		return to, &repo.CorruptError{What: "chunk " + d.String(), Err: errors.New("it has another content")}
	}
	return to, nil
}

func (c *Client) readTree(ctx context.Context, snap repo.Snapshot) (tree []byte, err error) {
	x, closer, err := snap.OpenDynamic(TreeName)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	err = x.Each(func(i int, _, end int64, d digest.Digest) (err error) {
		if tree, err = c.chunk(ctx, snap, d, tree); err != nil {
			return fmt.Errorf("chunk %d: %w", i, err)
		}
		if int64(len(tree)) != end {
			return fmt.Errorf("chunk %d ends at %d, want %d", i, len(tree), end)
		}
		return nil
	})
	return tree, err
}

// Copy is a snapshot somewhere else: its files and its chunks.
type Copy struct {
	Name     names.Snapshot
	Manifest *manifest.Manifest
	Files    map[names.Archive][]byte
	Chunks   map[digest.Digest][]byte
}

// TakeAway reads all of a snapshot as it is stored.
func (c *Client) TakeAway(ctx context.Context, r Opener, n names.Snapshot) (_ Copy, err error) {
	snap, err := r.Open(ctx, n)
	if err != nil {
		return Copy{}, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	out := Copy{n, snap.Manifest(), map[names.Archive][]byte{}, map[digest.Digest][]byte{}}
	take := func(d digest.Digest) (err error) {
		out.Chunks[d], err = snap.ReadChunk(ctx, d, nil)
		return err
	}
	for _, f := range out.Manifest.Files {
		var b bytes.Buffer
		switch f.Archive().Kind() {
		case names.Fidx:
			x, closer, err := snap.OpenFixed(f.Archive())
			if err != nil {
				return out, err
			}
			_, err = x.WriteTo(&b)
			if err := errors.Join(err, x.Each(func(_ int, d digest.Digest) error { return take(d) }), closer.Close()); err != nil {
				return out, err
			}
		case names.Didx:
			x, closer, err := snap.OpenDynamic(f.Archive())
			if err != nil {
				return out, err
			}
			_, err = x.WriteTo(&b)
			if err := errors.Join(err, x.Each(func(_ int, _, _ int64, d digest.Digest) error { return take(d) }), closer.Close()); err != nil {
				return out, err
			}
		default:
			raw, err := snap.Blob(f.Archive())
			if err != nil {
				return out, err
			}
			b.Write(raw)
		}
		out.Files[f.Archive()] = b.Bytes()
	}
	return out, nil
}

// BringBack stores the files of a copy, whose chunks are there already.
func (c *Client) BringBack(ctx context.Context, r repo.Refill, from Copy) (err error) {
	ses, err := r.Begin(ctx, repo.Begin{Snapshot: from.Name})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ses.Abort())
		}
	}()
	for _, f := range from.Manifest.Files {
		raw := from.Files[f.Archive()]
		if f.Archive().Kind() == names.Blob {
			if err := ses.PutBlob(ctx, f.Archive(), raw); err != nil {
				return err
			}
			continue
		}
		size, sum, err := ses.PutIndex(ctx, f.Archive(), bytes.NewReader(raw))
		if err == nil && (size != f.Size || sum != f.Csum) {
			err = fmt.Errorf("%s: %d bytes, %s", f.Filename, size, sum)
		}
		if err != nil {
			return err
		}
	}
	return ses.Finish(ctx, from.Manifest)
}
