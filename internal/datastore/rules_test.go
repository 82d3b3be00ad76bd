package datastore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/faultfs"
)

// encoded is plain in the form that a key and compression make of it.
func encoded(t *testing.T, plain []byte, key *chunkcrypt.Key, compress bool) []byte {
	t.Helper()
	var random io.Reader
	if key != nil {
		random = newBytes(9)
	}
	enc, err := blob.NewEncoder(key, random, compress)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	raw, err := enc.Append(nil, plain)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func begin(t *testing.T, s *datastore.Store, n names.Snapshot) repo.Session {
	t.Helper()
	ses, err := s.Begin(t.Context(), repo.Begin{Snapshot: n})
	if err != nil {
		t.Fatal(err)
	}
	return ses
}

func TestInsertOfAnExistingChunk(t *testing.T) {
	key, err := chunkcrypt.New([32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.Repeat([]byte("all work and no play "), 40)
	long, short := encoded(t, text, nil, false), encoded(t, text, nil, true)
	secret, secretShort := encoded(t, text, key, false), encoded(t, text, key, true)
	torn := slices.Clone(long)
	clear(torn[300:])
	for _, tc := range []struct {
		name       string
		there, new []byte
		stored     bool
		refused    bool
	}{
		{"same size", long, long, false, false},
		{"empty file", []byte{}, long, true, false},
		{"torn file", torn, long, true, false},
		{"torn file, and the new one is longer", torn, short, true, false},
		{"cut file", long[:5], long, true, false},
		{"smaller one is there", short, long, false, false},
		{"bigger one is there", long, short, true, false},
		{"encrypted over plain", long, secret, false, true},
		{"encrypted over smaller encrypted", secretShort, secret, false, false},
		{"encrypted over bigger encrypted", secret, secretShort, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDisk(t)
			s := mustOpen(t, d)
			ses := begin(t, s, snapshotAt("100", d.Now()))
			name := digest.Of(text)
			if _, err := ses.Put(t.Context(), name, len(text), long); err != nil {
				t.Fatal(err)
			}
			if err := d.Corrupt(names.ChunkPath(name), func([]byte) []byte { return tc.there }); err != nil {
				t.Fatal(err)
			}
			d.Advance(time.Hour)
			stored, err := ses.Put(t.Context(), name, len(text), tc.new)
			if (err != nil) != tc.refused || stored != tc.stored {
				t.Fatalf("stored %v, %v", stored, err)
			}
			want := tc.there
			if tc.stored {
				want = tc.new
			}
			if got, _ := d.Content(names.ChunkPath(name)); !bytes.Equal(got, want) {
				t.Errorf("%d bytes are stored, want %d", len(got), len(want))
			}
			if info, err := d.Lstat(names.ChunkPath(name)); err != nil || !tc.refused && !info.Atime.Equal(d.Now()) {
				t.Errorf("access time %v, want %v", info.Atime, d.Now())
			}
			if err := ses.Abort(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestChunkOnABadSectorIsStoredAnew(t *testing.T) {
	d := newDisk(t)
	text := bytes.Repeat([]byte("all work and no play "), 40)
	raw, name := encoded(t, text, nil, false), digest.Of(text)
	f := faultfs.New(d, &faultfs.Rule{Ops: []faultfs.Op{faultfs.Read}, Path: name.String(), Times: -1, Err: syscall.EIO})
	s, err := open(f, d)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ses := begin(t, s, snapshotAt("100", d.Now()))
	for _, want := range []bool{true, true} { // not there; there, and cannot be read
		if has, err := ses.Has(t.Context(), name); has || err != nil {
			t.Fatalf("it is sound: %v, %v", has, err)
		}
		stored, err := ses.Put(t.Context(), name, len(text), raw)
		if err != nil || stored != want {
			t.Fatalf("stored %v, %v", stored, err)
		}
	}
	if got, _ := d.Content(names.ChunkPath(name)); !bytes.Equal(got, raw) || f.Count(name.String(), faultfs.Rename) != 2 {
		t.Errorf("%d bytes are stored, renamed %d times", len(got), f.Count(name.String(), faultfs.Rename))
	}
	if err := ses.Abort(); err != nil {
		t.Error(err)
	}
}

func TestChunkNameTakenByADirectoryIsAnError(t *testing.T) {
	d := newDisk(t)
	s := mustOpen(t, d)
	name := digest.Of([]byte("x"))
	for _, dir := range []string{path.Dir(names.ChunkPath(name)), names.ChunkPath(name)} {
		if err := d.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ses := begin(t, s, snapshotAt("100", d.Now()))
	if _, err := ses.Put(t.Context(), name, 1, encoded(t, []byte("x"), nil, false)); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Fatalf("err = %v", err)
	}
}

func TestPruneRemovesTheOldestFirst(t *testing.T) {
	d := newDisk(t)
	s := mustOpen(t, d)
	cl := newClient(t)
	var all []names.Snapshot
	for i := range 6 {
		n := snapshotAt("100", d.Now())
		if err := cl.backup(t.Context(), s, n, []byte{byte(i)}, []byte("conf")); err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
		d.Advance(24 * time.Hour)
	}
	if err := s.SetProtected(t.Context(), all[1], true); err != nil {
		t.Fatal(err)
	}
	var gone []string
	watched, err := open(&hooked{d, func(call string) {
		if rest, ok := strings.CutPrefix(call, "remove vm/100/"); ok && strings.HasSuffix(rest, "index.json.blob") {
			gone = append(gone, strings.TrimSuffix(rest, "/index.json.blob"))
		}
	}}, d)
	if err != nil {
		t.Fatal(err)
	}
	results, err := watched.Prune(t.Context(), repo.PruneOptions{Keep: retention.Options{Last: 2}, Location: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{names.FormatTime(all[0].Time), names.FormatTime(all[2].Time), names.FormatTime(all[3].Time)}
	if !slices.Equal(gone, want) {
		t.Errorf("removed %v, want %v", gone, want)
	}
	marks := []retention.Mark{retention.Remove, retention.Protected, retention.Remove, retention.Remove, retention.Keep, retention.Keep}
	for i, r := range results {
		if r.Snapshot != all[i] || r.Mark != marks[i] || r.Err != nil {
			t.Errorf("%+v, want %s", r, marks[i])
		}
	}
}

// A server takes the whole of .lock: shared to write, exclusive to collect.
func TestServersAndOurProcessesKeepOutOfEachOthersWay(t *testing.T) {
	r := newRace(t)
	server := r.w.disk.Process()
	lock := func(mode vfs.LockMode) (vfs.Unlocker, error) { return server.LockRange(".lock", 0, 0, mode) }
	mustUnlock := func(u vfs.Unlocker) {
		t.Helper()
		if err := u.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	writing, err := lock(vfs.Shared)
	if err != nil {
		t.Fatal(err)
	}
	if err := collect(r.plain()); !errors.Is(err, repo.ErrLocked) {
		t.Errorf("collection while the server writes: %v", err)
	}
	r.backup(r.plain(), r.client, r.cast.base) // beside it
	mustUnlock(writing)

	collecting, err := lock(vfs.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.plain().Begin(t.Context(), repo.Begin{Snapshot: snapshotAt("300", r.w.disk.Now())})
	if !errors.Is(err, repo.ErrLocked) || !strings.Contains(err.Error(), "backup server") {
		t.Errorf("backup while the server collects: %v", err)
	}
	if _, err := r.w.disk.Lstat("vm/300"); err == nil {
		t.Error("a group was made")
	}
	if err := collect(r.plain()); !errors.Is(err, repo.ErrLocked) {
		t.Errorf("collection while the server collects: %v", err)
	}
	if _, _, err := r.restore(t.Context(), r.plain(), r.cast.base); err != nil {
		t.Errorf("restore while the server collects: %v", err)
	}
	mustUnlock(collecting)

	ses := begin(t, r.plain(), snapshotAt("300", r.w.disk.Now()))
	if _, err := lock(vfs.Exclusive); !errors.Is(err, repo.ErrLocked) {
		t.Errorf("the server may collect while we write: %v", err)
	}
	if err := collect(r.plain()); err != nil {
		t.Errorf("our collection beside our backup: %v", err)
	}
	if err := ses.Abort(); err != nil {
		t.Fatal(err)
	}
	running := r.process("readdir .chunks", func() {
		if _, err := lock(vfs.Shared); !errors.Is(err, repo.ErrLocked) {
			t.Errorf("the server may write while we collect: %v", err)
		}
		if err := collect(r.plain()); !errors.Is(err, repo.ErrLocked) {
			t.Errorf("two collections: %v", err)
		}
	})
	if err := collect(running); err != nil {
		t.Fatal(err)
	}
	r.finish()
}

func TestCancelledOperationsStopAndLeaveNothing(t *testing.T) {
	r := newRace(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	c := r.cast.next(r.cast.base)
	n := snapshotAt("100", r.w.disk.Now())
	s := r.plain()
	_, gcErr := s.GC(ctx, repo.GCOptions{SkipAtimeCheck: true})
	_, verifyErr := s.Verify(ctx, repo.VerifyOptions{})
	for what, err := range map[string]error{"backup": r.client.backup(ctx, s, n, c.Image, c.Conf), "gc": gcErr, "verify": verifyErr} {
		if !errors.Is(err, why) && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if why := leftovers(r.w.disk, nil, -1); why != nil {
		t.Error(why)
	}
	r.finish()
}
