package datastore_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

func TestStoredFilesShowWhatTheManifestDoesNotList(t *testing.T) {
	w, _, older := logged(t)
	s := mustOpen(t, w.disk)
	files, err := s.StoredFiles(t.Context(), older)
	if err != nil {
		t.Fatal(err)
	}
	var got []names.Archive
	for _, f := range files {
		got = append(got, f.Name)
		if f.Size <= 0 {
			t.Errorf("%s has %d bytes", f.Name, f.Size)
		}
	}
	if d := cmp.Diff([]names.Archive{names.ClientLog, "disk.img.fidx", "index.json.blob", "root.pxar.didx", "vm.conf.blob"}, got); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
	older.Time++
	if _, err := s.StoredFiles(t.Context(), older); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("a snapshot that is not there: %v", err)
	}
}

func TestOwnerAndProtectionOfWhatIsThere(t *testing.T) {
	w, _, older := logged(t)
	s := mustOpen(t, w.disk)
	if id, err := s.Owner(t.Context(), names.Root, older.Group); err != nil || id.String() != datastore.DefaultOwner {
		t.Errorf("owner %s, %v", id, err)
	}
	if _, err := s.Owner(t.Context(), names.Root, names.Group{Type: names.CT, ID: "1"}); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("a group that is not there: %v", err)
	}
	if _, err := s.Owner(t.Context(), "a", older.Group); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("a namespace that is not there: %v", err)
	}
	for _, want := range []bool{true, false} {
		if err := s.SetProtected(t.Context(), older, want); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Protected(t.Context(), older); err != nil || got != want {
			t.Errorf("protected %v, %v, want %v", got, err, want)
		}
	}
	older.Time++
	if _, err := s.Protected(t.Context(), older); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("a snapshot that is not there: %v", err)
	}
}

func TestTasksAreNamedInWhatTheyKeep(t *testing.T) {
	w, _, older := logged(t)
	s := mustOpen(t, w.disk)
	const id = "UPID:pbs1:00000001:00000001:00000001:66F00000:verify:tank:ann@pbs:"
	var verdicts []names.Snapshot
	_, err := s.Verify(t.Context(), repo.VerifyOptions{UPID: id, Verdict: func(v repo.VerifiedSnapshot) { verdicts = append(verdicts, v.Snapshot) }})
	if err != nil {
		t.Fatal(err)
	}
	infos, err := s.Snapshots(t.Context(), names.Root, &older.Group)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		if info.Verify == nil || info.Verify.UPID != id || !slices.Contains(verdicts, info.Snapshot) {
			t.Errorf("%s: %+v, verdicts %v", info.Snapshot, info.Verify, verdicts)
		}
	}
	rep, err := s.Verify(t.Context(), repo.VerifyOptions{Only: func(_ names.Namespace, g names.Group) bool { return g != older.Group }})
	if err != nil || len(rep.Snapshots) != 0 {
		t.Errorf("%d snapshots of groups that were left out, %v", len(rep.Snapshots), err)
	}
	st, err := s.GC(t.Context(), repo.GCOptions{UPID: id})
	if err != nil || st.UPID != id {
		t.Errorf("collection: %s, %v", st.UPID, err)
	}
}
