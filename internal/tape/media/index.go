package media

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/mediacatalog"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

func indexName(id uuid.UUID) string { return id.String() + ".index" }

// Snapshots lists the snapshots on a medium, each as "store:path", sorted. For
// catalogs with many chunks the list is kept in a file beside it, which PBS uses
// too: a line that says which state of the catalog it is of, and one for each
// snapshot.
func (s *State) Snapshots(m Medium) ([]string, error) {
	info, err := s.d.Stat(logName(m.UUID()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("medium %s: %w", m.Label.Text, ErrNoCatalog)
	}
	if err != nil {
		return nil, err
	}
	first := cacheID(info)
	if list, ok := s.cached(m, first); ok {
		return list, nil
	}
	var list []string
	if _, err := s.Catalogued(m, func(r *Record) error {
		if r.Kind == mediacatalog.Snapshot {
			list = append(list, r.Store+":"+r.Path)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	slices.Sort(list)
	list = slices.Compact(list)
	var b bytes.Buffer
	b.WriteString(first + "\n")
	for _, l := range list {
		b.WriteString(l + "\n")
	}
	// Who may only look at the state cannot keep the list, and does not need to.
	if err := s.d.Put(indexName(m.UUID()), b.Bytes()); err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	return list, nil
}

// cacheID says which state a catalog is in.
func cacheID(info vfs.Info) string {
	return fmt.Sprintf("%016X-%016X-%016X", info.Inode, info.Size, info.Mtime.Unix())
}

// cached returns the list that was kept, if it is of this state. One that cannot
// be read is made anew.
func (s *State) cached(m Medium, first string) ([]string, bool) {
	b, err := s.d.Read(indexName(m.UUID()))
	if err != nil {
		return nil, false
	}
	text, whole := strings.CutSuffix(string(b), "\n")
	lines := strings.Split(text, "\n")
	if !whole || lines[0] != first {
		return nil, false
	}
	for _, l := range lines[1:] {
		if !strings.Contains(l, ":") {
			return nil, false
		}
	}
	slices.Sort(lines[1:])
	return lines[1:], true
}
