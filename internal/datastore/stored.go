package datastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// StoredFiles lists what lies in the directory of a snapshot, finished or not, by
// name: the manifest and what the manifest does not list, too.
func (s *Store) StoredFiles(_ context.Context, n names.Snapshot) ([]repo.StoredFile, error) {
	entries, err := s.fs.ReadDir(n.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("snapshot %s: %w", n, repo.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("files of %s: %w", n, err)
	}
	var files []repo.StoredFile
	for _, e := range entries {
		name, err := names.ParseArchive(e.Name)
		if err != nil || !e.IsRegular() {
			continue
		}
		info, err := s.fs.Lstat(n.Path() + "/" + e.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is being removed
		}
		if err != nil {
			return nil, fmt.Errorf("files of %s: %w", n, err)
		}
		files = append(files, repo.StoredFile{Name: name, Size: info.Size})
	}
	return files, nil
}

// Owner returns who owns a group; the zero value if nobody does: then nobody but
// an administrator can do anything with it.
func (s *Store) Owner(_ context.Context, ns names.Namespace, g names.Group) (names.AuthID, error) {
	if err := s.needNamespace(ns); err != nil {
		return names.AuthID{}, err
	}
	if err := s.needGroup(ns, g); err != nil {
		return names.AuthID{}, err
	}
	text, err := s.owner(ns, g)
	if err != nil || text == "" {
		return names.AuthID{}, err
	}
	id, err := names.ParseAuthID(text)
	if err != nil {
		return names.AuthID{}, nil // nobody's
	}
	return id, nil
}

// Protected reports whether a snapshot is protected.
func (s *Store) Protected(_ context.Context, n names.Snapshot) (bool, error) {
	there, err := exists(s.fs, n.Path())
	if err == nil && !there {
		err = repo.ErrNotFound
	}
	if err != nil {
		return false, fmt.Errorf("snapshot %s: %w", n, err)
	}
	return exists(s.fs, n.Path()+"/"+names.Protected)
}
