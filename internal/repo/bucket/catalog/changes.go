package catalog

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// SetGroupNotes replaces a group's notes; "" removes them.
func SetGroupNotes(tx Tx, ns names.Namespace, g names.Group, text string) error {
	rec, err := NeedGroup(tx, ns, g)
	if err != nil || rec.Notes == text {
		return err
	}
	rec.Notes = text
	return Set(tx, GroupKey(ns, g), rec)
}

// SetOwner gives a group to someone else, while no session writes into it.
func SetOwner(tx Tx, ns names.Namespace, g names.Group, owner string) error {
	rec, err := NeedGroup(tx, ns, g)
	if err != nil {
		return err
	}
	if err := free(tx, ns, g); err != nil {
		return err
	}
	if _, err := names.ParseAuthID(owner); err != nil {
		return err
	}
	rec.Owner = owner
	return Set(tx, GroupKey(ns, g), rec)
}

// ChangeManifest changes the unsigned part of a manifest.
func ChangeManifest(tx Tx, n names.Snapshot, change func(*manifest.Manifest)) error {
	rec, err := NeedSnapshot(tx, n)
	if err != nil {
		return err
	}
	m, err := rec.ParseManifest(n)
	if err != nil {
		return err
	}
	change(m)
	if rec.Manifest, err = m.Marshal(); err != nil {
		return fmt.Errorf("manifest of %s: %w", n, err)
	}
	return Set(tx, SnapshotKey(n), rec)
}

// SetProtected makes a snapshot safe from removal, or lifts that.
func SetProtected(tx Tx, n names.Snapshot, protected bool) error {
	rec, err := NeedSnapshot(tx, n)
	if err != nil || rec.Protected == protected {
		return err
	}
	rec.Protected = protected
	return Set(tx, SnapshotKey(n), rec)
}

// SetLog says that the client's log of size bytes is there, below the number of
// the session that made the snapshot.
func SetLog(tx Tx, n names.Snapshot, session Number, size int64) error {
	rec, err := NeedSnapshot(tx, n)
	if err != nil {
		return err
	}
	if err := unheld(tx, n); err != nil {
		return err
	}
	switch {
	case rec.Log != 0:
		return repo.ErrExists
	case rec.Session != session:
		return errors.New("the snapshot was stored anew meanwhile; try again")
	}
	rec.Log = size
	return Set(tx, SnapshotKey(n), rec)
}

// unheld fails while a session writes this very snapshot.
func unheld(r Reader, n names.Snapshot) error {
	s, err := InGroup(r, n.NS, n.Group)
	if err != nil || s == nil || s.Snapshot.Snapshot != n {
		return err
	}
	return &LockedError{Session: *s}
}
