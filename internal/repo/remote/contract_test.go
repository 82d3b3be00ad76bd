package remote_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/datastore/sweep"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

var vm100 = names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1717600000}

func at(s names.Snapshot, seconds int64) names.Snapshot {
	s.Time += seconds
	return s
}

func in(s names.Snapshot, ns names.Namespace) names.Snapshot {
	s.NS = ns
	return s
}

// picture is an image in memory.
type picture []byte

func (p picture) Size() int64 { return int64(len(p)) }

func (p picture) ReadAt(b []byte, off int64) (int, error) { return bytes.NewReader(p).ReadAt(b, off) }

func image(n int) picture {
	return bytes.Repeat([]byte{byte(n), 1, 2, 3, 4, 5, 6}, 900<<10) // a bit more than a chunk
}

func save(t *testing.T, r repo.Repository, n names.Snapshot, img picture) {
	t.Helper()
	_, err := backup.Run(t.Context(), r, backup.Job{
		Snapshot: n, Notes: "first line\nsecond",
		Sources: []backup.Source{{Name: "d.img.fidx", Image: img}, {Name: "vm.conf.blob", Data: []byte("cores: 2\n")}},
		Options: backup.Options{Workers: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The promises of repo.Repository, held by a directory and by a server.
func TestRepositoriesKeepTheirPromises(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (r repo.Repository, path string){
		"directory": func(t *testing.T) (repo.Repository, string) {
			path := filepath.Join(t.TempDir(), "store")
			if err := dir.Create(t.Context(), path, datastore.CreateOptions{Lazy: true}); err != nil {
				t.Fatal(err)
			}
			s, err := dir.Open(path, dir.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			return s, path
		},
		"server": func(t *testing.T) (repo.Repository, string) {
			s := newSite(t)
			return s.open(s.options()), s.path
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, p := range promises {
				t.Run(p.name, func(t *testing.T) {
					r, path := open(t)
					p.test(t, r, path)
				})
			}
		})
	}
}

// is checks the kind of an error.
func is(t *testing.T, what string, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: %v, want %v", what, err, kind)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var promises = []struct {
	name string
	test func(t *testing.T, r repo.Repository, path string)
}{
	{"namespaces", func(t *testing.T, r repo.Repository, _ string) {
		ctx := t.Context()
		for _, ns := range []names.Namespace{"b", "a", "a/x", "a/x/y"} {
			ok(t, r.CreateNamespace(ctx, ns))
		}
		is(t, "again", r.CreateNamespace(ctx, "a"), repo.ErrExists)
		is(t, "the root", r.CreateNamespace(ctx, names.Root), repo.ErrExists)
		is(t, "without the one above", r.CreateNamespace(ctx, "c/d"), repo.ErrNotFound)
		for parent, want := range map[names.Namespace][]names.Namespace{
			names.Root: {"a", "a/x", "a/x/y", "b"}, "a": {"a/x", "a/x/y"}, "b": nil,
		} {
			if got, err := r.Namespaces(ctx, parent); err != nil || !slices.Equal(got, want) {
				t.Errorf("below %q: %q, %v, want %q", parent, got, err, want)
			}
		}
		_, err := r.Namespaces(ctx, "c")
		is(t, "list of none", err, repo.ErrNotFound)
		save(t, r, in(vm100, "a/x"), image(1))
		if err := r.DeleteNamespace(ctx, "a", false); err == nil {
			t.Error("a namespace with a group in it was removed")
		}
		ok(t, r.DeleteNamespace(ctx, "b", false))
		ok(t, r.DeleteNamespace(ctx, "a", true))
		is(t, "what is gone", r.DeleteNamespace(ctx, "a", true), repo.ErrNotFound)
		if got, err := r.Namespaces(ctx, names.Root); err != nil || len(got) != 0 {
			t.Errorf("left: %q, %v", got, err)
		}
		_, err = r.Groups(ctx, "a")
		is(t, "groups of none", err, repo.ErrNotFound)
		_, err = r.Snapshots(ctx, "a", nil)
		is(t, "snapshots of none", err, repo.ErrNotFound)
		_, err = r.Begin(ctx, repo.Begin{Snapshot: in(vm100, "a")})
		is(t, "a backup into none", err, repo.ErrNotFound)
	}},
	{"lists", func(t *testing.T, r repo.Repository, _ string) {
		ctx := t.Context()
		if got, err := r.Groups(ctx, names.Root); err != nil || len(got) != 0 {
			t.Errorf("groups of nothing: %v, %v", got, err)
		}
		if got, err := r.Snapshots(ctx, names.Root, nil); err != nil || len(got) != 0 {
			t.Errorf("snapshots of nothing: %v, %v", got, err)
		}
		_, err := r.Snapshots(ctx, names.Root, &vm100.Group)
		is(t, "a group that is not there", err, repo.ErrNotFound)
		for i := range 3 {
			save(t, r, at(vm100, int64(i)), image(i))
		}
		save(t, r, names.Snapshot{Group: names.Group{Type: names.VM, ID: "9"}, Time: 5}, image(1))
		running, err := r.Begin(ctx, repo.Begin{Snapshot: at(vm100, 3)})
		ok(t, err)
		defer func() { _ = running.Abort() }()

		groups, err := r.Groups(ctx, names.Root)
		ok(t, err)
		if len(groups) != 2 || groups[0].Group.ID != "9" || groups[1].Group != vm100.Group || groups[1].Count != 3 ||
			!groups[1].LastBackup.Equal(time.Unix(vm100.Time+2, 0)) || !slices.Contains(groups[1].Files, "d.img.fidx") {
			t.Errorf("groups: %+v", groups)
		}
		snaps, err := r.Snapshots(ctx, names.Root, &vm100.Group)
		ok(t, err)
		if len(snaps) != 4 {
			t.Fatalf("%d snapshots", len(snaps))
		}
		for i, s := range snaps {
			if s.Snapshot != at(vm100, int64(i)) || s.Finished != (i < 3) || s.Problem != nil {
				t.Errorf("snapshot %d: %+v", i, s)
			}
			if i == 3 {
				continue
			}
			if len(s.Files) != 2 || s.Files[0].Filename != "d.img.fidx" || s.Files[0].Size != uint64(len(image(0))) || s.Files[0].CryptMode != manifest.ModeNone ||
				s.Size != int64(s.Files[0].Size+s.Files[1].Size) || s.Protected || s.Signed || s.Verify != nil || s.Fingerprint != "" {
				t.Errorf("snapshot %d: %+v", i, s)
			}
		}
		all, err := r.Snapshots(ctx, names.Root, nil)
		if err != nil || len(all) != 5 {
			t.Errorf("%d snapshots in all, %v", len(all), err)
		}
	}},
	{"changes", func(t *testing.T, r repo.Repository, _ string) {
		ctx := t.Context()
		save(t, r, vm100, image(1))
		save(t, r, at(vm100, 1), image(1))
		const text = "one+two & three=4\nfünf"
		ok(t, r.SetNotes(ctx, vm100, text))
		ok(t, r.SetGroupNotes(ctx, names.Root, vm100.Group, text))
		if got, err := r.GroupNotes(ctx, names.Root, vm100.Group); err != nil || got != text {
			t.Errorf("group notes %q, %v", got, err)
		}
		snap, err := r.Open(ctx, vm100)
		ok(t, err)
		if got := snap.Manifest().Notes(); got != text {
			t.Errorf("notes %q", got)
		}
		is(t, "removed under a reader", r.Forget(ctx, vm100), repo.ErrLocked)
		ok(t, snap.Close())
		ok(t, eventually(func() error { return r.SetProtected(ctx, vm100, true) }))
		is(t, "a protected one", eventually(func() error { return r.Forget(ctx, vm100) }), repo.ErrProtected)
		raw := encode(t, []byte("log"))
		ok(t, r.PutLog(ctx, vm100, raw))
		is(t, "a second log", r.PutLog(ctx, vm100, raw), repo.ErrExists)
		if snap, err = r.Open(ctx, vm100); err == nil {
			got, err := snap.Blob(names.ClientLog)
			if err != nil || !bytes.Equal(got, raw) {
				t.Errorf("log: %q, %v", got, err)
			}
			ok(t, snap.Close())
		}
		ok(t, eventually(func() error { return r.SetProtected(ctx, vm100, true) })) // once more: now no reader is left
		res, err := r.ForgetGroup(ctx, names.Root, vm100.Group)
		if err != nil || res != (repo.ForgetGroupResult{Removed: 1, Protected: 1}) {
			t.Errorf("forget group: %+v, %v", res, err)
		}
		ok(t, r.SetProtected(ctx, vm100, false))
		ok(t, eventually(func() error { return r.Forget(ctx, vm100) }))
		is(t, "what is gone", r.Forget(ctx, vm100), repo.ErrNotFound)
		_, err = r.Open(ctx, vm100)
		is(t, "open what is gone", err, repo.ErrNotFound)
		is(t, "notes of what is gone", r.SetNotes(ctx, vm100, "x"), repo.ErrNotFound)
		_, err = r.GroupNotes(ctx, names.Root, vm100.Group)
		is(t, "group notes of what is gone", err, repo.ErrNotFound)
	}},
	{"sessions meet", func(t *testing.T, r repo.Repository, _ string) {
		ctx := t.Context()
		save(t, r, vm100, image(1))
		_, err := r.Begin(ctx, repo.Begin{Snapshot: vm100})
		is(t, "the same time", err, repo.ErrExists)
		_, err = r.Begin(ctx, repo.Begin{Snapshot: at(vm100, -1)})
		is(t, "an earlier time", err, repo.ErrExists)
		s, err := r.Begin(ctx, repo.Begin{Snapshot: at(vm100, 1)})
		ok(t, err)
		_, err = r.Begin(ctx, repo.Begin{Snapshot: at(vm100, 2)})
		is(t, "two at a time", err, repo.ErrLocked)
		is(t, "removal of the base", r.Forget(ctx, vm100), repo.ErrLocked)
		ok(t, s.Abort())
		ok(t, eventually(func() error {
			s, err := r.Begin(ctx, repo.Begin{Snapshot: at(vm100, 1)})
			if err != nil {
				return err
			}
			return s.Abort()
		}))
	}},
	{"pruning", func(t *testing.T, r repo.Repository, _ string) {
		ctx := t.Context()
		for i := range 4 {
			save(t, r, at(vm100, int64(i)), image(1))
		}
		ok(t, r.SetProtected(ctx, vm100, true))
		for _, dry := range []bool{true, false} {
			got, err := r.Prune(ctx, repo.PruneOptions{Group: &vm100.Group, Keep: retention.Options{Last: 2}, DryRun: dry, Location: time.UTC})
			ok(t, err)
			var marks []retention.Mark
			for _, p := range got {
				if p.Err != nil {
					t.Errorf("%s: %v", p.Snapshot, p.Err)
				}
				marks = append(marks, p.Mark)
			}
			want := []retention.Mark{retention.Protected, retention.Remove, retention.Keep, retention.Keep}
			if !slices.Equal(marks, want) {
				t.Errorf("dry run %v: %v, want %v", dry, marks, want)
			}
		}
		if got, err := r.Snapshots(ctx, names.Root, nil); err != nil || len(got) != 3 {
			t.Errorf("left are %d, %v", len(got), err)
		}
	}},
	{"verification", func(t *testing.T, r repo.Repository, path string) {
		ctx := t.Context()
		save(t, r, vm100, image(1))
		save(t, r, names.Snapshot{Group: names.Group{Type: names.Host, ID: "h"}, Time: 5}, image(2))
		rep, err := r.Verify(ctx, repo.VerifyOptions{IgnoreVerified: true})
		ok(t, err)
		if len(rep.Snapshots) != 2 || len(rep.Snapshots[0].Errors)+len(rep.Snapshots[1].Errors) > 0 {
			t.Errorf("sound: %+v", rep.Snapshots)
		}
		if rep.Uncounted || rep.Chunks != 4 || rep.Bytes == 0 {
			t.Errorf("sound: %d chunks and %d bytes were read, uncounted %v", rep.Chunks, rep.Bytes, rep.Uncounted)
		}
		rep, err = r.Verify(ctx, repo.VerifyOptions{IgnoreVerified: true})
		if err != nil || len(rep.Snapshots) != 2 || rep.Snapshots[0].Skipped != "verified already" {
			t.Errorf("again: %+v, %v", rep.Snapshots, err)
		}
		ok(t, damage(path))
		rep, err = r.Verify(ctx, repo.VerifyOptions{Snapshot: &vm100})
		if err != nil || len(rep.Snapshots) != 1 || len(rep.Snapshots[0].Errors) == 0 {
			t.Fatalf("damaged: %+v, %v", rep.Snapshots, err)
		}
		if _, bad := errors.AsType[*repo.CorruptError](rep.Snapshots[0].Errors[0]); !bad && !errors.Is(rep.Snapshots[0].Errors[0], repo.ErrChunkMissing) {
			t.Errorf("damaged: %v", rep.Snapshots[0].Errors)
		}
		infos, err := r.Snapshots(ctx, names.Root, &vm100.Group)
		if err != nil || infos[0].Verify == nil || infos[0].Verify.State != manifest.VerifyFailed {
			t.Errorf("verdict: %+v, %v", infos, err)
		}
		_, err = r.Verify(ctx, repo.VerifyOptions{Snapshot: &names.Snapshot{Group: vm100.Group, Time: 1}})
		if err == nil {
			t.Error("a snapshot that is not there was verified")
		}
	}},
	{"collection and usage", func(t *testing.T, r repo.Repository, _ string) {
		ctx := t.Context()
		if st, err := r.LastGC(ctx); err != nil || st.UPID != "" {
			t.Errorf("before the first: %+v, %v", st, err)
		}
		save(t, r, vm100, image(1))
		st, err := r.GC(ctx, repo.GCOptions{Cutoff: sweep.DefaultCutoff})
		ok(t, err)
		if st.UPID == "" || st.IndexFiles != 1 || st.DiskChunks == 0 {
			t.Errorf("status %+v", st)
		}
		if again, err := r.LastGC(ctx); err != nil || again.UPID != st.UPID {
			t.Errorf("last: %+v, %v", again, err)
		}
		if u, err := r.Usage(ctx); err != nil || u.Total == 0 || u.Available > u.Total {
			t.Errorf("usage %+v, %v", u, err)
		}
	}},
}

// eventually tries again what may meet a lock that the other side has not given
// back yet.
func eventually(f func() error) (err error) {
	for range 500 {
		if err = f(); !errors.Is(err, repo.ErrLocked) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// damage flips a byte of every chunk.
func damage(path string) error {
	return filepath.WalkDir(filepath.Join(path, ".chunks"), func(name string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		b[len(b)-1] ^= 1
		return os.WriteFile(name, b, 0o600)
	})
}

func encode(t *testing.T, plain []byte) []byte {
	t.Helper()
	e, err := blob.NewEncoder(nil, nil, true)
	ok(t, err)
	defer e.Close()
	raw, err := e.Append(nil, plain)
	ok(t, err)
	return raw
}
