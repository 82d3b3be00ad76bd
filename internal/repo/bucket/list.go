package bucket

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// Namespaces returns the namespaces below parent, at every depth, sorted.
func (r *Repository) Namespaces(ctx context.Context, parent names.Namespace) ([]names.Namespace, error) {
	s, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	if err := catalog.NeedNamespace(s, parent); err != nil {
		return nil, err
	}
	return catalog.Namespaces(s, parent)
}

// Groups describes the groups of a namespace.
func (r *Repository) Groups(ctx context.Context, ns names.Namespace) ([]repo.GroupInfo, error) {
	s, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	if err := catalog.NeedNamespace(s, ns); err != nil {
		return nil, err
	}
	list, err := catalog.Groups(s, ns)
	if err != nil {
		return nil, err
	}
	infos := make([]repo.GroupInfo, len(list))
	for i, g := range list {
		if infos[i], err = groupInfo(s, ns, g); err != nil {
			return nil, err
		}
	}
	return infos, nil
}

func groupInfo(s catalog.Reader, ns names.Namespace, g names.Group) (repo.GroupInfo, error) {
	info := repo.GroupInfo{Namespace: ns, Group: g}
	rec, err := catalog.NeedGroup(s, ns, g)
	if err != nil {
		return info, err
	}
	info.Owner = rec.Owner
	info.Comment, _, _ = strings.Cut(rec.Notes, "\n")
	snaps, err := catalog.Times(s, ns, g)
	if err != nil || len(snaps) == 0 {
		return info, err
	}
	info.Count = len(snaps)
	newest := snaps[len(snaps)-1]
	info.LastBackup = time.Unix(newest.Time, 0).UTC()
	last, err := catalog.NeedSnapshot(s, newest)
	if err != nil {
		return info, err
	}
	for _, f := range storedFiles(&last) {
		info.Files = append(info.Files, f.Name.String())
	}
	return info, nil
}

// Snapshots describes the snapshots of a group, or of a whole namespace; among them
// those that are being written.
func (r *Repository) Snapshots(ctx context.Context, ns names.Namespace, group *names.Group) ([]repo.SnapshotInfo, error) {
	s, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	groups, err := wanted(s, ns, group)
	if err != nil {
		return nil, err
	}
	running, err := catalog.Sessions(s)
	if err != nil {
		return nil, err
	}
	var infos []repo.SnapshotInfo
	for _, g := range groups {
		rec, err := catalog.NeedGroup(s, ns, g)
		if err != nil {
			return nil, err
		}
		snaps, err := catalog.Times(s, ns, g)
		if err != nil {
			return nil, err
		}
		first := len(infos)
		for _, n := range snaps {
			infos = append(infos, describe(s, n, rec.Owner))
		}
		for _, w := range running {
			if w.Kind != catalog.Mend && !w.Snapshot.IsZero() && w.Snapshot.NS == ns && w.Snapshot.Group == g {
				infos = append(infos, repo.SnapshotInfo{Snapshot: w.Snapshot.Snapshot, Owner: rec.Owner})
			}
		}
		slices.SortStableFunc(infos[first:], func(a, b repo.SnapshotInfo) int { return a.Snapshot.Compare(b.Snapshot) })
	}
	return infos, nil
}

// wanted is one group, which must be there, or all of a namespace.
func wanted(s catalog.Reader, ns names.Namespace, group *names.Group) ([]names.Group, error) {
	if err := catalog.NeedNamespace(s, ns); err != nil {
		return nil, err
	}
	if group == nil {
		return catalog.Groups(s, ns)
	}
	_, err := catalog.NeedGroup(s, ns, *group)
	return []names.Group{*group}, err
}

func describe(s catalog.Reader, n names.Snapshot, owner string) repo.SnapshotInfo {
	info := repo.SnapshotInfo{Snapshot: n, Owner: owner, Finished: true}
	rec, err := catalog.NeedSnapshot(s, n)
	if err != nil {
		info.Problem = err
		return info
	}
	info.Protected = rec.Protected
	m, err := rec.ParseManifest(n)
	if err != nil {
		info.Problem = err
		return info
	}
	info.Files = m.Files
	for _, f := range m.Files {
		info.Size += int64(f.Size)
	}
	info.Signed = m.Signed()
	info.Notes = m.Notes()
	info.Verify = m.VerifyState()
	if fp, err := m.KeyFingerprint(); err == nil && fp != (chunkcrypt.Fingerprint{}) {
		info.Fingerprint = fp.String()
	}
	return info
}

// storedFiles lists what is stored with a snapshot, by name. The manifest has the
// size of its text.
func storedFiles(rec *catalog.Snapshot) []repo.StoredFile {
	var files []repo.StoredFile
	for _, f := range rec.Files {
		files = append(files, repo.StoredFile{Name: f.Name, Size: f.Len})
	}
	files = append(files, repo.StoredFile{Name: names.Manifest, Size: int64(len(rec.Manifest))})
	if rec.Log > 0 {
		files = append(files, repo.StoredFile{Name: names.ClientLog, Size: rec.Log})
	}
	slices.SortFunc(files, func(a, b repo.StoredFile) int { return strings.Compare(a.Name.String(), b.Name.String()) })
	return files
}

// StoredFiles lists what is stored with a snapshot, finished or not, by name: the
// manifest and what the manifest does not list, too. Of one that is being written
// nothing is stored yet.
func (r *Repository) StoredFiles(ctx context.Context, n names.Snapshot) ([]repo.StoredFile, error) {
	s, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := catalog.NeedSnapshot(s, n)
	switch {
	case errors.Is(err, repo.ErrLocked):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return storedFiles(&rec), nil
}

// Owner returns who owns a group; the zero value if nobody does: then nobody but
// an administrator can do anything with it.
func (r *Repository) Owner(ctx context.Context, ns names.Namespace, g names.Group) (names.AuthID, error) {
	s, err := r.view(ctx)
	if err != nil {
		return names.AuthID{}, err
	}
	if err := catalog.NeedNamespace(s, ns); err != nil {
		return names.AuthID{}, err
	}
	rec, err := catalog.NeedGroup(s, ns, g)
	if err != nil {
		return names.AuthID{}, err
	}
	id, err := names.ParseAuthID(rec.Owner)
	if err != nil {
		return names.AuthID{}, nil // nobody's
	}
	return id, nil
}

// Protected reports whether a snapshot is protected.
func (r *Repository) Protected(ctx context.Context, n names.Snapshot) (bool, error) {
	s, err := r.view(ctx)
	if err != nil {
		return false, err
	}
	rec, err := catalog.NeedSnapshot(s, n)
	if errors.Is(err, repo.ErrLocked) {
		return false, nil
	}
	return rec.Protected, err
}

// GroupNotes returns a group's notes, "" when there are none.
func (r *Repository) GroupNotes(ctx context.Context, ns names.Namespace, g names.Group) (string, error) {
	s, err := r.view(ctx)
	if err != nil {
		return "", err
	}
	rec, err := catalog.NeedGroup(s, ns, g)
	return rec.Notes, err
}
