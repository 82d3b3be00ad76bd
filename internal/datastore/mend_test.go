package datastore_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// spoil makes one file of the disk something else.
func spoil(t *testing.T, d *simdisk.Disk, name string) {
	t.Helper()
	err := d.Corrupt(name, func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)-1] ^= 1
		return b
	})
	if err != nil {
		t.Fatal(err)
	}
}

func verifyAll(t *testing.T, s *datastore.Store) (bad int) {
	t.Helper()
	rep, err := s.Verify(t.Context(), repo.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range rep.Snapshots {
		if len(v.Errors) > 0 {
			bad++
		}
	}
	return bad
}

// Whatever of a snapshot is damaged is as it was when it has been mended, and
// newer snapshots that share its chunks are whole again too.
func TestDamagedSnapshotIsMended(t *testing.T) {
	for _, tc := range []struct{ name, file string }{
		{"chunk", ""},
		{"fixed index", "/disk.img.fidx"},
		{"dynamic index", "/root.pxar.didx"},
		{"blob", "/vm.conf.blob"},
		{"manifest", "/index.json.blob"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDisk(t)
			s, c := mustOpen(t, d), newClient(t)
			want := contract.Random(rand.New(rand.NewPCG(1, 1)), 4)
			first := snapshotAt("100", d.Now())
			if err := c.backup(t.Context(), s, first, want.Image, want.Conf); err != nil {
				t.Fatal(err)
			}
			if err := s.SetNotes(t.Context(), first, "before the upgrade"); err != nil {
				t.Fatal(err)
			}
			d.Advance(time.Hour)
			second := snapshotAt("100", d.Now())
			if err := c.backup(t.Context(), s, second, want.Image, want.Conf); err != nil {
				t.Fatal(err)
			}
			file := first.Path() + tc.file
			if tc.file == "" {
				file = names.ChunkPath(digest.Of(want.Image[:contract.ChunkSize]))
			}
			spoil(t, d, file)
			if verifyAll(t, s) == 0 {
				t.Fatal("the damage is not seen")
			}
			if err := c.mend(t.Context(), s, first, want.Image, want.Conf); err != nil {
				t.Fatal(err)
			}
			if bad := verifyAll(t, s); bad > 0 {
				t.Errorf("%d snapshots are still damaged", bad)
			}
			for _, n := range []names.Snapshot{first, second} {
				img, conf, err := c.restore(t.Context(), s, n)
				if err != nil || !bytes.Equal(img, want.Image) || !bytes.Equal(conf, want.Conf) {
					t.Errorf("%s: %v", n, err)
				}
			}
			infos, err := s.Snapshots(t.Context(), "", &first.Group)
			if err != nil || len(infos) != 2 || tc.name != "manifest" && infos[0].Notes != "before the upgrade" {
				t.Errorf("%+v, %v", infos, err)
			}
			for _, f := range d.Files() {
				if strings.Contains(f, ".tmp_") {
					t.Errorf("%s is left", f)
				}
			}
			d.Advance(time.Hour)
			if err := c.backup(t.Context(), s, snapshotAt("100", d.Now()), want.Image, want.Conf); err != nil {
				t.Error(err)
			}
		})
	}
}

// The snapshot that is there stays as it is if the copy is of something else, or if
// the mending does not come to its end.
func TestMendingLeavesTheSnapshotAsItWasUnlessItFinishes(t *testing.T) {
	for _, tc := range []struct {
		name string
		mend func(ctx context.Context, c *client, s *datastore.Store, n names.Snapshot, was content) error
	}{
		{"another content", func(ctx context.Context, c *client, s *datastore.Store, n names.Snapshot, was content) error {
			return c.mend(ctx, s, n, was.Image, []byte("another configuration"))
		}},
		{"a shorter list", func(ctx context.Context, c *client, s *datastore.Store, n names.Snapshot, was content) error {
			ses, err := s.Mend(ctx, n)
			if err != nil {
				return err
			}
			sum, err := c.WriteImage(ctx, ses, was.Image)
			if err != nil {
				return err
			}
			m := manifest.New(n)
			if err := m.Add(manifest.File{Filename: contract.ImageName.String(), CryptMode: manifest.ModeNone, Size: uint64(len(was.Image)), Csum: sum}); err != nil {
				return err
			}
			return errors.Join(ses.Finish(ctx, m), ses.Abort())
		}},
		{"given up", func(ctx context.Context, c *client, s *datastore.Store, n names.Snapshot, was content) error {
			ses, err := s.Mend(ctx, n)
			if err != nil {
				return err
			}
			if _, err := c.WriteImage(ctx, ses, bytes.Repeat([]byte{1}, len(was.Image))); err != nil {
				return err
			}
			if _, err := ses.CreateDynamic(contract.TreeName); err != nil {
				return err
			}
			return errors.Join(errors.New("given up"), ses.Abort())
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDisk(t)
			s, c := mustOpen(t, d), newClient(t)
			was := contract.Random(rand.New(rand.NewPCG(1, 1)), 4)
			n := snapshotAt("100", d.Now())
			if err := c.backup(t.Context(), s, n, was.Image, was.Conf); err != nil {
				t.Fatal(err)
			}
			before := d.Files()
			if err := tc.mend(t.Context(), c, s, n, was); err == nil {
				t.Fatal("it says that it is done")
			}
			img, conf, err := c.restore(t.Context(), s, n)
			if err != nil || !bytes.Equal(img, was.Image) || !bytes.Equal(conf, was.Conf) {
				t.Errorf("it does not restore: %v", err)
			}
			for _, f := range d.Files() {
				if strings.Contains(f, ".tmp_") {
					t.Errorf("%s is left of %d files", f, len(before))
				}
			}
		})
	}
}

func TestMendingNeedsASnapshotThatNobodyReads(t *testing.T) {
	d := newDisk(t)
	s, c := mustOpen(t, d), newClient(t)
	n := snapshotAt("100", d.Now())
	if _, err := s.Mend(t.Context(), n); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("nothing is there: %v", err)
	}
	was := contract.Random(rand.New(rand.NewPCG(1, 1)), 2)
	if err := c.backup(t.Context(), s, n, was.Image, was.Conf); err != nil {
		t.Fatal(err)
	}
	snap, err := s.Open(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Mend(t.Context(), n); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("somebody reads it: %v", err)
	}
	if err := snap.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.mend(t.Context(), s, n, was.Image, was.Conf); err != nil {
		t.Error(err)
	}
}
