package datastore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

const rotChunk = 512 // small, so that every byte can be changed

// rotStore is a small store, half of it encrypted and signed.
type rotStore struct {
	disk    *simdisk.Disk
	key     *chunkcrypt.Key
	content map[names.Snapshot]content
	kinds   map[string][]string // files, by what they are
}

// rotClient reads and writes with or without a key.
type rotClient struct {
	key *chunkcrypt.Key
	enc *blob.Encoder
	dec *blob.Decoder
}

func newRotClient(t testing.TB, key *chunkcrypt.Key) *rotClient {
	t.Helper()
	enc, err := blob.NewEncoder(key, newBytes(1), true)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := blob.NewDecoder(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { enc.Close(); dec.Close() })
	return &rotClient{key, enc, dec}
}

func (c *rotClient) name(plain []byte) digest.Digest {
	if c.key != nil {
		return c.key.Digest(plain)
	}
	return digest.Of(plain)
}

func (c *rotClient) backup(s *datastore.Store, n names.Snapshot, img, conf []byte) error {
	ctx := context.Background()
	ses, err := s.Begin(ctx, repo.Begin{Snapshot: n})
	if err != nil {
		return err
	}
	w, err := ses.CreateFixed(contract.ImageName, int64(len(img)), rotChunk)
	if err != nil {
		return err
	}
	for i := 0; i*rotChunk < len(img); i++ {
		plain := img[i*rotChunk : min((i+1)*rotChunk, len(img))]
		raw, err := c.enc.Append(nil, plain)
		if err == nil {
			_, err = ses.Put(ctx, c.name(plain), len(plain), raw)
		}
		if err == nil {
			err = w.Set(i, c.name(plain))
		}
		if err != nil {
			return err
		}
	}
	sum, err := w.Close()
	if err != nil {
		return err
	}
	size, treeSum, err := c.tree(ses, content{Image: img, Conf: conf}.Tree())
	if err != nil {
		return err
	}
	raw, err := c.enc.Append(nil, conf)
	if err != nil {
		return err
	}
	if err := ses.PutBlob(ctx, contract.ConfName, raw); err != nil {
		return err
	}
	mode := manifest.ModeNone
	if c.key != nil {
		mode = manifest.ModeEncrypt
	}
	m := manifest.New(n)
	err = errors.Join(
		m.Add(manifest.File{Filename: contract.ImageName.String(), CryptMode: mode, Size: uint64(len(img)), Csum: sum}),
		m.Add(manifest.File{Filename: contract.TreeName.String(), CryptMode: mode, Size: size, Csum: treeSum}),
		m.Add(manifest.File{Filename: contract.ConfName.String(), CryptMode: mode, Size: uint64(len(raw)), Csum: digest.Of(raw)}))
	if err == nil && c.key != nil {
		err = m.Sign(c.key)
	}
	if err != nil {
		return err
	}
	return ses.Finish(ctx, m)
}

// tree stores the dynamic archive in two chunks.
func (c *rotClient) tree(ses repo.Session, tree []byte) (size uint64, sum digest.Digest, err error) {
	w, err := ses.CreateDynamic(contract.TreeName)
	if err != nil {
		return 0, sum, err
	}
	for plain := range slices.Chunk(tree, len(tree)*2/3) {
		raw, err := c.enc.Append(nil, plain)
		if err == nil {
			_, err = ses.Put(context.Background(), c.name(plain), len(plain), raw)
		}
		size += uint64(len(plain))
		if err == nil {
			err = w.Add(size, c.name(plain))
		}
		if err != nil {
			return 0, sum, err
		}
	}
	return w.Close()
}

