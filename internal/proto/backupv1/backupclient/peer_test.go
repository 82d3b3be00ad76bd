package backupclient

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1/backupserver"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
)

var quiet = slog.New(slog.DiscardHandler)

var vm100 = names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1717600000}

func at(s names.Snapshot, seconds int64) names.Snapshot {
	s.Time += seconds
	return s
}

// store makes a datastore in a directory.
func store(t testing.TB) *datastore.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store")
	if err := dir.Create(t.Context(), path, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	s, err := dir.Open(path, dir.Options{Sync: datastore.SyncNone})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := pagebuf.Outstanding(); n != 0 { // none of these tests runs beside another
			t.Errorf("%d buffers were not freed", n)
		}
	})
	return s
}

// server has sessions with a datastore over TCP. It is a backup.Beginner.
type server struct {
	t     testing.TB
	store *datastore.Store
	opts  Options
	wrap  func(net.Conn) net.Conn // of the client's end; nil: as it is

	mu       sync.Mutex
	sessions []chan error
}

func (s *server) Begin(ctx context.Context, b repo.Begin) (repo.Session, error) {
	ses, err := backupserver.Begin(ctx, backupserver.Config{
		Repo: s.store, Request: upgrade.Request{Store: "tank", Snapshot: b.Snapshot}, Auth: names.AuthID{User: "root", Realm: "pam"},
	})
	if err != nil {
		return nil, err
	}
	plain, far := pipe(s.t)
	near := plain
	ended := make(chan error, 1)
	s.mu.Lock()
	s.sessions = append(s.sessions, ended)
	s.mu.Unlock()
	go func() {
		defer close(ended)
		ended <- ses.Serve(context.WithoutCancel(ctx), upgrade.New(far))
	}()
	s.t.Cleanup(func() {
		_ = plain.Close()
		for range ended { // whoever has not been told
		}
	})
	if s.wrap != nil {
		near = s.wrap(near)
	}
	conn, err := upgrade.NewClient(ctx, near, "pbs:8007")
	if err != nil {
		return nil, err
	}
	c, err := Begin(ctx, conn, b.Snapshot, s.opts)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ended waits for the end of all sessions and returns that of the last.
func (s *server) ended() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.sessions {
		err = <-c
	}
	s.sessions = nil
	return err
}

func pipe(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

func encode(t testing.TB, plain []byte) []byte {
	t.Helper()
	e, err := blob.NewEncoder(nil, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	raw, err := e.Append(nil, plain)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func put(t testing.TB, s repo.Session, plain []byte) digest.Digest {
	t.Helper()
	d := digest.Of(plain)
	if _, err := s.Put(t.Context(), d, len(plain), encode(t, plain)); err != nil {
		t.Fatal(err)
	}
	return d
}

// finish writes a manifest of what was written.
func finish(t testing.TB, s repo.Session, files ...manifest.File) {
	t.Helper()
	m := manifest.New(s.Snapshot())
	for _, f := range files {
		f.CryptMode = manifest.ModeNone
		if err := m.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Finish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

func verify(t testing.TB, s *datastore.Store, want int) {
	t.Helper()
	rep, err := s.Verify(t.Context(), repo.VerifyOptions{Recursive: true})
	if err != nil || len(rep.Snapshots) != want {
		t.Fatalf("%d snapshots verified, %v, want %d", len(rep.Snapshots), err, want)
	}
	for _, v := range rep.Snapshots {
		if len(v.Errors) > 0 || v.Skipped != "" {
			t.Errorf("%s: %s %v", v.Snapshot, v.Skipped, v.Errors)
		}
	}
}

func visible(t testing.TB, s *datastore.Store) int {
	t.Helper()
	infos, err := s.Snapshots(t.Context(), names.Root, nil)
	if err != nil {
		t.Fatal(err)
	}
	return len(infos)
}

// files reads all files of a store but what is ours alone, without what differs
// between any two runs: number and time in the heads of indexes, and the
// statistics of a manifest.
func files(t testing.TB, s *datastore.Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(s.Location(), func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(s.Location(), name)
		if err != nil || strings.HasPrefix(rel, ".holdfast/") {
			return err
		}
		b, err := os.ReadFile(name)
		switch {
		case strings.HasSuffix(rel, "idx"):
			clear(b[8:32])
		case strings.HasSuffix(rel, string(names.Manifest)):
			dec, derr := blob.NewDecoder(nil)
			if derr != nil {
				return derr
			}
			defer dec.Close()
			text, derr := dec.Append(nil, b, manifest.MaxSize)
			m, merr := manifest.Parse(text)
			if derr != nil || merr != nil {
				return errors.Join(derr, merr)
			}
			m.SetUploadStats(manifest.UploadStats{})
			b, derr = m.Marshal()
			err = errors.Join(err, derr)
		}
		all[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
