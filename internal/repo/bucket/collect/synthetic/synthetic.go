// Package synthetic makes large repositories in memory of which only what a garbage
// collection reads is there: records, indexes, names and lengths of packs, and chunk maps that are
// made when somebody asks for them. It serves to see what collections cost.
//
// A repository has groups; each snapshot of a group needs the same number of chunks, of which
// some are new, in one pack. Nothing can be restored.
package synthetic

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkmap"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packindex"
	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/collect"
)

// Shape says how large a repository is.
type Shape struct {
	Groups    int
	Snapshots int // of each group
	Chunks    int // of each snapshot
	Changed   int // of them new in each but the first; it divides Chunks
}

// Million is a repository of 1,000,000 chunks and 10,000 snapshots.
var Million = Shape{Groups: 100, Snapshots: 100, Chunks: 5050, Changed: 50}

// All is the number of different chunks.
func (s Shape) All() int { return s.Groups * (s.Chunks + (s.Snapshots-1)*s.Changed) }

const (
	chunkSize = 512 << 10
	perPack   = 64 // chunks of the first snapshot of a group
)

// Repository is one in memory.
type Repository struct {
	shape Shape
	store *hollow
	log   *ledger.Ledger
	now   time.Time
	made  []int // snapshots of each group
}

// New makes one.
func New(ctx context.Context, s Shape) (*Repository, error) {
	r := &Repository{shape: s, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), made: make([]int, s.Groups)}
	r.store = &hollow{Store: mem.New(func() time.Time { return r.now }, false), maps: map[string]place{}}
	first := map[string][]byte{catalog.MetaKey: fmt.Appendf(nil, `{"id":"synthetic","version":1,"pack_size":%d}`, 32<<20)}
	sizes := ledger.Usual
	sizes.Checkpoint = 1 << 40 // none while there is nobody to read it
	if err := ledger.Create(ctx, r.store, r.options(sizes), first); err != nil {
		return nil, err
	}
	var err error
	if r.log, err = ledger.Open(ctx, r.store, r.options(sizes)); err != nil {
		return nil, err
	}
	for range s.Snapshots {
		for g := range s.Groups {
			if err := r.Backup(ctx, g); err != nil {
				return nil, err
			}
		}
	}
	if r.log, err = ledger.Open(ctx, r.store, r.options(ledger.Usual)); err != nil {
		return nil, err
	}
	return r, r.checkpoint(ctx)
}

