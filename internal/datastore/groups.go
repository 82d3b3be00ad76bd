package datastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

const (
	lockShared    = vfs.Shared
	lockExclusive = vfs.Exclusive
)

// DefaultOwner owns groups for which no owner was given: the administrator of
// a PBS.
const DefaultOwner = "root@pam"

// maxText bounds an owner file and group notes.
const maxText = 1 << 20

// owner reads a group's owner; "" when there is none. An empty file, as a
// power cut may leave behind, is none.
func (s *Store) owner(ns names.Namespace, g names.Group) (string, error) {
	b, err := s.readFile(names.GroupPath(ns, g)+"/"+names.Owner, nil, maxText)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("owner of %s: %w", g, err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line), nil
}

func (s *Store) writeOwner(ns names.Namespace, g names.Group, owner string) error {
	if _, err := names.ParseAuthID(owner); err != nil {
		return err
	}
	err := s.replaceFile(names.GroupPath(ns, g)+"/"+names.Owner, []byte(owner+"\n"), s.opt.Sync != SyncNone)
	if err != nil {
		return fmt.Errorf("owner of %s: %w", g, err)
	}
	return nil
}

func (s *Store) groupNotes(ns names.Namespace, g names.Group) (string, error) {
	b, err := s.readFile(names.GroupPath(ns, g)+"/"+names.Notes, nil, maxText)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("notes of %s: %w", g, err)
	}
	return string(b), nil
}

// GroupNotes returns a group's notes, "" when there are none.
func (s *Store) GroupNotes(_ context.Context, ns names.Namespace, g names.Group) (string, error) {
	if err := s.needGroup(ns, g); err != nil {
		return "", err
	}
	return s.groupNotes(ns, g)
}

// SetGroupNotes replaces a group's notes; "" removes them.
func (s *Store) SetGroupNotes(_ context.Context, ns names.Namespace, g names.Group, text string) error {
	return s.withGroup(ns, g, func() error {
		name := names.GroupPath(ns, g) + "/" + names.Notes
		if text == "" {
			return ignoreMissing(s.fs.Remove(name))
		}
		return s.replaceFile(name, []byte(text), true)
	})
}

// SetOwner gives a group to someone else.
func (s *Store) SetOwner(_ context.Context, ns names.Namespace, g names.Group, owner string) error {
	return s.withGroup(ns, g, func() error { return s.writeOwner(ns, g, owner) })
}

// withGroup runs f under the lock of a group that exists.
func (s *Store) withGroup(ns names.Namespace, g names.Group, f func() error) (err error) {
	u, err := s.lockGroup(ns, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.Unlock()) }()
	if err := s.needGroup(ns, g); err != nil {
		return err
	}
	return f()
}

func (s *Store) needGroup(ns names.Namespace, g names.Group) error {
	there, err := exists(s.fs, names.GroupPath(ns, g))
	if err != nil {
		return fmt.Errorf("backup group %s: %w", g, err)
	}
	if !there {
		return fmt.Errorf("backup group %s: %w", g, repo.ErrNotFound)
	}
	return nil
}
