package bucketsim

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/chunkmap"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/lookup"
)

// collectAll collects garbage until nothing can be left: grace times and the week in which
// late requests are waited for go by. Then what was condemned last has its rounds.
func (w *world) collectAll(t *testing.T, p *process) {
	for _, wait := range []time.Duration{0, 0, 8 * 24 * time.Hour} {
		w.collect(t, p, wait, false)
	}
	// A request that comes when its object has been removed already is found by a full
	// collection; others must not need one.
	if w.grace <= late {
		w.collect(t, p, 0, true)
	}
	const most = 8
	for i := 0; i < most && w.condemned(t); i++ {
		w.collect(t, p, 0, false)
	}
}

func (w *world) collect(t *testing.T, p *process, wait time.Duration, full bool) {
	time.Sleep(wait + w.grace + time.Minute)
	status, err := p.repo.GC(t.Context(), repo.GCOptions{Cutoff: w.grace, Full: full})
	if err != nil {
		t.Errorf("I3: collection: %v", err)
	}
	for _, warning := range status.Warnings {
		t.Errorf("I3: collection: %s", warning)
	}
}

// condemned reports whether anything waits for its removal.
func (w *world) condemned(t *testing.T) bool {
	l, err := ledger.Open(t.Context(), w.store, ledger.Options{Sizes: sizes})
	if err != nil {
		t.Fatal(err)
	}
	for range l.Seen().Scan(catalog.DeadPrefix) {
		return true
	}
	return false
}

// onlyWhatIsNeeded is I4: what each object is for, and each record.
func (w *world) onlyWhatIsNeeded(t *testing.T) {
	l, err := ledger.Open(t.Context(), w.store, ledger.Options{Sizes: sizes})
	if err != nil {
		t.Fatal(err)
	}
	needed, err := w.needed(t, l.Seen())
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range objstore.All(t.Context(), w.store, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if key := i.Key; !strings.HasPrefix(key, "log/") && !strings.HasPrefix(key, "state/") && !needed[key] {
			t.Errorf("garbage: %s is there, and nobody needs it", key)
		}
		delete(needed, i.Key)
	}
	for key := range needed {
		t.Errorf("I4: %s is needed, and is not there", key)
	}
	for key, value := range l.Seen().Scan("") {
		switch kind, _, _ := strings.Cut(key, "/"); kind {
		case "session", "ended", "gone", "dead", "bad":
			t.Errorf("garbage: record %s is there, and nothing needs it: %.300s", key, value)
		}
	}
}

// needed are the keys of the objects that the state gives a reason for, the log's own
// left out.
func (w *world) needed(t *testing.T, s ledger.State) (map[string]bool, error) {
	all := map[string]bool{catalog.MarkerKey: true}
	moves := lookup.NewMoves(w.store, 1<<20)
	named := map[pack.ID]bool{} // by chunk maps, and moved packs that are
	for key, raw := range s.Scan(catalog.SnapshotPrefix) {
		rec, err := catalog.Parse[catalog.Snapshot](key, raw)
		if err != nil {
			return nil, err
		}
		all[catalog.SnapshotObject(rec.Session)] = true
		if log := catalog.LogObject(rec.Session); rec.Log > 0 || w.has(t, log) {
			all[log] = true // who stored it may have died before he said so; it goes with the snapshot
		}
		b := make([]byte, rec.Map.Len)
		if err := objstore.ReadAt(t.Context(), w.store, catalog.SnapshotObject(rec.Session), b, rec.Map.Off); err != nil {
			return nil, err
		}
		m, err := chunkmap.Open(bytes.NewReader(b), rec.Map.Len)
		if err != nil {
			return nil, err
		}
		err = m.Each(func(_ [16]byte, at pack.Location) error {
			named[at.Pack] = true
			now, ok, err := moves.Follow(t.Context(), s, at, lookup.Every)
			if err == nil && !ok {
				err = fmt.Errorf("%s needs a chunk of pack %s, which is not there any more", key, at.Pack)
			}
			all[now.Pack.Key()] = true
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	for key := range s.Scan(catalog.RunPrefix) {
		all["s/"+strings.Replace(strings.TrimPrefix(key, catalog.RunPrefix), "/", "/i", 1)] = true
	}
	for key, raw := range s.Scan(catalog.MovedPrefix) {
		rec, err := catalog.Parse[catalog.Moved](key, raw)
		if err != nil {
			return nil, err
		}
		all[rec.In] = true
	}
	return all, errors.Join(w.counts(t, s, all))
}

func (w *world) has(t *testing.T, key string) bool {
	_, err := w.store.Stat(t.Context(), key)
	return err == nil
}

// counts adds the objects in which references are counted.
func (w *world) counts(t *testing.T, s ledger.State, all map[string]bool) error {
	last, ok, err := catalog.Get[catalog.Collected](s, catalog.GCKey)
	if err != nil || !ok || last.State == "" {
		return err
	}
	all[last.State] = true
	b, _, err := objstore.ReadAll(t.Context(), w.store, last.State, 1<<20)
	if err != nil {
		return err
	}
	root, err := packrefs.ParseRoot(b)
	if err != nil {
		return err
	}
	for _, shard := range root.Shards {
		all[shard.Key] = true
	}
	return nil
}
