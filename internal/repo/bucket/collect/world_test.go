package collect

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkmap"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/moves"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packindex"
	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// packSize is that of the packs in tests: eight chunks.
const packSize = 8 << 10

// world is a repository in memory, with clients that keep the rules and nothing more.
type world struct {
	t     *testing.T
	now   time.Time
	store objstore.Store
	log   *ledger.Ledger
	opt   Options
}

func newWorld(t *testing.T, retention *catalog.Retention) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	w.store = mem.New(func() time.Time { return w.now }, retention != nil)
	first := map[string][]byte{catalog.MetaKey: []byte(`{"id":"x","version":1,"pack_size":` + fmt.Sprint(packSize) + `}`)}
	if retention != nil {
		first[catalog.MetaKey] = []byte(fmt.Sprintf(`{"id":"x","version":1,"pack_size":%d,"retention":{"mode":%q,"days":%d}}`, packSize, retention.Mode, retention.Days))
	}
	o := ledger.Options{Who: "test", Now: func() time.Time { return w.now }, Retain: func() objstore.Retention { return retention.From(w.now) }}
	if err := ledger.Create(t.Context(), w.store, o, first); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.log, err = ledger.Open(t.Context(), w.store, o); err != nil {
		t.Fatal(err)
	}
	w.put(catalog.MarkerKey, []byte("{}"))
	w.opt = Options{Process: catalog.Process{Host: "test", PID: 1}, Now: func() time.Time { return w.now }, perShard: 40}
	w.opt.Cutoff = 24 * time.Hour
	return w
}

func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

