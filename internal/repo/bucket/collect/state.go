package collect

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// snapshot is what a collection needs of the record of one.
type snapshot struct {
	Session  catalog.Number `json:"session"`
	Map      catalog.Span   `json:"map"`
	Log      int64          `json:"log"`
	Manifest struct {
		Files []struct {
			Filename string `json:"filename"`
			Size     int64  `json:"size"`
		} `json:"files"`
	} `json:"manifest"`

	name string // for people
}

// indexes counts the archives that name chunks, and their plain bytes.
func (s *snapshot) indexes() (n, plain int64) {
	for _, f := range s.Manifest.Files {
		if strings.HasSuffix(f.Filename, ".fidx") || strings.HasSuffix(f.Filename, ".didx") {
			n++
			plain += f.Size
		}
	}
	return n, plain
}

// situation is the state of the repository when a collection looks at it.
type situation struct {
	seq       catalog.Number
	meta      catalog.Meta
	snapshots map[catalog.Number]*snapshot // by the sessions that made them
	gone      map[catalog.Number]catalog.Gone
	running   map[catalog.Number]catalog.Session
	ended     map[catalog.Number]catalog.Ended
	runs      map[string]catalog.Run // by the keys of their records
	dead      map[string]catalog.Dead
	moved     map[pack.ID]catalog.Moved
	dropping  map[pack.ID]bool // of moved: that are on a list to be forgotten
	bad       map[digest.Digest]catalog.Bad
	last      catalog.Collected
}

// state is a catalog.Reader that knows its number.
type state interface {
	catalog.Reader
	Seq() uint64
}

func look(r state) (*situation, error) {
	s := &situation{seq: catalog.Number(r.Seq()), snapshots: map[catalog.Number]*snapshot{}}
	var err error
	if s.meta, _, err = catalog.Get[catalog.Meta](r, catalog.MetaKey); err != nil {
		return nil, err
	}
	if s.last, _, err = catalog.Get[catalog.Collected](r, catalog.GCKey); err != nil {
		return nil, err
	}
	for key, raw := range r.Scan(catalog.SnapshotPrefix) {
		snap, err := catalog.Parse[snapshot](key, raw)
		if err != nil {
			return nil, err
		}
		snap.name = strings.TrimPrefix(strings.TrimPrefix(key, catalog.SnapshotPrefix), "|")
		if old := s.snapshots[snap.Session]; old != nil {
			return nil, &repo.CorruptError{What: "record " + key + " of the repository", Err: fmt.Errorf("its session is that of %s too", old.name)}
		}
		s.snapshots[snap.Session] = &snap
	}
	numbered(r, catalog.GonePrefix, &s.gone, &err)
	numbered(r, catalog.SessionPrefix, &s.running, &err)
	numbered(r, catalog.EndedPrefix, &s.ended, &err)
	keyed(r, catalog.RunPrefix, &s.runs, &err)
	keyed(r, catalog.DeadPrefix, &s.dead, &err)
	if err != nil {
		return nil, err
	}
	if s.bad, err = catalog.BadChunks(r); err != nil {
		return nil, err
	}
	s.moved, s.dropping = map[pack.ID]catalog.Moved{}, map[pack.ID]bool{}
	for _, list := range s.dead {
		for _, id := range list.Moved {
			s.dropping[id] = true
		}
	}
	for key, raw := range r.Scan(catalog.MovedPrefix) {
		id, err := pack.ParseID(strings.TrimPrefix(key, catalog.MovedPrefix))
		if err != nil {
			return nil, &repo.CorruptError{What: "record " + key + " of the repository", Err: err}
		}
		if s.moved[id], err = catalog.Parse[catalog.Moved](key, raw); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// keyed reads all records of a kind; nothing after a failure.
func keyed[T any](r catalog.Reader, prefix string, into *map[string]T, failed *error) {
	*into = map[string]T{}
	for key, raw := range r.Scan(prefix) {
		if *failed == nil {
			(*into)[key], *failed = catalog.Parse[T](key, raw)
		}
	}
}

// numbered reads all records of a kind that are named by sessions.
func numbered[T any](r catalog.Reader, prefix string, into *map[catalog.Number]T, failed *error) {
	*into = map[catalog.Number]T{}
	for key, raw := range r.Scan(prefix) {
		if *failed != nil {
			return
		}
		n, err := catalog.ParseNumber(strings.TrimPrefix(key, prefix))
		if err != nil {
			*failed = &repo.CorruptError{What: "key " + key + " of the repository", Err: err}
			return
		}
		(*into)[n], *failed = catalog.Parse[T](key, raw)
	}
}

// runOf takes the key of an index's record apart: its session and its number.
func runOf(key string) (n catalog.Number, i uint32, err error) {
	session, number, _ := strings.Cut(strings.TrimPrefix(key, catalog.RunPrefix), "/")
	if n, err = catalog.ParseNumber(session); err == nil {
		_, err = fmt.Sscanf(number, "%08x", &i)
	}
	if err != nil || catalog.RunKey(n, i) != key {
		return 0, 0, &repo.CorruptError{What: "key " + key + " of the repository", Err: fmt.Errorf("it does not name an index: %w", err)}
	}
	return n, i, nil
}

// spread is which sessions the packs of an index are of.
func spread(key string, r catalog.Run) (first, last catalog.Number) {
	if r.First != 0 {
		return r.First, r.Last
	}
	n, _, err := runOf(key)
	if err != nil {
		return 0, 0 // no pack is of session 0
	}
	return n, n
}

// sessionsOf are the sessions of the snapshots in a state. It reads no more of a
// record than it must: this is done within changes.
func sessionsOf(r catalog.Reader) ([]catalog.Number, error) {
	var all []catalog.Number
	for key, raw := range r.Scan(catalog.SnapshotPrefix) {
		var rec struct {
			Session  catalog.Number  `json:"session"`
			Manifest json.RawMessage `json:"manifest"`
		}
		if err := json.Unmarshal(raw, &rec); err != nil {
			return nil, &repo.CorruptError{What: "record " + key + " of the repository", Err: err}
		}
		all = append(all, rec.Session)
	}
	slices.Sort(all)
	return all, nil
}
