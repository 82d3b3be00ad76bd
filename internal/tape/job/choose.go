package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Choice is one snapshot of a store.
type Choice struct {
	Store    string
	Snapshot names.Snapshot
}

// ParseChoice reads store:[ns/a/ns/b/]type/id/time.
func ParseChoice(text string) (c Choice, err error) {
	store, path, ok := strings.Cut(text, ":")
	if !ok || names.CheckStore(store) != nil {
		return c, fmt.Errorf("%.100q is no snapshot on tape: want store:[ns/NAME/...]type/id/time", text)
	}
	c.Store = store
	c.Snapshot, err = names.ParseSnapshot(path)
	return c, err
}

func (c Choice) String() string { return c.Store + ":" + c.Snapshot.Path() }

// Some says which snapshots of a media set are brought back: those that are named,
// and those of namespaces.
type Some struct {
	Snapshots  []Choice
	Namespaces []NamespaceMap
}

// choose finds the snapshots, and leaves out those that are there.
func (p *picking) choose(ctx context.Context, r Restore, some Some) error {
	var list []*task
	for _, c := range some.Snapshots {
		at, ok, err := p.contents.Snapshot(c.Store, c.Snapshot)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%s is not in media set %s: %w", c, r.MediaSet, repo.ErrNotFound)
		}
		to := c.Snapshot
		for _, m := range some.Namespaces {
			ns, fits, err := m.Map(c.Store, c.Snapshot.NS)
			if err != nil {
				return err
			}
			if fits {
				to.NS = ns
				break
			}
		}
		list = append(list, &task{Choice: c, to: to, at: at})
	}
	if len(some.Snapshots) == 0 {
		var err error
		if list, err = p.inNamespaces(some.Namespaces); err != nil {
			return err
		}
	}
	for _, t := range list {
		if t.target = r.Target(t.Store); t.target == nil {
			return fmt.Errorf("%s: the store map names no target for %s", t.Choice, t.Store)
		}
		err := prepareOnly(ctx, t.target.Repo, t.to)
		if errors.Is(err, errThere) {
			p.stats.Skipped++
			p.bringing.logf("skip snapshot %s: it exists", t.to.Path())
			continue
		}
		if err != nil {
			return err
		}
		p.tasks = append(p.tasks, t)
	}
	return nil
}

// prepareOnly reports errThere for a snapshot that is there. It changes nothing.
func prepareOnly(ctx context.Context, r repo.Repository, to names.Snapshot) error {
	list, err := r.Snapshots(ctx, to.NS, &to.Group)
	if err != nil && !errors.Is(err, repo.ErrNotFound) {
		return err
	}
	if slices.ContainsFunc(list, func(s repo.SnapshotInfo) bool { return s.Snapshot == to && s.Finished }) {
		return errThere
	}
	return nil
}

func (p *picking) inNamespaces(maps []NamespaceMap) (list []*task, err error) {
	for name, at := range p.contents.Snapshots() {
		c, err := ParseChoice(name)
		if err != nil {
			return nil, err
		}
		for _, m := range maps {
			ns, fits, err := m.Map(c.Store, c.Snapshot.NS)
			if err != nil {
				return nil, err
			}
			if fits {
				to := c.Snapshot
				to.NS = ns
				list = append(list, &task{Choice: c, to: to, at: at})
				break
			}
		}
	}
	return list, nil
}