// restore reads as a careful client does.
func (c *rotClient) restore(s *datastore.Store, n names.Snapshot) (got content, err error) {
	ctx := context.Background()
	snap, err := s.Open(ctx, n)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	if c.key != nil {
		if err := snap.Manifest().Verify(c.key); err != nil {
			return got, err
		}
	}
	x, closer, err := snap.OpenFixed(contract.ImageName)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	for i := range x.Count() {
		d, err := x.Digest(i)
		if err != nil {
			return got, err
		}
		raw, err := snap.ReadChunk(ctx, d, nil)
		if err != nil {
			return got, err
		}
		before := len(got.Image)
		if got.Image, err = c.dec.Append(got.Image, raw, rotChunk); err != nil {
			return got, err
		}
		if start, end := x.Bounds(i); int64(len(got.Image)-before) != end-start || c.name(got.Image[before:]) != d {
			return got, fmt.Errorf("chunk %d has the wrong content", i)
		}
	}
	raw, err := snap.Blob(contract.ConfName)
	if err != nil {
		return got, err
	}
	if got.Conf, err = c.dec.Append(nil, raw, 1<<20); err != nil {
		return got, err
	}
	tree, err := c.restoreTree(snap)
	if err == nil && !bytes.Equal(tree, got.Tree()) {
		err = errWrong
	}
	return got, err
}

func (c *rotClient) restoreTree(snap repo.Snapshot) (tree []byte, err error) {
	x, closer, err := snap.OpenDynamic(contract.TreeName)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	err = x.Each(func(i int, start, end int64, d digest.Digest) error {
		raw, err := snap.ReadChunk(context.Background(), d, nil)
		if err != nil {
			return err
		}
		if tree, err = c.dec.Append(tree, raw, blob.MaxChunk); err != nil {
			return err
		}
		if int64(len(tree)) != end || c.name(tree[start:]) != d {
			return fmt.Errorf("chunk %d has the wrong content", i)
		}
		return nil
	})
	return tree, err
}

func newRotStore(t *testing.T) *rotStore {
	t.Helper()
	raw := [32]byte{1, 2, 3}
	key, err := chunkcrypt.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	r := &rotStore{disk: newDisk(t), key: key, content: map[names.Snapshot]content{}, kinds: map[string][]string{}}
	s := mustOpen(t, r.disk)
	rng := rand.New(rand.NewPCG(3, 4))
	for _, id := range []string{"100", "200"} {
		cl := newRotClient(t, map[string]*chunkcrypt.Key{"200": key}[id])
		c := content{Image: make([]byte, 3*rotChunk+100), Conf: []byte(strings.Repeat("memory: 1024\n", 9))}
		contract.Fill(rng, c.Image)
		copy(c.Image[rotChunk:], bytes.Repeat([]byte("text "), rotChunk/5)) // one that compresses
		for range 2 {
			n := snapshotAt(id, r.disk.Now())
			if err := cl.backup(s, n, c.Image, c.Conf); err != nil {
				t.Fatal(err)
			}
			r.content[n] = c
			r.disk.Advance(time.Hour)
			c = content{Image: bytes.Clone(c.Image), Conf: append([]byte("name: x\n"), c.Conf...)}
			contract.Fill(rng, c.Image[2*rotChunk:])
		}
	}
	if _, err := s.GC(t.Context(), repo.GCOptions{SkipAtimeCheck: true}); err != nil {
		t.Fatal(err)
	}
	for _, f := range r.disk.Files() {
		if kind := r.kind(f); kind != "" {
			r.kinds[kind] = append(r.kinds[kind], f)
		}
	}
	return r
}

func (r *rotStore) kind(f string) string {
	switch {
	case strings.HasPrefix(f, ".chunks/"):
		b, _ := r.disk.Content(f)
		if h, err := blob.ParseHeader(b); err == nil && h.Kind.Encrypted() {
			return "encrypted chunk"
		}
		return "chunk"
	case path.Base(f) == "index.json.blob":
		return "manifest"
	case strings.HasSuffix(f, ".fidx"):
		return "index"
	case strings.HasSuffix(f, ".didx"):
		return "dynamic index"
	case strings.HasSuffix(f, ".blob"):
		return "blob"
	}
	return ""
}