// checkpoint makes entries until one comes that is followed by a checkpoint.
func (r *Repository) checkpoint(ctx context.Context) error {
	for r.log.Seen().Seq()%ledger.Usual.Checkpoint != 0 {
		_, err := r.log.Update(ctx, func(tx *ledger.Tx) error {
			tx.Set(catalog.NamespacePrefix+"n", fmt.Appendf(nil, `{"n":%d}`, tx.Seq()))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Repository) options(s ledger.Sizes) ledger.Options {
	return ledger.Options{Who: "synthetic", Now: func() time.Time { return r.now }, Sizes: s}
}

// Store is where the repository lies.
func (r *Repository) Store() objstore.Store { return r.store }

// Open reads the state of the repository through a store, as a process does that collects.
func (r *Repository) Open(ctx context.Context, through objstore.Store) (*ledger.Ledger, error) {
	r.now = r.now.Add(time.Hour)
	return ledger.Open(ctx, through, r.options(ledger.Usual))
}

// Collect makes a collection through a store.
func (r *Repository) Collect(ctx context.Context, through objstore.Store, l *ledger.Ledger) (repo.GCStatus, error) {
	return collect.Run(ctx, through, l, collect.Options{
		GCOptions: repo.GCOptions{Cutoff: 24 * time.Hour}, Process: catalog.Process{Host: "synthetic", PID: 1},
		Now: func() time.Time { return r.now }, Repack: -1, // there is nothing in the packs
	})
}

func group(g int) names.Group { return names.Group{Type: names.VM, ID: fmt.Sprint(100 + g)} }

// Forget removes the oldest snapshot of a group.
func (r *Repository) Forget(ctx context.Context, g int) error {
	_, err := r.log.Update(ctx, func(tx *ledger.Tx) error {
		all, err := catalog.Times(tx, "", group(g))
		if err != nil {
			return err
		}
		return catalog.Forget(tx, all[0])
	})
	return err
}

// Backup adds a snapshot to a group.
func (r *Repository) Backup(ctx context.Context, g int) error {
	r.now = r.now.Add(time.Second)
	n := names.Snapshot{Group: group(g), Time: r.now.Unix()}
	seq, err := r.log.Update(ctx, func(tx *ledger.Tx) error {
		_, err := catalog.Begin(tx, catalog.Request{Session: catalog.Session{Kind: catalog.Backup, Snapshot: catalog.SnapshotName{Snapshot: n}}})
		return err
	})
	if err != nil {
		return err
	}
	session := catalog.Number(seq)
	p := r.store.add(r.shape, g, session)
	run, err := r.putPacks(ctx, p)
	if err != nil {
		return err
	}
	m := manifest.New(n)
	if err := m.Add(manifest.File{Filename: "drive-scsi0.img.fidx", CryptMode: manifest.ModeNone, Size: uint64(r.shape.Chunks) * 4 << 20}); err != nil {
		return err
	}
	text, err := m.Marshal()
	if err != nil {
		return err
	}
	b, w, err := p.chunkMap()
	if err != nil {
		return err
	}
	rec := &catalog.Snapshot{Session: session, Map: catalog.Span{Len: int64(len(b))}, Manifest: text}
	_, err = r.log.Update(ctx, func(tx *ledger.Tx) error {
		return catalog.Commit(tx, session, catalog.Success{Runs: []catalog.Run{run}, Snapshot: rec, Chunks: nothingBad(w.Packs())})
	})
	r.made[g]++
	return err
}

// nothingBad is what a commit asks for of a snapshot.
type nothingBad []pack.ID

func (p nothingBad) Packs() []pack.ID { return p }
func (p nothingBad) Lies(digest.Digest) (pack.Location, bool, error) {
	return pack.Location{}, false, nil
}

// putPacks stores the names of the packs of a session, and its index.
func (r *Repository) putPacks(ctx context.Context, p place) (catalog.Run, error) {
	var b bytes.Buffer
	w := packindex.NewWriter(&b)
	packs := map[pack.ID]bool{}
	for i := range r.shape.Chunks {
		at, version := p.lies(i)
		if version != p.version {
			continue
		}
		if err := w.Add(packindex.Entry{Digest: p.digest(i), Location: at}); err != nil {
			return catalog.Run{}, err
		}
		packs[at.Pack] = true
	}
	all, head, err := w.Close()
	if err != nil {
		return catalog.Run{}, err
	}
	for id := range packs {
		if _, err := r.store.Put(ctx, id.Key(), bytes.NewReader(nil), objstore.PutOptions{}); err != nil {
			return catalog.Run{}, err
		}
	}
	_, err = r.store.Put(ctx, catalog.IndexKey(p.session(p.version), 0), bytes.NewReader(b.Bytes()), objstore.PutOptions{})
	if err == nil {
		_, err = r.store.Put(ctx, catalog.SnapshotObject(p.session(p.version)), bytes.NewReader(nil), objstore.PutOptions{})
	}
	return catalog.Run{Chunks: w.Chunks(), Packs: int64(len(packs)), Bytes: all, Head: head}, err
}

// place is a snapshot: one version of a group.
type place struct {
	shape    Shape
	group    int
	version  int
	sessions []catalog.Number // of the versions of the group so far
}

func (p place) session(version int) catalog.Number { return p.sessions[version] }

// lies says where chunk i lies, and which version brought it. Version v brings the chunks from
// v × Changed on, around in a circle.
func (p place) lies(i int) (pack.Location, int) {
	blocks := p.shape.Chunks / p.shape.Changed
	age := ((p.version-i/p.shape.Changed)%blocks + blocks) % blocks
	v := p.version - age
	if v < 1 {
		id := pack.ID{Session: uint64(p.session(0)), Number: uint32(i / perPack)}
		return pack.Location{Pack: id, Off: uint32(i%perPack) * chunkSize, Len: chunkSize}, 0
	}
	id := pack.ID{Session: uint64(p.session(v))}
	return pack.Location{Pack: id, Off: uint32(i%p.shape.Changed) * chunkSize, Len: chunkSize}, v
}

// digest of chunk i: those of one snapshot ascend.
func (p place) digest(i int) (d digest.Digest) {
	_, v := p.lies(i)
	binary.BigEndian.PutUint64(d[:], uint64(i)*(1<<63/uint64(p.shape.Chunks)))
	binary.BigEndian.PutUint32(d[8:], uint32(p.group))
	binary.BigEndian.PutUint32(d[12:], uint32(v))
	binary.BigEndian.PutUint32(d[28:], uint32(i+v))
	return d
}

func (p place) chunkMap() ([]byte, *chunkmap.Writer, error) {
	var b bytes.Buffer
	w := chunkmap.NewWriter(&b)
	for i := range p.shape.Chunks {
		at, _ := p.lies(i)
		if err := w.Add(p.digest(i), at); err != nil {
			return nil, nil, err
		}
	}
	_, err := w.Close(func(pack.ID) (uint32, error) { return packLength, nil })
	return b.Bytes(), w, err
}

// packLength is how long all packs are said to be.
const packLength = perPack*chunkSize + perPack*pack.EntrySize + pack.FooterSize

// hollow is a store in which packs have a length but no content, and snapshots a chunk map that
// is made anew each time.
type hollow struct {
	*mem.Store

	mu       sync.Mutex
	maps     map[string]place
	sessions map[int][]catalog.Number
}

func (h *hollow) add(s Shape, g int, n catalog.Number) place {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions == nil {
		h.sessions = map[int][]catalog.Number{}
	}
	h.sessions[g] = append(h.sessions[g], n)
	p := place{s, g, len(h.sessions[g]) - 1, h.sessions[g]}
	h.maps[catalog.SnapshotObject(n)] = p
	return p
}

// Get makes chunk maps.
func (h *hollow) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	o, err := h.Store.Get(ctx, key, 0, -1)
	h.mu.Lock()
	p, ok := h.maps[key]
	h.mu.Unlock()
	if err != nil || !ok {
		if err == nil {
			err = o.Close()
		}
		if err != nil {
			return objstore.Object{}, err
		}
		return h.Store.Get(ctx, key, off, n)
	}
	b, _, err := p.chunkMap()
	if err != nil {
		return objstore.Object{}, err
	}
	o.Size = int64(len(b))
	if n < 0 {
		n = o.Size - off
	}
	o.ReadCloser = io.NopCloser(bytes.NewReader(b[off : off+n]))
	return o, nil
}

// List gives packs their length.
func (h *hollow) List(ctx context.Context, prefix, after string, limit int) ([]objstore.Info, bool, error) {
	list, more, err := h.Store.List(ctx, prefix, after, limit)
	for i := range list {
		if strings.Contains(list[i].Key, "/p") {
			list[i].Size = packLength
		}
	}
	return list, more, err
}
