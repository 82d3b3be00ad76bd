package server

import (
	"context"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
)

// mandate is in whose name snapshots are copied, which may be somebody with few
// rights: a sync reads and changes what its owner may, namespace by namespace. Whose
// groups are touched at the target is replicate's to look after.
type mandate struct {
	policy *access.Policy
	who    names.AuthID
}

// local is a datastore of this server as far as the mandate reaches.
func (m mandate) local(s stores.Store, name string, op stores.Operation) repo.Repository {
	at := bounds{m, func(ns names.Namespace, c access.Call) error { return m.policy.Require(m.who, name, ns, c) }}
	if op == stores.Write {
		return localTarget{target{s, at}, s}
	}
	return localSource{s, at, name}
}

// remote is the datastore of another server as far as the mandate reaches.
func (m mandate) remote(r repo.Repository, name, store string) repo.Repository {
	need := map[access.Call]access.Privs{
		access.CallBackup: access.RemoteDatastoreBackup, access.CallForget: access.RemoteDatastorePrune,
		access.CallNamespace: access.RemoteDatastoreModify,
	}
	return target{r, bounds{m, func(ns names.Namespace, c access.Call) error {
		return m.policy.RequireAny(m.who, access.RemotePath(name, store, ns), need[c])
	}}}
}

// bounds ask for the rights to do something in a namespace.
type bounds struct {
	mandate
	require func(names.Namespace, access.Call) error
}

// localSource is read as far as its bounds let.
type localSource struct {
	stores.Store
	bounds
	name string
}

// Namespaces leaves out those in which nothing may be read.
func (l localSource) Namespaces(ctx context.Context, parent names.Namespace) ([]names.Namespace, error) {
	list, err := l.Store.Namespaces(ctx, parent)
	return slices.DeleteFunc(list, func(ns names.Namespace) bool { return l.require(ns, access.CallRestore) != nil }), err
}

// Groups leaves out those that may not be read.
func (l localSource) Groups(ctx context.Context, ns names.Namespace) ([]repo.GroupInfo, error) {
	if err := l.require(ns, access.CallRestore); err != nil {
		return nil, err
	}
	far := l.policy.Reach(l.who, l.name, ns, access.CallRestore)
	list, err := l.Store.Groups(ctx, ns)
	return slices.DeleteFunc(list, func(g repo.GroupInfo) bool {
		owner, err := names.ParseAuthID(g.Owner)
		return far != access.Every && (err != nil || !far.Covers(l.who, owner))
	}), err
}

// target is changed as far as its bounds let.
type target struct {
	repo.Repository
	bounds
}

// Groups lists groups where backups may be made.
func (t target) Groups(ctx context.Context, ns names.Namespace) ([]repo.GroupInfo, error) {
	if err := t.require(ns, access.CallBackup); err != nil {
		return nil, err
	}
	return t.Repository.Groups(ctx, ns)
}

// Begin starts a backup.
func (t target) Begin(ctx context.Context, b repo.Begin) (repo.Session, error) {
	if err := t.require(b.Snapshot.NS, access.CallBackup); err != nil {
		return nil, err
	}
	return t.Repository.Begin(ctx, b)
}

// CreateNamespace makes a namespace.
func (t target) CreateNamespace(ctx context.Context, ns names.Namespace) error {
	if err := t.require(ns.Parent(), access.CallNamespace); err != nil {
		return err
	}
	return t.Repository.CreateNamespace(ctx, ns)
}

// DeleteNamespace removes a namespace.
func (t target) DeleteNamespace(ctx context.Context, ns names.Namespace, withGroups bool) error {
	if err := t.require(ns.Parent(), access.CallNamespace); err != nil {
		return err
	}
	return t.Repository.DeleteNamespace(ctx, ns, withGroups)
}

// Forget removes a snapshot.
func (t target) Forget(ctx context.Context, n names.Snapshot) error {
	if err := t.require(n.NS, access.CallForget); err != nil {
		return err
	}
	return t.Repository.Forget(ctx, n)
}

// ForgetGroup removes a group.
func (t target) ForgetGroup(ctx context.Context, ns names.Namespace, g names.Group) (repo.ForgetGroupResult, error) {
	if err := t.require(ns, access.CallForget); err != nil {
		return repo.ForgetGroupResult{}, err
	}
	return t.Repository.ForgetGroup(ctx, ns, g)
}

// localTarget is a target whose snapshots can be mended.
type localTarget struct {
	target
	store stores.Store
}

// Mend implements repo.Mender.
func (l localTarget) Mend(ctx context.Context, n names.Snapshot) (repo.Session, error) {
	if err := l.require(n.NS, access.CallBackup); err != nil {
		return nil, err
	}
	return l.store.Mend(ctx, n)
}
