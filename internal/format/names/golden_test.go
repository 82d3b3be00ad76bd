package names_test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// golden is testdata/names.json. It was computed by a program written from the
// format description and checked by a second one.
type golden struct {
	BackupID struct {
		Valid, Invalid []string
	} `json:"backup-id"`
	Namespace struct {
		Valid, Invalid []string
		Paths          map[string]string
	}
	SnapshotPath []struct {
		Path string
		Type *string
		ID   string
		Time int64
	} `json:"snapshot-path"`
	RFC3339 []struct {
		Text  string
		Epoch *int64
	}
	ChunkPath []struct {
		Digest digest.Digest
		Path   string
	} `json:"chunk-path"`
	BadChunkPath []struct {
		Digest digest.Digest
		N      int
		Path   string
	} `json:"bad-chunk-path"`
	GroupOrder []string `json:"group-order"`
	LockFiles  []struct {
		Namespace string
		Relative  string
		LockFile  string `json:"lock-file"`
	} `json:"lock-files"`
	S3Keys struct {
		Store    string
		Chunk    string
		BadChunk string `json:"bad-chunk"`
		Content  struct {
			Owner, Notes, Index, Manifest, Protected string
			Namespace                                string `json:"namespace-marker"`
		}
		InUse struct{ Key string } `json:"in-use"`
	} `json:"s3-keys"`
}

