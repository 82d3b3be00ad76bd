package media

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sort"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/mediacatalog"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// Contents is what is on the media of a set, from their catalogs, which stay
// open. It holds about 10 bytes for a chunk, 40 for a chunk archive and the names
// of all snapshots. It is not safe for concurrent use.
type Contents struct {
	members   []*member
	chunks    *table
	snapshots map[string]At // "store:path"
	followed  []*followed
	cuts      []Cut
}

// At is a file on a medium.
type At struct {
	Medium uuid.UUID
	File   uint64
}

// member is one medium of the set.
type member struct {
	id       uuid.UUID
	log      io.ReaderAt
	close    func() error
	archives []archive // in the order of the log
}

// archive is a chunk archive: its records are from start on, and before end.
type archive struct {
	start, end int64
	file       uint64
	store      string
}

// Contents loads the catalogs of media. The errors wrap ErrNoCatalog,
// ErrOtherCatalog, mediacatalog.ErrCorrupt or are the disk's; each names the
// medium whose catalog has to be read from it again.
func (s *State) Contents(media []Medium) (c *Contents, err error) {
	c = &Contents{snapshots: map[string]At{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.chunks, err = s.tableFor(media); err != nil {
		return c, err
	}
	for _, m := range media {
		if err := c.load(s, m); err != nil {
			return c, err
		}
	}
	return c, nil
}

// tableFor makes a table that all chunks of the media fit into.
func (s *State) tableFor(media []Medium) (*table, error) {
	n := int64(0)
	for _, m := range media {
		info, err := s.d.Stat(logName(m.UUID()))
		if err == nil {
			n += info.Size / int64(mediacatalog.ChunkSize)
		} // what is wrong with it comes out when it is read
	}
	if n > MaxMembers*maxOffset/mediacatalog.ChunkSize {
		return nil, errTooLong
	}
	return newTable(int(n)), nil
}

func (c *Contents) load(s *State, m Medium) error {
	me := &member{id: m.UUID()}
	c.members = append(c.members, me)
	f, l, err := s.read(m, func(r *Record) error { return c.see(len(c.members)-1, r) })
	if err != nil {
		return err
	}
	me.log, me.close = f, f.Close
	if l.cut.Bytes > 0 {
		c.cuts = append(c.cuts, Cut{l.cut.Bytes, told(m, l.cut.Err)})
	}
	return nil
}

// see takes a record of a member in. Chunks count when their archive has come to
// its end.
func (c *Contents) see(i int, r *Record) error {
	me := c.members[i]
	switch r.Kind {
	case mediacatalog.Chunk:
		p, err := newPosition(i, r.Offset)
		if err != nil {
			return err
		}
		c.chunks.add(&r.Digest, p)
	case mediacatalog.ArchiveStart:
		me.archives = append(me.archives, archive{start: r.Offset, file: r.File, store: r.Store})
	case mediacatalog.ArchiveEnd:
		me.archives[len(me.archives)-1].end = r.Offset
	case mediacatalog.Snapshot:
		c.snapshots[r.Store+":"+r.Path] = At{me.id, r.File}
	}
	return nil
}

// Cuts is what was left out of the catalogs.
func (c *Contents) Cuts() []Cut { return c.cuts }

// Follow adds the medium of a catalog that is open for appending, with what is in
// it and everything that is added to it from now on, committed or not. The catalog
// must stay open as long as the contents are used, and its medium must not have
// been loaded with the others.
func (c *Contents) Follow(cat *Catalog) error {
	me := &member{id: cat.medium.UUID(), log: cat, close: func() error { return nil }}
	c.members = append(c.members, me)
	c.followed = append(c.followed, &followed{cat: cat, member: len(c.members) - 1})
	return c.catchUp()
}

// followed is a catalog that grows.
type followed struct {
	cat    *Catalog
	member int
	off    int64 // up to which it was taken in
	state  mediacatalog.State
}

// catchUp takes in what was added to catalogs.
func (c *Contents) catchUp() error {
	for _, f := range c.followed {
		end := f.cat.size + int64(len(f.cat.pending))
		if f.off == end {
			continue
		}
		r := mediacatalog.Resume(io.NewSectionReader(f.cat, f.off, end-f.off), f.off, f.state)
		for {
			rec, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = c.see(f.member, rec)
			}
			if err != nil {
				return told(f.cat.medium, err)
			}
		}
		f.off, f.state = r.Good(), r.State()
	}
	return nil
}

// Chunk returns where a chunk of a store is.
func (c *Contents) Chunk(store string, d digest.Digest) (at At, ok bool, err error) {
	if err := c.catchUp(); err != nil {
		return At{}, false, err
	}
	var got [digest.Size]byte
	err = c.chunks.find(&d, func(p position) (bool, error) {
		me := c.members[p.member()]
		a := me.archive(p.offset())
		if a == nil || a.store != store {
			return false, nil
		}
		if _, err := me.log.ReadAt(got[:], p.offset()+1); err != nil {
			return false, fmt.Errorf("catalog of medium %s: %w", me.id, err)
		}
		if got != d {
			return false, nil
		}
		at, ok = At{me.id, a.file}, true
		return true, nil
	})
	return at, ok, err
}

// archive returns the one that has a record at off, or nil.
func (m *member) archive(off int64) *archive {
	i := sort.Search(len(m.archives), func(i int) bool { return m.archives[i].start > off }) - 1
	if i < 0 || off >= m.archives[i].end {
		return nil
	}
	return &m.archives[i]
}

// Snapshot returns where a snapshot is.
func (c *Contents) Snapshot(store string, snap names.Snapshot) (at At, ok bool, err error) {
	if err := c.catchUp(); err != nil {
		return At{}, false, err
	}
	at, ok = c.snapshots[store+":"+snap.Path()]
	return at, ok, nil
}

// Snapshots yields all snapshots, each as "store:path", sorted. What was added
// since the last question is not among them.
func (c *Contents) Snapshots() iter.Seq2[string, At] {
	return func(yield func(string, At) bool) {
		for _, name := range slices.Sorted(maps.Keys(c.snapshots)) {
			if !yield(name, c.snapshots[name]) {
				return
			}
		}
	}
}

// Close closes the catalogs that were loaded.
func (c *Contents) Close() error {
	var errs []error
	for _, m := range c.members {
		if m.close != nil {
			errs = append(errs, m.close())
		}
	}
	c.members = nil
	return errors.Join(errs...)
}