// rot is one way in which files go bad.
type rot struct {
	file   string
	what   string
	change func(d *simdisk.Disk) error
	// carriesNothing: bytes that no reader looks at, so that only a wrong
	// restore would be a failure.
	carriesNothing bool
	// needsKey: the change cannot be seen without the key.
	needsKey  bool
	encrypted bool // the file belongs to the encrypted guest
}

// flips changes every byte, in another bit each time; every bit of the first 128.
func flips(f, kind string, size int) []rot {
	var all []rot
	index, reserved := kind == "index", 80
	if kind == "dynamic index" {
		index, reserved = true, 64
	}
	for at := range size {
		if index && at >= reserved && at < 4096 && at%16 != 0 {
			continue // they are all alike
		}
		bits := []int{at % 8}
		if at < 128 {
			bits = []int{0, 1, 2, 3, 4, 5, 6, 7}
		}
		for _, bit := range bits {
			all = append(all, rot{
				file: f, what: fmt.Sprintf("bit %d of byte %d", bit, at),
				change: func(d *simdisk.Disk) error {
					return d.Corrupt(f, func(b []byte) []byte { b[at] ^= 1 << bit; return b })
				},
				// UUID, creation time, and what lies between the header and the table
				carriesNothing: index && (at >= 8 && at < 32 || at >= reserved && at < 4096),
				// IV and tag of an encrypted chunk lie outside of its CRC
				needsKey: kind == "encrypted chunk" && at >= 12 && at < 44,
			})
		}
	}
	return all
}

// blows are coarser.
func blows(f string, size int) []rot {
	var all []rot
	add := func(what string, change func([]byte) []byte) {
		all = append(all, rot{file: f, what: what, change: func(d *simdisk.Disk) error { return d.Corrupt(f, change) }})
	}
	for _, n := range []int{0, 1, 8, 11, 12, 13, 43, 44, 45, size / 2, size - 33, size - 32, size - 1, 4095, 4096, 4097} {
		if n >= 0 && n < size {
			add(fmt.Sprintf("cut to %d", n), func(b []byte) []byte { return b[:n] })
		}
	}
	for _, n := range []int{1, 32, 512, 4096} {
		add(fmt.Sprintf("%d zeros longer", n), func(b []byte) []byte { return append(b, make([]byte, n)...) })
		add(fmt.Sprintf("%d of its own bytes longer", n), func(b []byte) []byte { return append(b, b[:min(n, len(b))]...) })
	}
	add("zeros", func(b []byte) []byte { clear(b); return b })
	add("zeros behind the header", func(b []byte) []byte { clear(b[min(len(b), 12):]); return b })
	all = append(all, rot{file: f, what: "gone", change: func(d *simdisk.Disk) error { return d.Remove(f) }})
	return all
}

// swaps puts files of one kind in each other's place.
func swaps(d *simdisk.Disk, kind string, files []string) []rot {
	var all []rot
	for i, a := range files {
		for _, b := range files[i+1:] {
			was, _ := d.Content(a)
			is, _ := d.Content(b)
			if bytes.Equal(was, is) {
				continue
			}
			all = append(all, rot{file: a, what: "swapped with " + b, needsKey: kind == "encrypted chunk", change: func(d *simdisk.Disk) error {
				return errors.Join(d.Corrupt(a, func([]byte) []byte { return is }), d.Corrupt(b, func([]byte) []byte { return was }))
			}})
		}
	}
	return all
}

// verdictOn is how a change came to light.
type verdictOn struct{ restore, verifyKey, verify bool }

