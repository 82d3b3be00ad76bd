package datastore_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// miniStore is what testdata/mini-store.json says of mini-store.tar.gz: a
// datastore made by another program from the description of the format.
type miniStore struct {
	Chunks []struct {
		Path      string
		PlainLen  int `json:"plain-len"`
		Encrypted bool
	}
	Snapshots []struct {
		Path     string
		Manifest struct {
			Files []struct {
				Filename  string
				CryptMode manifest.CryptMode `json:"crypt-mode"`
				Size      uint64
				Csum      string
			}
			Signature   string
			Unprotected struct {
				Notes       string
				Fingerprint string                `json:"key-fingerprint"`
				Verify      *manifest.VerifyState `json:"verify_state"`
			}
		}
	}
	Orphans    []string
	Key        string            `json:"key-for-prod"`
	Drive      map[string]string `json:"drive-scsi0"`
	Etc        string            `json:"etc.bin"`
	Unfinished []string
}

// openMini unpacks the store and opens it through the real file system.
func openMini(t *testing.T) (*datastore.Store, string, miniStore) {
	t.Helper()
	var want miniStore
	b, err := os.ReadFile("testdata/mini-store.json")
	if err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	untar(t, "testdata/mini-store.tar.gz", dir)
	fsys, err := vfs.OpenOS(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := datastore.Open(fsys, datastore.Options{Location: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, dir, want
}

func untar(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.FileInfo().IsDir() {
			err = os.MkdirAll(to, 0o755)
		} else {
			var b []byte
			if b, err = io.ReadAll(tr); err == nil {
				err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, b, 0o644))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// parsePath reads a snapshot's path on disk.
func parsePath(t *testing.T, p string) names.Snapshot {
	t.Helper()
	n, err := names.ParseSnapshot(p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestForeignStoreIsListedAsItIs(t *testing.T) {
	s, _, want := openMini(t)
	ctx := t.Context()
	spaces, err := s.Namespaces(ctx, names.Root)
	if err != nil || !slices.Equal(spaces, []names.Namespace{"prod"}) {
		t.Fatalf("namespaces %v, %v", spaces, err)
	}
	vms, err := s.Groups(ctx, names.Root)
	if err != nil {
		t.Fatal(err)
	}
	groups := []repo.GroupInfo{{
		Group: names.Group{Type: names.VM, ID: "100"}, Owner: "root@pam", Count: 2, Comment: "group notes",
		LastBackup: time.Date(2024, 6, 6, 14, 24, 36, 0, time.UTC), Files: []string{"drive-scsi0.img.fidx", "index.json.blob", "qemu-server.conf.blob"},
	}}
	if !reflect.DeepEqual(vms, groups) {
		t.Errorf("groups %+v, want %+v", vms, groups)
	}
	hosts, err := s.Groups(ctx, "prod")
	if err != nil || len(hosts) != 1 || hosts[0].Owner != "backup@pbs!tok1" || hosts[0].Group.String() != "host/web1" {
		t.Errorf("groups of prod: %+v, %v", hosts, err)
	}
	if notes, err := s.GroupNotes(ctx, names.Root, names.Group{Type: names.VM, ID: "100"}); notes != "group notes\nsecond line" && notes != "group notes\nsecond line\n" || err != nil {
		t.Errorf("group notes %q, %v", notes, err)
	}
	found := map[string]repo.SnapshotInfo{}
	for _, ns := range []names.Namespace{names.Root, "prod"} {
		infos, err := s.Snapshots(ctx, ns, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range infos {
			found[info.Snapshot.Path()] = info
		}
	}
	if len(found) != len(want.Snapshots)+len(want.Unfinished) {
		t.Errorf("%d snapshots listed", len(found))
	}
	for _, p := range want.Unfinished {
		if info, ok := found[p]; !ok || info.Finished || info.Problem != nil {
			t.Errorf("%s: %+v, want it unfinished", p, info)
		}
	}
	for _, w := range want.Snapshots {
		info := found[w.Path]
		if !info.Finished || info.Problem != nil {
			t.Errorf("%s: finished %v, problem %v", w.Path, info.Finished, info.Problem)
		}
		if info.Protected != (w.Path == "vm/100/2024-06-05T14:24:36Z") {
			t.Errorf("%s: protected %v", w.Path, info.Protected)
		}
		u := w.Manifest.Unprotected
		if info.Notes != u.Notes || info.Fingerprint != u.Fingerprint {
			t.Errorf("%s: notes %q, key %q", w.Path, info.Notes, info.Fingerprint)
		}
		if !reflect.DeepEqual(info.Verify, u.Verify) {
			t.Errorf("%s: verify state %+v, want %+v", w.Path, info.Verify, u.Verify)
		}
		for i, f := range w.Manifest.Files {
			got := info.Files[i]
			if got.Filename != f.Filename || got.CryptMode != f.CryptMode || got.Size != f.Size || got.Csum.String() != f.Csum {
				t.Errorf("%s: %+v, want %+v", w.Path, got, f)
			}
		}
	}
}

func TestForeignStoreRestoresToItsDigests(t *testing.T) {
	s, dir, want := openMini(t)
	ctx := t.Context()
	key := miniKey(t, want)
	dec, err := blob.NewDecoder(key)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	read := func(snap repo.Snapshot, ds []digest.Digest) string {
		var plain []byte
		for _, d := range ds {
			raw, err := snap.ReadChunk(ctx, d, nil)
			if err == nil {
				plain, err = dec.Append(plain, raw, 4<<20)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return digest.Of(plain).String()
	}
	for when, sum := range want.Drive {
		snap, err := s.Open(ctx, parsePath(t, "vm/100/"+when))
		if err != nil {
			t.Fatal(err)
		}
		x, closer, err := snap.OpenFixed("drive-scsi0.img.fidx")
		if err != nil {
			t.Fatal(err)
		}
		ds := make([]digest.Digest, x.Count())
		if err := x.Digests(0, ds); err != nil {
			t.Fatal(err)
		}
		if got := read(snap, ds); got != sum {
			t.Errorf("drive of %s restores to %s, want %s", when, got, sum)
		}
		if err := errors.Join(closer.Close(), snap.Close()); err != nil {
			t.Error(err)
		}
	}
	snap, err := s.Open(ctx, parsePath(t, "ns/prod/host/web1/2024-06-05T14:24:36Z"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = snap.Close() }()
	if err := snap.Manifest().Verify(key); err != nil {
		t.Error(err)
	}
	f, err := os.Open(filepath.Join(dir, "ns/prod/host/web1/2024-06-05T14:24:36Z/etc.bin.didx"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	x, err := didx.Open(f, fi.Size())
	if err != nil {
		t.Fatal(err)
	}
	var ds []digest.Digest
	if err := x.Each(func(_ int, _, _ int64, d digest.Digest) error { ds = append(ds, d); return nil }); err != nil {
		t.Fatal(err)
	}
	if got := read(snap, ds); got != want.Etc {
		t.Errorf("etc.bin restores to %s, want %s", got, want.Etc)
	}
}

func miniKey(t *testing.T, want miniStore) *chunkcrypt.Key {
	t.Helper()
	var raw [32]byte
	if _, err := hex.Decode(raw[:], []byte(want.Key)); err != nil {
		t.Fatal(err)
	}
	key, err := chunkcrypt.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestForeignStoreVerifies(t *testing.T) {
	s, _, want := openMini(t)
	for _, key := range []*chunkcrypt.Key{nil, miniKey(t, want)} {
		rep, err := s.Verify(t.Context(), repo.VerifyOptions{Recursive: true, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if len(rep.Snapshots) != len(want.Snapshots) {
			t.Errorf("%d snapshots verified, want %d", len(rep.Snapshots), len(want.Snapshots))
		}
		for _, v := range rep.Snapshots {
			if v.Skipped != "" || len(v.Errors) > 0 {
				t.Errorf("%s: skipped %q, %v", v.Snapshot, v.Skipped, v.Errors)
			}
		}
		if used := int64(len(want.Chunks) - 1); rep.Chunks != used { // all but the orphan
			t.Errorf("%d chunks read, want %d", rep.Chunks, used)
		}
	}
	// What the other program verified stays so when asked.
	rep, err := s.Verify(t.Context(), repo.VerifyOptions{Recursive: true, IgnoreVerified: true})
	for _, v := range rep.Snapshots {
		if v.Skipped != "verified already" {
			t.Errorf("%s verified again", v.Snapshot)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The files are as old as the tests: everything that no index names goes, and
// nothing else.
func TestForeignStoreLosesOnlyItsOrphans(t *testing.T) {
	s, dir, want := openMini(t)
	old := time.Now().Add(-48 * time.Hour)
	for _, c := range want.Chunks {
		if err := os.Chtimes(filepath.Join(dir, c.Path), old, old); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range want.Orphans {
		if err := os.Chtimes(filepath.Join(dir, p), old, old); err != nil {
			t.Fatal(err)
		}
	}
	st, err := s.GC(t.Context(), repo.GCOptions{SkipAtimeCheck: true})
	if err != nil {
		t.Fatal(err)
	}
	if st.RemovedChunks != 1 || st.RemovedBad != 1 || st.RemovedBytes != 59 || st.DiskChunks != 6 || st.PendingChunks != 0 {
		t.Errorf("%+v", st)
	}
	// The unfinished snapshot's index counts too.
	if st.IndexFiles != 4 || st.IndexDataBytes < 2*8389528+107100 {
		t.Errorf("%d indexes, %d bytes", st.IndexFiles, st.IndexDataBytes)
	}
	for _, c := range want.Chunks {
		_, err := os.Stat(filepath.Join(dir, c.Path))
		if gone := errors.Is(err, os.ErrNotExist); gone != slices.Contains(want.Orphans, c.Path) {
			t.Errorf("%s: %v", c.Path, err)
		}
	}
	for _, p := range want.Orphans {
		if _, err := os.Stat(filepath.Join(dir, p)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", p, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, ".gc-status"))
	if err != nil || strings.ContainsAny(string(text), " \n") {
		t.Errorf("status %q, %v", text, err)
	}
}

func TestProtectedForeignSnapshotStays(t *testing.T) {
	s, _, want := openMini(t)
	if err := s.Forget(t.Context(), parsePath(t, want.Snapshots[0].Path)); !errors.Is(err, repo.ErrProtected) {
		t.Fatalf("err = %v", err)
	}
	res, err := s.ForgetGroup(t.Context(), names.Root, names.Group{Type: names.VM, ID: "100"})
	if err != nil || res != (repo.ForgetGroupResult{Removed: 2, Protected: 1}) {
		t.Fatalf("%+v, %v", res, err)
	}
}
