package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// at is the path of a call on the datastore.
func (r *Repository) at(call string) string { return "/admin/datastore/" + r.addr.Store + "/" + call }

// inNamespace names a namespace, but for the root, which servers from before
// there were any do not know.
func inNamespace(ns names.Namespace) url.Values {
	q := url.Values{}
	if !ns.IsRoot() {
		q.Set("ns", string(ns))
	}
	return q
}

func ofGroup(ns names.Namespace, g names.Group) url.Values {
	q := inNamespace(ns)
	q.Set("backup-type", string(g.Type))
	q.Set("backup-id", g.ID)
	return q
}

func ofSnapshot(s names.Snapshot) url.Values {
	q := ofGroup(s.NS, s.Group)
	q.Set("backup-time", strconv.FormatInt(s.Time, 10))
	return q
}

// Stores lists the datastores of a server that we may see. The address need not name
// one.
func Stores(ctx context.Context, a address.Address, o Options) (list []items.Store, err error) {
	r, err := Open(a, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.call(ctx, http.MethodGet, "/admin/datastore", nil, &list); err != nil {
		return nil, fmt.Errorf("list datastores: %w", err)
	}
	return list, nil
}

// Namespaces returns the namespaces below parent, at every depth, sorted.
func (r *Repository) Namespaces(ctx context.Context, parent names.Namespace) ([]names.Namespace, error) {
	q := url.Values{}
	if !parent.IsRoot() {
		q.Set("parent", string(parent))
	}
	var list []items.Namespace
	if err := r.call(ctx, http.MethodGet, r.at("namespace"), q, &list); err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var all []names.Namespace
	for _, i := range list {
		ns, err := names.ParseNamespace(i.NS)
		if err != nil {
			return nil, fmt.Errorf("list namespaces: %w", err)
		}
		if ns != parent && parent.Contains(ns) {
			all = append(all, ns)
		}
	}
	slices.Sort(all)
	return all, nil
}

// Groups describes the groups of a namespace.
func (r *Repository) Groups(ctx context.Context, ns names.Namespace) ([]repo.GroupInfo, error) {
	var list []items.Group
	if err := r.call(ctx, http.MethodGet, r.at("groups"), inNamespace(ns), &list); err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	infos := make([]repo.GroupInfo, len(list))
	for i, g := range list {
		group, err := groupOf(g.Type, g.ID)
		if err != nil {
			return nil, fmt.Errorf("list groups: %w", err)
		}
		infos[i] = repo.GroupInfo{Namespace: ns, Group: group, Owner: g.Owner, Count: g.Count, Files: g.Files, Comment: g.Comment}
		if g.LastBackup > 0 {
			infos[i].LastBackup = time.Unix(g.LastBackup, 0).UTC()
		}
	}
	slices.SortFunc(infos, func(a, b repo.GroupInfo) int { return a.Group.Compare(b.Group) })
	return infos, nil
}

func groupOf(typ, id string) (names.Group, error) {
	g := names.Group{Type: names.BackupType(typ), ID: id}
	return g, g.Check()
}

// Snapshots describes the snapshots of a group, or of a whole namespace.
func (r *Repository) Snapshots(ctx context.Context, ns names.Namespace, group *names.Group) ([]repo.SnapshotInfo, error) {
	q := inNamespace(ns)
	if group != nil {
		q = ofGroup(ns, *group)
	}
	var list []items.Snapshot
	if err := r.call(ctx, http.MethodGet, r.at("snapshots"), q, &list); err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	if len(list) == 0 && group != nil {
		if err := r.needGroup(ctx, ns, *group); err != nil {
			return nil, err
		}
	}
	infos := make([]repo.SnapshotInfo, len(list))
	for i, s := range list {
		var err error
		if infos[i], err = snapshotOf(ns, s); err != nil {
			return nil, fmt.Errorf("list snapshots: %w", err)
		}
	}
	slices.SortFunc(infos, func(a, b repo.SnapshotInfo) int { return a.Snapshot.Compare(b.Snapshot) })
	return infos, nil
}

// needGroup fails with repo.ErrNotFound unless the group is there.
func (r *Repository) needGroup(ctx context.Context, ns names.Namespace, g names.Group) error {
	all, err := r.Groups(ctx, ns)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(i repo.GroupInfo) bool { return i.Group == g }) {
		return fmt.Errorf("backup group %s: %w", g, repo.ErrNotFound)
	}
	return nil
}

func snapshotOf(ns names.Namespace, s items.Snapshot) (repo.SnapshotInfo, error) {
	g, err := groupOf(s.Type, s.ID)
	if err != nil {
		return repo.SnapshotInfo{}, err
	}
	info := repo.SnapshotInfo{
		Snapshot: names.Snapshot{NS: ns, Group: g, Time: s.Time}, Protected: s.Protected, Notes: s.Comment,
		Fingerprint: s.Fingerprint, Owner: s.Owner,
	}
	if v := s.Verification; v != nil {
		info.Verify = &manifest.VerifyState{State: v.State, UPID: v.UPID}
	}
	for _, f := range s.Files {
		if f.Name == string(names.Manifest) {
			info.Finished = true
			info.Signed = f.CryptMode == string(manifest.ModeSignOnly)
			continue
		}
		if f.Size == nil { // beside the manifest: the client's log
			continue
		}
		mode := manifest.CryptMode(f.CryptMode)
		if mode == "" {
			mode = manifest.ModeNone
		}
		info.Files = append(info.Files, manifest.File{Filename: f.Name, CryptMode: mode, Size: *f.Size})
		info.Size += int64(*f.Size)
	}
	if info.Finished && s.Size == nil {
		info.Problem = errors.New("the server cannot read its manifest")
	}
	return info, nil
}
