package datastore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// content is what a snapshot must restore to.
type content = contract.Content

// client is that of the contract, with what only these tests need.
type client struct{ *contract.Client }

func newClient(t testing.TB) *client {
	t.Helper()
	return &client{contract.NewClient(t)}
}

// backup stores img and conf as one snapshot.
func (c *client) backup(ctx context.Context, s *datastore.Store, n names.Snapshot, img, conf []byte) error {
	return c.Backup(ctx, s, n, content{Image: img, Conf: conf})
}

// mend stores the snapshot anew.
func (c *client) mend(ctx context.Context, s *datastore.Store, n names.Snapshot, img, conf []byte) error {
	return c.MendAll(ctx, s, n, content{Image: img, Conf: conf})
}

// restore reads a snapshot back, believing nothing.
func (c *client) restore(ctx context.Context, s *datastore.Store, n names.Snapshot) (img, conf []byte, err error) {
	what, err := c.Restore(ctx, s, n)
	return what.Image, what.Conf, err
}

func (c *client) putLog(ctx context.Context, s *datastore.Store, n names.Snapshot, text string) error {
	raw, err := c.Encode([]byte(text))
	if err != nil {
		return err
	}
	return s.PutLog(ctx, n, raw)
}

func (c *client) readLog(ctx context.Context, s *datastore.Store, n names.Snapshot) (text string, err error) {
	snap, err := s.Open(ctx, n)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	raw, err := snap.Blob(names.ClientLog)
	if err != nil {
		return "", err
	}
	dec, err := blob.NewDecoder(nil)
	if err != nil {
		return "", err
	}
	defer dec.Close()
	plain, err := dec.Append(nil, raw, 1<<20)
	return string(plain), err
}

func snapshotAt(id string, at time.Time) names.Snapshot {
	return names.Snapshot{Group: names.Group{Type: names.VM, ID: id}, Time: at.Unix()}
}

// newDisk returns a disk with an empty store, and its opener.
func newDisk(t testing.TB) *simdisk.Disk {
	t.Helper()
	d := simdisk.New(simdisk.Options{})
	if err := datastore.Create(t.Context(), d, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	return d
}

// open opens the store on a disk; sleeping moves the disk's clock.
func open(fsys vfs.FS, d *simdisk.Disk) (*datastore.Store, error) {
	return datastore.Open(fsys, datastore.Options{
		Location: "simulated disk",
		Sleep: func(ctx context.Context, dt time.Duration) error {
			d.Advance(dt)
			return context.Cause(ctx)
		},
	})
}

func mustOpen(t testing.TB, d *simdisk.Disk) *datastore.Store {
	t.Helper()
	s, err := open(d, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
