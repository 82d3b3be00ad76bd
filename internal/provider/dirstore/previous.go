package dirstore

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/holdfast-backup/holdfast/internal/provider"
)

// previous is the content of a guest's previous-info.
type previous struct {
	first int64 // the start of the backup that the chain began with; in the example the name of the bitmap
	last  int64 // the start of the newest backup; 0: there is none
}

func parsePrevious(b []byte) (p previous, ok bool) {
	n, err := fmt.Sscanf(string(b[:min(len(b), 64)]), "%d %d", &p.first, &p.last)
	return p, err == nil && n == 2 && p.first > 0 && p.last >= p.first
}

func (p previous) String() string { return fmt.Sprintf("%d %d\n", p.first, p.last) }

// previous reads what the last backup of a guest noted. What is no such note is
// none: then the next backup is a full one.
func (s *Store) previous(id int) (previous, error) {
	b, err := s.read(path.Join(guestDir(id), previousFile))
	if errors.Is(err, fs.ErrNotExist) {
		return previous{}, nil
	}
	if err != nil {
		return previous{}, fmt.Errorf("read what the last backup of guest %d noted: %w", id, err)
	}
	p, ok := parsePrevious(b)
	if !ok {
		return previous{}, nil
	}
	return p, nil
}

// setPrevious notes a complete backup. Where that fails the backup is complete
// nevertheless, and the next one a full one.
func (s *Store) setPrevious(a provider.Archive, vm provider.VM) {
	id := a.Guest.ID
	now := previous{a.Start, a.Start}
	for _, v := range vm.Volumes {
		if v.Mode == provider.ModeReuse {
			if old, err := s.previous(id); err == nil && old.first > 0 {
				now.first = min(old.first, a.Start)
			}
			break
		}
	}
	if err := s.replace(guestDir(id), previousFile, []byte(now.String())); err != nil {
		// An old note would let the example take the bitmap for one of its own.
		err = errors.Join(err, s.remove(path.Join(guestDir(id), previousFile)))
		s.o.Log.Warn("the next backup of the guest will be a full one", "guest", id, "error", err)
	}
}