func (w *world) put(key string, b []byte) {
	w.t.Helper()
	meta, _, err := catalog.Get[catalog.Meta](w.log.Seen(), catalog.MetaKey)
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = w.store.Put(w.t.Context(), key, bytes.NewReader(b), objstore.PutOptions{If: objstore.IfAbsent, Retain: meta.Retention.From(w.now)})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) get(key string, at catalog.Span) []byte {
	w.t.Helper()
	b := make([]byte, at.Len)
	if err := objstore.ReadAt(w.t.Context(), w.store, key, b, at.Off); err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) view() ledger.State {
	w.t.Helper()
	st, err := w.log.View(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

func (w *world) update(f func(catalog.Tx) error) (uint64, error) {
	return w.log.Update(w.t.Context(), func(tx *ledger.Tx) error { return f(tx) })
}

func (w *world) must(f func(catalog.Tx) error) uint64 {
	w.t.Helper()
	seq, err := w.update(f)
	if err != nil {
		w.t.Fatal(err)
	}
	return seq
}

// collect makes a collection that has nothing to complain of.
func (w *world) collect() repo.GCStatus {
	w.t.Helper()
	st, err := Run(w.t.Context(), w.store, w.log, w.opt)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(st.Warnings) > 0 {
		w.t.Fatalf("warnings: %v", st.Warnings)
	}
	return st
}

// audit counts everything from nothing, which must give what was kept.
func (w *world) audit() {
	w.t.Helper()
	opt := w.opt
	w.opt.Full = true
	w.collect()
	w.opt = opt
}

// plain is the content of a chunk of 1000 bytes by its name.
func plain(name string) []byte {
	seed := digest.Of([]byte(name))
	rng := rand.NewChaCha8(seed)
	b := make([]byte, 1000)
	_, _ = rng.Read(b)
	return b
}

func encode(t testing.TB, b []byte) []byte {
	t.Helper()
	enc, err := blob.NewEncoder(nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	raw, err := enc.Append(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// session is a client at work.
type session struct {
	w      *world
	n      catalog.Number
	name   names.Snapshot
	state  ledger.State
	base   map[[16]byte]pack.Location
	places map[digest.Digest]pack.Location
	sizes  map[pack.ID]uint32
	body   []byte
	table  []pack.Entry
	own    []packindex.Entry
	packs  uint32
	sent   int  // chunks that nobody had
	mends  bool // its content is given
}

func group(id string) names.Group { return names.Group{Type: names.VM, ID: id} }

func (w *world) begin(id string) *session {
	w.t.Helper()
	return w.beginAs(catalog.Request{Session: catalog.Session{
		Kind:     catalog.Backup,
		Snapshot: catalog.SnapshotName{Snapshot: names.Snapshot{Group: group(id), Time: w.now.Unix()}},
	}})
}

func (w *world) beginAs(q catalog.Request) *session {
	w.t.Helper()
	var base *catalog.Base
	seq := w.must(func(tx catalog.Tx) (err error) {
		base, err = catalog.Begin(tx, q)
		return err
	})
	s := &session{
		w: w, n: catalog.Number(seq), name: q.Snapshot.Snapshot, state: w.view(),
		places: map[digest.Digest]pack.Location{}, sizes: map[pack.ID]uint32{}, base: map[[16]byte]pack.Location{},
	}
	if base != nil {
		m := w.mapOf(base.Snapshot)
		for _, p := range m.Packs() {
			s.sizes[p.ID] = p.Size
		}
		_ = m.Each(func(p [16]byte, l pack.Location) error { s.base[p] = l; return nil })
	}
	return s
}

func (w *world) mapOf(s catalog.Snapshot) *chunkmap.Map {
	w.t.Helper()
	b := w.get(catalog.SnapshotObject(s.Session), s.Map)
	m, err := chunkmap.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// usable is the rule which packs a session may use.
func (w *world) usable(st ledger.State, id pack.ID) bool {
	if _, moved := st.Get(catalog.MovedKey(id)); moved {
		return false
	}
	for _, raw := range st.Scan(catalog.DeadPrefix) {
		if strings.Contains(string(raw), id.String()) {
			return false
		}
	}
	for _, raw := range st.Scan(catalog.RunPrefix) {
		if strings.Contains(string(raw), id.String()) {
			return false
		}
	}
	return true
}

// resolve follows a chunk to where it lies.
func (w *world) resolve(st ledger.State, at pack.Location) pack.Location {
	w.t.Helper()
	for {
		m, ok, err := catalog.Get[catalog.Moved](st, catalog.MovedKey(at.Pack))
		if err != nil {
			w.t.Fatal(err)
		}
		if !ok {
			return at
		}
		b := w.get(m.In, m.Span)
		l, err := moves.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			w.t.Fatal(err)
		}
		to, ok, err := l.Find(moves.Place{Pack: at.Pack, Off: at.Off})
		if err != nil {
			w.t.Fatal(err)
		}
		if !ok {
			return at
		}
		at.Pack, at.Off = to.Pack, to.Off
	}
}

// find looks for a chunk in the base, where that moved, and in the indexes.
func (s *session) find(d digest.Digest) (pack.Location, bool) {
	if at, ok := s.base[[16]byte(d[:])]; ok {
		if at = s.w.resolve(s.state, at); s.w.usable(s.state, at.Pack) {
			return at, true
		}
	}
	for key, raw := range s.state.Scan(catalog.RunPrefix) {
		r, err := catalog.Parse[catalog.Run](key, raw)
		if err != nil {
			s.w.t.Fatal(err)
		}
		n, i, err := runOf(key)
		if err != nil {
			s.w.t.Fatal(err)
		}
		all, _, err := objstore.ReadAll(s.w.t.Context(), s.w.store, catalog.IndexKey(n, i), 1<<20)
		if err != nil {
			s.w.t.Fatal(err)
		}
		for e, err := range packindex.Scan(bytes.NewReader(all), r.Chunks) {
			if err != nil {
				s.w.t.Fatal(err)
			}
			if e.Digest == d && s.w.usable(s.state, e.Pack) {
				return e.Location, true
			}
		}
	}
	return pack.Location{}, false
}

// add needs chunks.
func (s *session) add(chunks ...string) *session {
	s.w.t.Helper()
	for _, name := range chunks {
		d := digest.Of(plain(name))
		if _, ok := s.places[d]; ok {
			continue
		}
		at, ok := s.find(d)
		if !ok {
			at = s.store(d, encode(s.w.t, plain(name)))
		}
		s.places[d] = at
	}
	return s
}

// store puts a chunk into a pack of the session.
func (s *session) store(d digest.Digest, raw []byte) pack.Location {
	if len(s.body)+len(raw) > packSize {
		s.flush()
	}
	at := pack.Location{Pack: pack.ID{Session: uint64(s.n), Number: s.packs}, Off: uint32(len(s.body)), Len: uint32(len(raw))}
	s.body = append(s.body, raw...)
	s.table = append(s.table, pack.Entry{Digest: d, Len: uint32(len(raw))})
	s.own = append(s.own, packindex.Entry{Digest: d, Location: at})
	s.sent++
	return at
}

func (s *session) flush() {
	s.w.t.Helper()
	if len(s.table) == 0 {
		return
	}
	id := pack.ID{Session: uint64(s.n), Number: s.packs}
	b := pack.AppendTable(s.body, s.table)
	s.w.put(id.Key(), b)
	s.sizes[id] = uint32(len(b))
	s.packs++
	s.body, s.table = nil, nil
}

func (s *session) sizeOf(id pack.ID) (uint32, error) {
	if n, ok := s.sizes[id]; ok {
		return n, nil
	}
	info, err := s.w.store.Stat(s.w.t.Context(), id.Key())
	s.sizes[id] = uint32(info.Size)
	return uint32(info.Size), err
}

// finish stores what is left and returns what the session would leave.
func (s *session) finish() catalog.Success {
	s.w.t.Helper()
	s.flush()
	var done catalog.Success
	if len(s.own) > 0 {
		done.Runs = []catalog.Run{s.index()}
	}
	if s.name == (names.Snapshot{}) {
		return done
	}
	var b bytes.Buffer
	m := chunkmap.NewWriter(&b)
	for _, d := range slices.SortedFunc(maps.Keys(s.places), func(a, b digest.Digest) int { return bytes.Compare(a[:], b[:]) }) {
		if err := m.Add(d, s.places[d]); err != nil {
			s.w.t.Fatal(err)
		}
	}
	n, err := m.Close(s.sizeOf)
	if err != nil {
		s.w.t.Fatal(err)
	}
	s.w.put(catalog.SnapshotObject(s.n), b.Bytes())
	man := manifest.New(s.name)
	if err := man.Add(manifest.File{Filename: "disk.img.fidx", CryptMode: manifest.ModeNone, Size: uint64(1000 * len(s.places))}); err != nil {
		s.w.t.Fatal(err)
	}
	text, err := man.Marshal()
	if err != nil {
		s.w.t.Fatal(err)
	}
	done.Snapshot = &catalog.Snapshot{Session: s.n, Map: catalog.Span{Len: n}, Manifest: text}
	done.Chunks = where{s.places, m.Packs()}
	return done
}

func (s *session) index() catalog.Run {
	s.w.t.Helper()
	slices.SortFunc(s.own, func(a, b packindex.Entry) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	var b bytes.Buffer
	x := packindex.NewWriter(&b)
	for _, e := range s.own {
		if err := x.Add(e); err != nil {
			s.w.t.Fatal(err)
		}
	}
	all, head, err := x.Close()
	if err != nil {
		s.w.t.Fatal(err)
	}
	s.w.put(catalog.IndexKey(s.n, 0), b.Bytes())
	return catalog.Run{Chunks: int64(len(s.own)), Packs: int64(s.packs), Bytes: all, Head: head}
}

type where struct {
	places map[digest.Digest]pack.Location
	packs  []pack.ID
}

func (c where) Packs() []pack.ID { return c.packs }
func (c where) Lies(d digest.Digest) (pack.Location, bool, error) {
	at, ok := c.places[d]
	return at, ok, nil
}

func (s *session) tryCommit() error {
	s.w.t.Helper()
	done := s.finish()
	_, err := s.w.update(func(tx catalog.Tx) error { return catalog.Commit(tx, s.n, done) })
	return err
}

func (s *session) commit() names.Snapshot {
	s.w.t.Helper()
	if err := s.tryCommit(); err != nil {
		s.w.t.Fatal(err)
	}
	return s.name
}

// backup is a whole session.
func (w *world) backup(id string, chunks ...string) names.Snapshot {
	w.t.Helper()
	w.pass(time.Minute)
	return w.begin(id).add(chunks...).commit()
}

func (w *world) forget(s names.Snapshot) {
	w.t.Helper()
	w.must(func(tx catalog.Tx) error { return catalog.Forget(tx, s) })
}

// check reads every chunk of every snapshot.
func (w *world) check() {
	w.t.Helper()
	st := w.view()
	for key, raw := range st.Scan(catalog.SnapshotPrefix) {
		rec, err := catalog.Parse[catalog.Snapshot](key, raw)
		if err != nil {
			w.t.Fatal(err)
		}
		err = w.mapOf(rec).Each(func(prefix [16]byte, at pack.Location) error {
			at = w.resolve(st, at)
			raw := make([]byte, at.Len)
			if err := objstore.ReadAt(w.t.Context(), w.store, at.Pack.Key(), raw, int64(at.Off)); err != nil {
				return err
			}
			d := digest.Of(raw[blob.HeaderSize:])
			if !bytes.Equal(d[:16], prefix[:]) {
				return fmt.Errorf("the chunk %x at %v is another one", prefix, at)
			}
			return nil
		})
		if err != nil {
			w.t.Fatalf("%s: %v", key, err)
		}
	}
}

// keys lists the objects below a prefix.
func (w *world) keys(prefix string) (all []string) {
	w.t.Helper()
	for o, err := range objstore.All(w.t.Context(), w.store, prefix, "") {
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, o.Key)
	}
	return all
}

// packsThere are the packs in the store.
func (w *world) packsThere() (all []string) {
	for _, key := range w.keys("s/") {
		if strings.Contains(key, "/p") {
			all = append(all, key)
		}
	}
	return all
}

// chunks are names of chunks: those from a to b.
func chunks(prefix string, a, b int) (all []string) {
	for i := a; i < b; i++ {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}

func digestOf(name string) digest.Digest { return digest.Of(plain(name)) }