func TestEveryChangeOfAFileComesToLight(t *testing.T) {
	r := newRotStore(t)
	var total, unseen, keyOnly int
	for _, kind := range slices.Sorted(maps.Keys(r.kinds)) {
		var rots []rot
		for _, f := range r.kinds[kind] {
			b, err := r.disk.Content(f)
			if err != nil {
				t.Fatal(err)
			}
			rots = append(append(rots, flips(f, kind, len(b))...), blows(f, len(b))...)
		}
		rots = append(rots, swaps(r.disk, kind, r.kinds[kind])...)
		for i, rot := range rots {
			rots[i].encrypted = kind == "encrypted chunk" || strings.HasPrefix(rot.file, "vm/200/")
		}
		verdicts := r.tryAll(t, rots)
		var byRestore, byKey, byCRC, harmless int
		for i, v := range verdicts {
			rot := rots[i]
			switch {
			case rot.carriesNothing:
				harmless++
				continue
			case !v.restore:
				t.Errorf("%s: restore noticed nothing: %s", rot.file, rot.what)
			case !v.verifyKey:
				t.Errorf("%s: verify noticed nothing: %s", rot.file, rot.what)
			case !v.verify && !rot.needsKey:
				t.Errorf("%s: verify without the key noticed nothing: %s", rot.file, rot.what)
			}
			byRestore += one(v.restore)
			byKey += one(v.verifyKey)
			byCRC += one(v.verify)
			keyOnly += one(!v.verify)
		}
		total += len(rots)
		unseen += harmless
		t.Logf("%s: %d files, %d changes: %d noticed by restore, %d by verify, %d by verify without the key, %d in bytes that carry nothing",
			kind, len(r.kinds[kind]), len(rots), byRestore, byKey, byCRC, harmless)
	}
	t.Logf("%d changes; nothing wrong was returned; %d lay in bytes that carry nothing; %d need the key to be noticed by verify", total, unseen, keyOnly)
	if total < 10_000 {
		t.Errorf("only %d changes tried", total)
	}
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (r *rotStore) tryAll(t *testing.T, rots []rot) []verdictOn {
	verdicts := make([]verdictOn, len(rots))
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		tt := newTester(t)
		clients := map[string]*rotClient{"100": newRotClient(t, nil), "200": newRotClient(t, r.key)}
		wg.Go(func() {
			for i := w; i < len(rots); i += workers {
				var err error
				if verdicts[i], err = r.try(tt, clients, rots[i]); err != nil {
					t.Errorf("%s, %s: %v", rots[i].file, rots[i].what, err)
				}
			}
		})
	}
	wg.Wait()
	return verdicts
}

// try makes one change and looks whether restore and verify notice.
func (r *rotStore) try(t *tester, clients map[string]*rotClient, rot rot) (v verdictOn, err error) {
	d := r.disk.Clone()
	if err := rot.change(d); err != nil {
		return v, err
	}
	s, err := t.open(d)
	if err != nil {
		return v, err
	}
	for n, want := range r.content {
		got, err := clients[n.ID].restore(s, n)
		switch {
		case errors.Is(err, errWrong):
			return v, err
		case err != nil:
			v.restore = true
		case !bytes.Equal(got.Image, want.Image) || !bytes.Equal(got.Conf, want.Conf):
			return v, errWrong
		}
	}
	group := names.Group{Type: names.VM, ID: "100"}
	if rot.encrypted {
		group.ID = "200"
		if v.verifyKey, err = noticed(t, d.Clone(), group, r.key); err != nil {
			return v, err
		}
	}
	v.verify, err = noticed(t, d, group, nil)
	v.verifyKey = v.verifyKey || !rot.encrypted && v.verify
	return v, err
}

// noticed asks whether verify finds fault with a group. A snapshot without its
// manifest is none: it is missing from the list.
func noticed(t *tester, d *simdisk.Disk, group names.Group, key *chunkcrypt.Key) (bool, error) {
	s, err := t.open(d)
	if err != nil {
		return false, err
	}
	rep, err := s.Verify(context.Background(), repo.VerifyOptions{Workers: 1, Key: key, Group: &group})
	if err != nil {
		return false, err
	}
	bad := len(rep.Snapshots) < 2
	for _, v := range rep.Snapshots {
		bad = bad || len(v.Errors) > 0
	}
	return bad, nil
}
