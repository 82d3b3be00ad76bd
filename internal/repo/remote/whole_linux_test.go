package remote_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image/target"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/restore"
)

// An encrypted machine with a disk and a directory goes to a server twice; the
// second time what is unchanged is not read, for which the archive of the first
// time is read from the server; and the disk comes back.
func TestMachineGoesToAServerAndComesBack(t *testing.T) {
	s := newSite(t)
	r := s.open(s.options())
	key, err := chunkcrypt.New([32]byte{5})
	ok(t, err)
	tree := t.TempDir()
	for i := range 200 {
		ok(t, os.WriteFile(filepath.Join(tree, fmt.Sprintf("file%d", i)), bytes.Repeat([]byte{byte(i), byte(i >> 3)}, 30<<10), 0o644))
	}
	img := image(3)
	for round := range 2 {
		n := at(vm100, int64(round))
		rep, err := backup.Run(t.Context(), r, backup.Job{
			Snapshot: n,
			Sources: []backup.Source{
				{Name: "d.img.fidx", Image: img},
				{Name: "root.pxar.didx", Tree: &backup.Tree{Path: tree, Detection: backup.DetectMetadata}},
			},
			Options: backup.Options{Key: key, CryptMode: manifest.ModeEncrypt, Workers: 2},
		})
		ok(t, err)
		var unchanged int64
		for _, a := range rep.Archives {
			if a.Archive.Filename == "root.ppxar.didx" {
				unchanged = a.Stats.Unchanged.Bytes
			}
		}
		if round == 1 && (unchanged < 200*60<<10 || rep.Previous != vm100.Path()) {
			t.Errorf("%d bytes of files were taken over from %q", unchanged, rep.Previous)
		}
	}
	p, err := r.Open(t.Context(), at(vm100, 1))
	ok(t, err)
	path := filepath.Join(t.TempDir(), "disk")
	to, err := target.Create(path, img.Size(), target.Options{})
	ok(t, err)
	_, err = restore.Image(t.Context(), p, "d.img.fidx", key, to, restore.Options{})
	ok(t, err)
	ok(t, to.Close())
	ok(t, p.Close())
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, img) {
		t.Errorf("restored %d bytes, %v", len(got), err)
	}
	rep, err := s.local().Verify(t.Context(), repo.VerifyOptions{Key: key})
	ok(t, err)
	for _, v := range rep.Snapshots {
		if len(v.Errors) > 0 {
			t.Errorf("%s: %v", v.Snapshot, v.Errors)
		}
	}
	if len(rep.Snapshots) != 2 {
		t.Errorf("%d snapshots", len(rep.Snapshots))
	}
	if infos, err := r.Snapshots(t.Context(), names.Root, nil); err != nil || infos[0].Fingerprint != key.Fingerprint().String() || !infos[0].Signed {
		t.Errorf("%+v, %v", infos, err)
	}
}
