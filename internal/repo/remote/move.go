package remote

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// MoveGroup has the server move a group to another namespace, and waits for it.
func (r *Repository) MoveGroup(ctx context.Context, from names.Namespace, g names.Group, to names.Namespace, merge bool) error {
	q := ofGroup(from, g)
	q.Set("target-ns", string(to))
	q.Set("merge-group", strconv.FormatBool(merge))
	if err := r.move(ctx, "move-group", q); err != nil {
		return fmt.Errorf("move %s: %w", g, err)
	}
	return nil
}

// MoveNamespace has the server move what is in a namespace, and waits for it.
func (r *Repository) MoveNamespace(ctx context.Context, from names.Namespace, opt repo.MoveNamespaceOptions) error {
	q := inNamespace(from)
	q.Set("target-ns", string(opt.To))
	if opt.Depth >= 0 {
		q.Set("max-depth", strconv.Itoa(opt.Depth))
	}
	q.Set("delete-source", strconv.FormatBool(!opt.KeepSource))
	q.Set("merge-groups", strconv.FormatBool(opt.Merge))
	if err := r.move(ctx, "move-namespace", q); err != nil {
		return fmt.Errorf("move namespace %s: %w", from, err)
	}
	return nil
}

func (r *Repository) move(ctx context.Context, what string, q url.Values) error {
	can, err := r.atLeast(ctx, 4, 1, 9)
	if err != nil {
		return err
	}
	if !can {
		return fmt.Errorf("server %s cannot do that: release 4.1.9 is the first that can", r.addr.Server())
	}
	var id string
	if err := r.call(ctx, http.MethodPost, r.at(what), q, &id); err != nil {
		return err
	}
	return r.follow(ctx, id, func(string) {})
}
