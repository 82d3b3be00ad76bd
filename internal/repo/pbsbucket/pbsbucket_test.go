package pbsbucket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"github.com/holdfast-backup/holdfast/internal/repo/pbsbucket"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

func TestWhatTheServerWroteIsListedAsItListsIt(t *testing.T) {
	_, r, want := theServers(t)
	ctx := t.Context()
	spaces, err := r.Namespaces(ctx, names.Root)
	slices.Sort(spaces)
	slices.Sort(want.Namespaces)
	if err != nil || !slices.Equal(spaces, want.Namespaces) {
		t.Errorf("namespaces %q, %v, want %q", spaces, err, want.Namespaces)
	}
	if below, err := r.Namespaces(ctx, "a"); err != nil || !slices.Equal(below, []names.Namespace{"a/b"}) {
		t.Errorf("below a: %q, %v", below, err)
	}
	for ns, list := range want.Lists {
		got, err := r.Snapshots(ctx, ns, nil)
		if err != nil || len(got) != len(list) {
			t.Fatalf("namespace %q: %d snapshots, %v, want %d", ns, len(got), err, len(list))
		}
		for _, w := range list {
			name := names.Snapshot{NS: ns, Group: names.Group{Type: w.Type, ID: w.ID}, Time: w.Time}
			i := slices.IndexFunc(got, func(s repo.SnapshotInfo) bool { return s.Snapshot == name })
			if i < 0 {
				t.Errorf("%s in %q is not listed", name, ns)
				continue
			}
			g := got[i]
			comment, _, _ := strings.Cut(g.Notes, "\n")
			verified := g.Verify != nil && string(g.Verify.State) == w.Verify.State && g.Verify.UPID == w.Verify.UPID
			if !g.Finished || g.Problem != nil || g.Owner != w.Owner || g.Protected != w.Protected || comment != w.Comment || g.Fingerprint != w.Fingerprint || !verified {
				t.Errorf("%s is listed as %+v, want %+v", name, g, w)
			}
			for _, f := range w.Files {
				j := slices.IndexFunc(g.Files, func(m manifest.File) bool { return m.Filename == f.Filename })
				if inManifest := f.Filename != "index.json.blob" && f.Filename != "client.log.blob"; inManifest != (j >= 0) {
					t.Errorf("%s: file %s", name, f.Filename)
				} else if j >= 0 && (g.Files[j].Size != f.Size || string(g.Files[j].CryptMode) != f.Mode) {
					t.Errorf("%s: file %+v, want %+v", name, g.Files[j], f)
				}
			}
		}
	}
}

func TestGroupsAreDescribedWithoutReadingManifests(t *testing.T) {
	b, r, _ := theServers(t)
	b.get = func(key string) error {
		if strings.HasSuffix(key, ".blob") {
			return errors.New("a manifest was read")
		}
		return nil
	}
	got, err := r.Groups(t.Context(), names.Root)
	want := []repo.GroupInfo{
		{
			Group: names.Group{Type: names.Host, ID: "web1"}, Owner: "hf@pbs", Count: 1, Comment: "group line",
			LastBackup: time.Date(2026, 11, 30, 1, 20, 57, 0, time.UTC), Files: []string{"catalog.pcat1.didx", "index.json.blob", "tree.pxar.didx"},
		},
		{
			Group: names.Group{Type: names.VM, ID: "100"}, Owner: "hf@pbs", Count: 2,
			LastBackup: time.Date(2026, 11, 30, 1, 21, 0, 0, time.UTC), Files: []string{"disk.img.fidx", "index.json.blob", "qemu-server.conf.blob"},
		},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("groups %+v, %v, want %+v", got, err, want)
	}
	text, err := r.GroupNotes(t.Context(), names.Root, want[0].Group)
	if err != nil || text != "group line\nand more" {
		t.Errorf("notes %q, %v", text, err)
	}
	if text, err := r.GroupNotes(t.Context(), names.Root, want[1].Group); err != nil || text != "" {
		t.Errorf("notes of a group without: %q, %v", text, err)
	}
}

func TestArchivesAreWhatTheServersClientRestores(t *testing.T) {
	_, r, want := theServers(t)
	for path, w := range want.Archives {
		t.Run(path, func(t *testing.T) {
			i := strings.LastIndexByte(path, '/')
			snap, err := r.Open(t.Context(), parse(t, path[:i]))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = snap.Close() }()
			var key *chunkcrypt.Key
			if snap.Manifest().Signed() {
				key = want.key(t)
			}
			content, err := content(t.Context(), snap, names.Archive(path[i+1:]), key)
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(content)) != w.Size || digest.Of(content).String() != w.SHA256 {
				t.Errorf("%d bytes with SHA-256 %s, want %d with %s", len(content), digest.Of(content), w.Size, w.SHA256)
			}
		})
	}
}

// content reads all of an archive.
func content(ctx context.Context, snap repo.Snapshot, name names.Archive, key *chunkcrypt.Key) ([]byte, error) {
	switch name.Kind() {
	case names.Blob:
		return fetch.Blob(snap, name, key)
	case names.Fidx:
		x, err := fetch.Open(snap, name, key)
		if err != nil {
			return nil, err
		}
		defer func() { _ = x.Close() }()
		in, err := fetch.NewReader(snap, x)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		all := make([]byte, x.Size)
		for i := range x.Count() {
			d, err := x.Digest(i)
			if err != nil {
				return nil, err
			}
			start, end := x.Bounds(i)
			if err := in.Read(ctx, d, all[start:end]); err != nil {
				return nil, fmt.Errorf("chunk %d: %w", i, err)
			}
		}
		return all, nil
	}
	x, err := fetch.OpenDynamic(snap, name, key)
	if err != nil {
		return nil, err
	}
	defer func() { _ = x.Close() }()
	in, err := fetch.NewStream(ctx, snap, x, 0, -1, 0)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(in)
}

