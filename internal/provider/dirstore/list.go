package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Formats of archives.
const (
	formatDisks    = "qcow2"
	formatSquashfs = "squashfs"
	formatUnknown  = "unknown"
)

// List implements [provider.Storage].
func (s *Store) List(ctx context.Context, g *provider.Guest) ([]provider.Entry, error) {
	var ids []int
	if g != nil {
		ids = []int{g.ID}
	} else {
		all, err := s.guests()
		if err != nil {
			return nil, err
		}
		ids = all
	}
	var list []provider.Entry
	for _, id := range ids {
		all, err := s.archives(id)
		if err != nil {
			return nil, err
		}
		for _, a := range all {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if g != nil && a.Guest != *g {
				continue
			}
			e, err := s.Entry(ctx, a)
			if errors.Is(err, repo.ErrNotFound) {
				continue // removed meanwhile
			}
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
	}
	return list, nil
}

// Entry implements [provider.Storage]. An archive that is damaged has an entry
// as well, so that it can be removed.
func (s *Store) Entry(_ context.Context, a provider.Archive) (provider.Entry, error) {
	if err := s.find(a); err != nil {
		return provider.Entry{}, err
	}
	list, err := s.fs.ReadDir(dirOf(a))
	if errors.Is(err, fs.ErrNotExist) {
		return provider.Entry{}, fmt.Errorf("backup %s: %w", a.Name, repo.ErrNotFound)
	}
	if err != nil {
		return provider.Entry{}, err
	}
	e := provider.Entry{Archive: a, Format: formatUnknown}
	for _, f := range list {
		if !f.IsRegular() || strings.HasPrefix(f.Name, ".") {
			continue
		}
		switch {
		case f.Name == protectFile:
			e.Protected = true
			continue
		case f.Name == notesFile:
			text, err := s.read(path.Join(dirOf(a), notesFile))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return provider.Entry{}, err
			}
			e.Notes = string(text)
			continue
		case f.Name == tarFile:
			e.Format = provider.FormatTar
		case f.Name == squashFile:
			e.Format = formatSquashfs
		case strings.HasSuffix(f.Name, diskSuffix):
			e.Format = formatDisks
		}
		info, err := s.fs.Lstat(path.Join(dirOf(a), f.Name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return provider.Entry{}, err
		}
		e.Size += info.Size
	}
	if e.Format == formatDisks {
		e.Parent = s.listedParent(a)
	}
	return e, nil
}

// size is that of a complete archive in lists, or about that: nothing that is not
// known now makes a complete backup a failed one.
func (s *Store) size(a provider.Archive, about int64) int64 {
	e, err := s.Entry(context.Background(), a)
	if err != nil {
		return about
	}
	return e.Size
}

// SetNotes implements [provider.Storage].
func (s *Store) SetNotes(_ context.Context, a provider.Archive, text string) error {
	return s.mark(a, notesFile, text != "", []byte(text))
}

// SetProtected implements [provider.Storage].
func (s *Store) SetProtected(_ context.Context, a provider.Archive, protected bool) error {
	return s.mark(a, protectFile, protected, nil)
}

// mark sets or removes a small file of an archive. Who removes the archive at
// the same time has the lock and is not run over.
func (s *Store) mark(a provider.Archive, file string, set bool, content []byte) error {
	if err := s.find(a); err != nil {
		return err
	}
	u, err := s.lock(a.Guest.ID, chainByte, vfs.Shared)
	if err != nil {
		return err
	}
	defer s.free(u)
	if err := s.find(a); err != nil {
		return err
	}
	if set {
		return s.replace(dirOf(a), file, content)
	}
	if err := s.remove(path.Join(dirOf(a), file)); err != nil {
		return err
	}
	return s.fs.SyncDir(dirOf(a))
}

// Configs implements [provider.Storage].
func (s *Store) Configs(_ context.Context, a provider.Archive) (provider.Configs, error) {
	if err := s.find(a); err != nil {
		return provider.Configs{}, err
	}
	var c provider.Configs
	var err error
	if c.Guest, err = s.read(path.Join(dirOf(a), guestFile)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = &repo.CorruptError{What: "backup " + a.Name, Err: fmt.Errorf("it has no %s", guestFile)}
		}
		return provider.Configs{}, err
	}
	c.Firewall, err = s.read(path.Join(dirOf(a), firewallFile))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	return c, err
}
