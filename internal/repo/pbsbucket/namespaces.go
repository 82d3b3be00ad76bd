package pbsbucket

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Namespaces returns the namespaces below parent, at every depth, sorted.
func (r *Repository) Namespaces(ctx context.Context, parent names.Namespace) ([]names.Namespace, error) {
	if err := parent.Check(); err != nil {
		return nil, err
	}
	seen := map[names.Namespace]bool{}
	prefix := below(parent) + "ns/"
	for after := ""; ; {
		list, more, err := r.store.List(ctx, prefix, after, objstore.MaxDelete)
		if err != nil {
			return nil, fmt.Errorf("list namespaces: %w", err)
		}
		for _, o := range list {
			if e, ok := parseKey(o.Key); ok {
				for ns := e.ns; ns != parent && !seen[ns]; ns = ns.Parent() {
					seen[ns] = true
				}
			}
		}
		if !more || len(list) == 0 {
			break
		}
		after = skip(list[len(list)-1].Key)
	}
	if len(seen) == 0 {
		if err := r.needNamespace(ctx, parent); err != nil {
			return nil, err
		}
	}
	var all []names.Namespace
	for ns := range seen {
		all = append(all, ns)
	}
	slices.SortFunc(all, byPath)
	return all, nil
}

// byPath orders as a directory would be walked: what lies in a namespace follows it.
func byPath(a, b names.Namespace) int {
	return slices.Compare(strings.Split(a.String(), "/"), strings.Split(b.String(), "/"))
}

// skip is where a listing that is about namespaces goes on after a key: no namespace
// lies among the groups of one type, of which there may be many.
func skip(key string) string {
	e, ok := parseKey(key)
	if !ok || e.group == (names.Group{}) {
		return key
	}
	return behind(shelf(e.ns, e.group.Type))
}

// needNamespace fails with repo.ErrNotFound unless ns exists.
func (r *Repository) needNamespace(ctx context.Context, ns names.Namespace) error {
	if ns.IsRoot() {
		return nil
	}
	list, _, err := r.store.List(ctx, below(ns), "", 1)
	if err == nil && len(list) == 0 {
		err = repo.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("namespace %s: %w", ns, err)
	}
	return nil
}
