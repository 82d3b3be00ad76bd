package pbsbucket

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// requests is how many are made at once where one does not need the answer of
// another.
const requests = 64

var backupTypes = []names.BackupType{names.CT, names.Host, names.VM}

// found is what the keys say of a group.
type found struct {
	group        names.Group
	owner, notes bool
	snaps        []listed // oldest first
}

// listed is what the keys say of a snapshot.
type listed struct {
	time      int64
	files     []string // archives
	finished  bool
	protected bool
}

// groups lists one group, or all of a namespace.
func (r *Repository) groups(ctx context.Context, ns names.Namespace, only *names.Group) ([]found, error) {
	if err := ns.Check(); err != nil {
		return nil, err
	}
	var prefixes []string
	if only != nil {
		prefixes = []string{groupKey(ns, *only, "")}
	} else {
		for _, t := range backupTypes {
			prefixes = append(prefixes, shelf(ns, t))
		}
	}
	parts := make([][]found, len(prefixes))
	eg, gctx := errgroup.WithContext(ctx)
	for i, prefix := range prefixes {
		eg.Go(func() error {
			var err error
			parts[i], err = r.scan(gctx, prefix)
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	all := slices.Concat(parts...)
	switch {
	case len(all) > 0:
	case only != nil:
		return nil, fmt.Errorf("backup group %s: %w", *only, repo.ErrNotFound)
	default:
		if err := r.needNamespace(ctx, ns); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b found) int { return a.group.Compare(b.group) })
	return all, nil
}

// scan makes groups of the keys below a prefix: they come in order, so that those of
// a group, and of a snapshot, are one after the other.
func (r *Repository) scan(ctx context.Context, prefix string) (all []found, err error) {
	for o, err := range objstore.All(ctx, r.store, prefix, "") {
		if err != nil {
			return nil, err
		}
		e, ok := parseKey(o.Key)
		if !ok {
			continue // nothing of the server's
		}
		if len(all) == 0 || all[len(all)-1].group != e.group {
			all = append(all, found{group: e.group})
		}
		all[len(all)-1].add(e)
	}
	return all, nil
}

func (f *found) add(e entry) {
	switch {
	case !e.dated:
		f.owner = f.owner || e.file == names.Owner
		f.notes = f.notes || e.file == names.Notes
		return
	case len(f.snaps) == 0 || f.snaps[len(f.snaps)-1].time != e.time:
		f.snaps = append(f.snaps, listed{time: e.time})
	}
	s := &f.snaps[len(f.snaps)-1]
	if e.file == names.Protected {
		s.protected = true
	} else if a, err := names.ParseArchive(e.file); err == nil {
		s.files = append(s.files, e.file)
		s.finished = s.finished || a == names.Manifest
	}
}

// text reads a small file of a group; "" when it has gone.
func (r *Repository) text(ctx context.Context, ns names.Namespace, g names.Group, file string) (string, error) {
	b, err := r.readAll(ctx, groupKey(ns, g, file), maxText)
	switch {
	case errors.Is(err, objstore.ErrNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("%s of %s: %w", file, g, err)
	}
	return string(b), nil
}

// maxText bounds the owner and the notes of a group.
const maxText = 1 << 20

func (r *Repository) owner(ctx context.Context, ns names.Namespace, f found) (string, error) {
	if !f.owner {
		return "", nil
	}
	text, err := r.text(ctx, ns, f.group, names.Owner)
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(line), err
}

// Groups describes the groups of a namespace.
func (r *Repository) Groups(ctx context.Context, ns names.Namespace) ([]repo.GroupInfo, error) {
	list, err := r.groups(ctx, ns, nil)
	if err != nil {
		return nil, err
	}
	infos := make([]repo.GroupInfo, len(list))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(requests)
	for i, f := range list {
		infos[i] = repo.GroupInfo{Namespace: ns, Group: f.group}
		for _, s := range f.snaps {
			if s.finished {
				infos[i].Count++
				infos[i].LastBackup, infos[i].Files = time.Unix(s.time, 0).UTC(), s.files
			}
		}
		eg.Go(func() (err error) {
			infos[i].Owner, err = r.owner(ctx, ns, f)
			return err
		})
		if f.notes {
			eg.Go(func() error {
				text, err := r.text(ctx, ns, f.group, names.Notes)
				infos[i].Comment, _, _ = strings.Cut(text, "\n")
				return err
			})
		}
	}
	return infos, eg.Wait()
}

// GroupNotes returns the notes of a group, "" when there are none.
func (r *Repository) GroupNotes(ctx context.Context, ns names.Namespace, g names.Group) (string, error) {
	if err := errors.Join(ns.Check(), g.Check()); err != nil {
		return "", err
	}
	text, err := r.text(ctx, ns, g, names.Notes)
	if err != nil || text != "" {
		return text, err
	}
	if some, _, err := r.store.List(ctx, groupKey(ns, g, ""), "", 1); err != nil || len(some) > 0 {
		return "", err
	}
	return "", fmt.Errorf("backup group %s: %w", g, repo.ErrNotFound)
}

// Snapshots describes the snapshots of a group, or of a whole namespace.
func (r *Repository) Snapshots(ctx context.Context, ns names.Namespace, group *names.Group) ([]repo.SnapshotInfo, error) {
	list, err := r.groups(ctx, ns, group)
	if err != nil {
		return nil, err
	}
	// A group's owner is asked for once, and told to its snapshots at the end.
	owners := make([]string, len(list))
	var infos []*repo.SnapshotInfo
	var of []int // which group
	eg, gctx := errgroup.WithContext(ctx)
	eg.SetLimit(requests)
	for i, f := range list {
		eg.Go(func() (err error) {
			owners[i], err = r.owner(gctx, ns, f)
			return err
		})
		for _, s := range f.snaps {
			info := &repo.SnapshotInfo{
				Snapshot: names.Snapshot{NS: ns, Group: f.group, Time: s.time},
				Finished: s.finished, Protected: s.protected,
			}
			infos, of = append(infos, info), append(of, i)
			if s.finished {
				eg.Go(func() error { return r.describe(gctx, info) })
			}
		}
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	var all []repo.SnapshotInfo
	for i, info := range infos {
		if info.Problem != nil && errors.Is(info.Problem, repo.ErrNotFound) {
			continue // it went while the list was made
		}
		info.Owner = owners[of[i]]
		all = append(all, *info)
	}
	return all, nil
}

// describe fills in what the manifest says.
func (r *Repository) describe(ctx context.Context, info *repo.SnapshotInfo) error {
	raw, err := r.manifest(ctx, info.Snapshot)
	if err != nil && !errors.Is(err, repo.ErrNotFound) {
		return err // of this one nothing else is known than of the others
	}
	if err == nil {
		m, merr := spool.Manifest(raw, info.Snapshot)
		if err = merr; err == nil {
			info.Describe(m)
		}
	}
	info.Problem = err
	return nil
}

// manifest reads the encoded manifest of a snapshot.
func (r *Repository) manifest(ctx context.Context, n names.Snapshot) ([]byte, error) {
	raw, err := r.readAll(ctx, fileKey(n, names.Manifest.String()), maxBlob)
	switch {
	case errors.Is(err, objstore.ErrNotFound):
		return nil, fmt.Errorf("snapshot %s: %w", n, repo.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("manifest of %s: %w", n, err)
	}
	return raw, nil
}

// Limits of the format.
const (
	maxBlob  = blob.MaxPlain + blob.EncryptedHeaderSize
	maxChunk = blob.MaxChunk + blob.EncryptedHeaderSize
)