func readGolden(t testing.TB) golden {
	t.Helper()
	b, err := os.ReadFile("testdata/names.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.BackupID.Valid) == 0 || len(g.Namespace.Paths) == 0 || len(g.SnapshotPath) == 0 || len(g.RFC3339) == 0 ||
		len(g.ChunkPath) == 0 || len(g.BadChunkPath) == 0 || len(g.GroupOrder) == 0 || len(g.LockFiles) == 0 {
		t.Fatal("names.json lacks a section")
	}
	return g
}

func TestBackupIDsMatchTheGoldenList(t *testing.T) {
	g := readGolden(t)
	for _, id := range g.BackupID.Valid {
		group, err := names.ParseGroup("host/" + id)
		if err != nil || group.ID != id || group.String() != "host/"+id {
			t.Errorf("id %q: %v, %v", id, group, err)
		}
	}
	for _, id := range g.BackupID.Invalid {
		if group, err := names.ParseGroup("host/" + id); err == nil {
			t.Errorf("id %q is accepted as %v", id, group)
		}
	}
}

func TestNamespacesMatchTheGoldenList(t *testing.T) {
	g := readGolden(t)
	for _, s := range g.Namespace.Valid {
		if ns, err := names.ParseNamespace(s); err != nil || ns.String() != s {
			t.Errorf("namespace %q: %q, %v", s, ns, err)
		}
	}
	for _, s := range g.Namespace.Invalid {
		if ns, err := names.ParseNamespace(s); err == nil {
			t.Errorf("namespace %q is accepted as %q", s, ns)
		}
	}
	for s, path := range g.Namespace.Paths {
		if got := names.Namespace(s).Path(); got != path {
			t.Errorf("path of %q = %q, want %q", s, got, path)
		}
	}
}

func TestSnapshotPathsMatchTheGoldenList(t *testing.T) {
	for _, tc := range readGolden(t).SnapshotPath {
		s, err := names.ParseSnapshot(tc.Path)
		if tc.Type == nil {
			if err == nil {
				t.Errorf("%q is accepted as %v", tc.Path, s)
			}
			continue
		}
		want := names.Snapshot{Group: names.Group{Type: names.BackupType(*tc.Type), ID: tc.ID}, Time: tc.Time}
		if err != nil || s != want || s.Path() != tc.Path {
			t.Errorf("%q = %+v, %v, want %+v", tc.Path, s, err, want)
		}
	}
}

func TestTimesMatchTheGoldenList(t *testing.T) {
	for _, tc := range readGolden(t).RFC3339 {
		got, err := names.ParseRFC3339(tc.Text)
		switch {
		case tc.Epoch == nil && err == nil:
			t.Errorf("%q is accepted as %d", tc.Text, got)
		case tc.Epoch != nil && (err != nil || got != *tc.Epoch):
			t.Errorf("%q = %d, %v, want %d", tc.Text, got, err, *tc.Epoch)
		}
	}
}

func TestChunkPathsMatchTheGoldenList(t *testing.T) {
	g := readGolden(t)
	for _, tc := range g.ChunkPath {
		if got := names.ChunkPath(tc.Digest); got != tc.Path {
			t.Errorf("ChunkPath = %q, want %q", got, tc.Path)
		}
	}
	for _, tc := range g.BadChunkPath {
		if got := names.BadChunkPath(tc.Digest, tc.N); got != tc.Path {
			t.Errorf("BadChunkPath = %q, want %q", got, tc.Path)
		}
	}
}

func TestGroupsSortInTheGoldenOrder(t *testing.T) {
	want := readGolden(t).GroupOrder
	var groups []names.Group
	for _, s := range want {
		g, err := names.ParseGroup(s)
		if err != nil {
			t.Fatal(err)
		}
		groups = append(groups, g)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		rng.Shuffle(len(groups), func(i, j int) { groups[i], groups[j] = groups[j], groups[i] })
		slices.SortFunc(groups, names.Group.Compare)
		for i, g := range groups {
			if g.String() != want[i] {
				t.Fatalf("order %v, want %v", groups, want)
			}
		}
	}
}

func TestLockFilesMatchTheGoldenList(t *testing.T) {
	for _, tc := range readGolden(t).LockFiles {
		ns, err := names.ParseNamespace(tc.Namespace)
		if err != nil {
			t.Fatal(err)
		}
		if got := names.LockName(ns, tc.Relative); got != tc.LockFile {
			t.Errorf("LockName(%q, %q)\n got %q\nwant %q", ns, tc.Relative, got, tc.LockFile)
		}
		if got, want := names.LockPath("store1", ns, tc.Relative), "/run/proxmox-backup/locks/store1/"+tc.LockFile; got != want {
			t.Errorf("LockPath = %q, want %q", got, want)
		}
	}
}

func TestObjectKeysMatchTheGoldenList(t *testing.T) {
	g := readGolden(t)
	d := g.ChunkPath[0].Digest
	vm := names.Group{Type: names.VM, ID: "100"}
	snap := names.Snapshot{Group: vm, Time: 1717597476}
	web := names.Snapshot{NS: "a/b", Group: names.Group{Type: names.Host, ID: "web-1"}, Time: 1717597476}
	for _, tc := range []struct{ rel, want string }{
		{names.ChunkPath(d), g.S3Keys.Chunk},
		{names.BadChunkPath(d, 0), g.S3Keys.BadChunk},
		{names.S3Content(names.GroupPath("a", vm) + "/" + names.Owner), g.S3Keys.Content.Owner},
		{names.S3Content(names.GroupPath(names.Root, vm) + "/" + names.Notes), g.S3Keys.Content.Notes},
		{names.S3Content(snap.Path() + "/drive-scsi0.img.fidx"), g.S3Keys.Content.Index},
		{names.S3Content(web.Path() + "/" + names.Manifest.String()), g.S3Keys.Content.Manifest},
		{names.S3Content(snap.Path() + "/" + names.Protected), g.S3Keys.Content.Protected},
		{names.S3Namespace("a/b"), g.S3Keys.Content.Namespace},
		{names.S3InUse, g.S3Keys.InUse.Key},
	} {
		if got, err := names.S3Key(g.S3Keys.Store, tc.rel); err != nil || got != tc.want {
			t.Errorf("S3Key(%q) = %q, %v, want %q", tc.rel, got, err, tc.want)
		}
	}
}