func TestAClientsLogIsReadThoughNoManifestListsIt(t *testing.T) {
	_, r, _ := theServers(t)
	snap, err := r.Open(t.Context(), parse(t, "vm/100/2026-11-30T01:20:56Z"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := fetch.Blob(snap, names.ClientLog, nil)
	if err != nil || string(text) != "the log\n" {
		t.Errorf("log %q, %v", text, err)
	}
	other, err := r.Open(t.Context(), parse(t, "vm/100/2026-11-30T01:21:00Z"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Blob(names.ClientLog); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("a log that is not there: %v", err)
	}
}

func TestWhatIsNotThereIsSaidToBeNotFound(t *testing.T) {
	_, r, _ := theServers(t)
	ctx := t.Context()
	none := names.Group{Type: names.VM, ID: "10"} // there is vm/100
	for what, f := range map[string]func() error{
		"namespace":            func() error { _, err := r.Groups(ctx, "emp"); return err },
		"namespace below one":  func() error { _, err := r.Namespaces(ctx, "a/c"); return err },
		"group":                func() error { _, err := r.Snapshots(ctx, names.Root, &none); return err },
		"notes of a group":     func() error { _, err := r.GroupNotes(ctx, names.Root, none); return err },
		"snapshot":             func() error { _, err := r.Open(ctx, parse(t, "vm/100/2020-01-01T00:00:00Z")); return err },
		"group to be verified": func() error { _, err := r.Verify(ctx, repo.VerifyOptions{Group: &none}); return err },
		"namespace to be pruned": func() error {
			_, err := r.Prune(ctx, repo.PruneOptions{Namespace: "x", Keep: retention.Options{Last: 1}, DryRun: true})
			return err
		},
		"repository": func() error { _, err := pbsbucket.Open(ctx, mem.New(time.Now, false)); return err },
	} {
		if err := f(); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("%s: err = %v", what, err)
		}
	}
	if list, err := r.Groups(ctx, "empty"); err != nil || len(list) != 0 {
		t.Errorf("a namespace without groups: %v, %v", list, err)
	}
}

func TestNothingIsWrittenAndTheReasonIsSaid(t *testing.T) {
	b, r, _ := theServers(t)
	ctx := t.Context()
	s := parse(t, "vm/100/2026-11-30T01:21:00Z")
	for what, f := range map[string]func() error{
		"back up":          func() error { _, err := r.Begin(ctx, repo.Begin{Snapshot: s}); return err },
		"namespace":        func() error { return r.CreateNamespace(ctx, "new") },
		"no namespace":     func() error { return r.DeleteNamespace(ctx, "empty", true) },
		"forget":           func() error { return r.Forget(ctx, s) },
		"forget a group":   func() error { _, err := r.ForgetGroup(ctx, names.Root, s.Group); return err },
		"notes of a group": func() error { return r.SetGroupNotes(ctx, names.Root, s.Group, "x") },
		"owner":            func() error { return r.SetOwner(ctx, names.Root, s.Group, "a@pbs") },
		"notes":            func() error { return r.SetNotes(ctx, s, "x") },
		"protect":          func() error { return r.SetProtected(ctx, s, true) },
		"log":              func() error { return r.PutLog(ctx, s, nil) },
		"collect":          func() error { _, err := r.GC(ctx, repo.GCOptions{}); return err },
		"prune":            func() error { _, err := r.Prune(ctx, repo.PruneOptions{Keep: retention.Options{Last: 1}}); return err },
	} {
		b.get = func(string) error { return errors.New("the bucket was asked") }
		err := f()
		if refused, ok := errors.AsType[*pbsbucket.ReadOnlyError](err); !ok || refused.Why == "" || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: err = %v", what, err)
		}
	}
}

func TestPruningIsTriedWithoutRemovingAnything(t *testing.T) {
	_, r, _ := theServers(t)
	got, err := r.Prune(t.Context(), repo.PruneOptions{Namespace: "a/b", Keep: retention.Options{Last: 1}, DryRun: true})
	if err != nil || len(got) != 2 || got[0].Mark != retention.Remove || got[1].Mark != retention.Keep {
		t.Errorf("%+v, %v", got, err)
	}
	if list, err := r.Snapshots(t.Context(), "a/b", nil); err != nil || len(list) != 2 {
		t.Errorf("%d snapshots are left, %v", len(list), err)
	}
}

func TestADatastoreIsFoundByAnyOfItsObjects(t *testing.T) {
	for _, key := range []string{".in-use", ".cnt/vm/1/owner", ".chunks/bb9f/bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8"} {
		b := &bucket{Store: mem.New(time.Now, false)}
		b.change(t, key, func([]byte) []byte { return []byte("x") })
		if there, err := pbsbucket.Present(t.Context(), b); err != nil || !there {
			t.Errorf("%s: %v, %v", key, there, err)
		}
	}
	b := &bucket{Store: mem.New(time.Now, false)}
	b.change(t, "holdfast.json", func([]byte) []byte { return []byte("x") })
	if there, err := pbsbucket.Present(t.Context(), b); err != nil || there {
		t.Errorf("something else: %v, %v", there, err)
	}
}
