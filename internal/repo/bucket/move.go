package bucket

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

var _ repo.Mover = (*Repository)(nil)

// MoveGroup moves a group into another namespace, by one entry of the log.
func (r *Repository) MoveGroup(ctx context.Context, from names.Namespace, g names.Group, to names.Namespace, merge bool) error {
	_, err := r.unlocked(ctx, func(tx catalog.Tx) error { return catalog.MoveGroup(tx, from, g, to, merge) })
	if err != nil {
		return fmt.Errorf("move %s: %w", g, err)
	}
	return nil
}

// MoveNamespace moves the groups of a namespace and of those below it, down to
// opt.Depth, to where opt.To says, which is made if only its last part is missing.
// What cannot be moved stays and is in the error; all else moves.
func (r *Repository) MoveNamespace(ctx context.Context, from names.Namespace, opt repo.MoveNamespaceOptions) error {
	if err := r.moveNamespace(ctx, from, opt); err != nil {
		return fmt.Errorf("move namespace %s: %w", from, err)
	}
	return nil
}

func (r *Repository) moveNamespace(ctx context.Context, from names.Namespace, opt repo.MoveNamespaceOptions) error {
	s, err := r.view(ctx)
	if err != nil {
		return err
	}
	all, err := catalog.Targets(s, from, opt)
	if err != nil {
		return err
	}
	var failed []error
	for _, p := range all {
		if err := r.moveGroups(ctx, p, opt.Merge, &failed); err != nil {
			return err
		}
	}
	if opt.KeepSource {
		return errors.Join(failed...)
	}
	_, err = r.update(ctx, func(tx catalog.Tx) error {
		for _, p := range slices.Backward(all) {
			if err := catalog.DropNamespace(tx, p.From); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(append(failed, err)...)
}

// moveGroups moves the groups of one namespace, each by an entry.
func (r *Repository) moveGroups(ctx context.Context, p catalog.Pair, merge bool, failed *[]error) error {
	_, err := r.update(ctx, func(tx catalog.Tx) error {
		if catalog.NeedNamespace(tx, p.To) == nil {
			return nil
		}
		return catalog.CreateNamespace(tx, p.To)
	})
	if err != nil {
		return err
	}
	groups, err := catalog.Groups(r.log.Seen(), p.From)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if err := r.MoveGroup(ctx, p.From, g, p.To, merge); err != nil {
			*failed = append(*failed, fmt.Errorf("in namespace %q: %w", p.From, err))
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	return nil
}
