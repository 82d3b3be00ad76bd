package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type pruneOptions struct {
	group  string
	all    bool
	dryRun bool
	quiet  bool
	keep   retention.Options
}

func newPruneCommand(a *app) *cobra.Command {
	var o pruneOptions
	cmd := &cobra.Command{
		Use:   "prune [GROUP]",
		Short: "Remove snapshots that a retention policy does not keep",
		Long: `Decides for every snapshot of GROUP, or of all groups of the namespace with --all,
whether a policy keeps it, and removes the rest.

The options are applied in the order last, hourly, daily, weekly, monthly,
yearly. Each keeps the newest snapshot of each of the N newest periods that have
one and that no option before has covered; periods without a backup use up
nothing. Hours, days, ISO weeks, months and years are those of the local time
zone. Protected snapshots stay and use up nothing. Unfinished ones are removed,
unless one is the newest of its group: it may still be running.

With --dry-run nothing is removed. The space of removed snapshots becomes free
by a 'holdfast gc' a day later.`,
		Example: `  holdfast prune vm/100 --keep-last 3 --keep-daily 7 --keep-weekly 4 --dry-run
  holdfast prune --all --keep-daily 14 --keep-monthly 12`,
		Args:              between(0, 1),
		ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.group = args[0]
			}
			return runPrune(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "all groups of the namespace")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "only show what would be kept and removed")
	f.BoolVar(&o.quiet, "quiet", false, "do not list the snapshots")
	f.IntVar(&o.keep.Last, "keep-last", 0, "keep the newest N snapshots")
	f.IntVar(&o.keep.Hourly, "keep-hourly", 0, "keep the newest snapshot of each of N hours")
	f.IntVar(&o.keep.Daily, "keep-daily", 0, "the same for days")
	f.IntVar(&o.keep.Weekly, "keep-weekly", 0, "the same for weeks")
	f.IntVar(&o.keep.Monthly, "keep-monthly", 0, "the same for months")
	f.IntVar(&o.keep.Yearly, "keep-yearly", 0, "the same for years")
	return cmd
}

// pruneJSON is a verdict in the words of the existing client.
type pruneJSON struct {
	Namespace string `json:"ns,omitempty"`
	Type      string `json:"backup-type"`
	ID        string `json:"backup-id"`
	Time      int64  `json:"backup-time"`
	Keep      bool   `json:"keep"`
	Protected bool   `json:"protected"`
	Mark      string `json:"mark"`
	Error     string `json:"error,omitempty"`
}

func (o pruneOptions) check() error {
	k := o.keep
	all := []int{k.Last, k.Hourly, k.Daily, k.Weekly, k.Monthly, k.Yearly}
	sum := 0
	for _, n := range all {
		if n < 0 {
			return usagef("a --keep option counts snapshots and cannot be negative")
		}
		sum |= n
	}
	switch {
	case sum == 0:
		return hint(usagef("no --keep option is given, so there is nothing to decide by"), "for example --keep-last 3 --keep-daily 7")
	case o.group == "" && !o.all:
		return usagef("name a group, or pass --all for every group of the namespace")
	case o.group != "" && o.all:
		return usagef("name a group or pass --all, not both")
	}
	return nil
}

func runPrune(ctx context.Context, a *app, o pruneOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	p := repo.PruneOptions{Namespace: a.ns, Keep: o.keep, DryRun: o.dryRun, Location: a.Location}
	if o.group != "" {
		ns, g, err := a.parseGroup(o.group)
		if err != nil {
			return err
		}
		p.Namespace, p.Group = ns, &g
	}
	return a.with(ctx, func(r repo.Repository) error {
		if p.Group != nil {
			if err := groupExists(ctx, r, p.Namespace, *p.Group); err != nil {
				return err
			}
		}
		results, err := r.Prune(ctx, p)
		if err != nil {
			return err
		}
		if !o.quiet || a.format.IsJSON() {
			err = a.print(pruneResults(results), func() error { return a.pruneTable(results, o.dryRun) })
		}
		if err != nil {
			return err
		}
		return pruneVerdict(results)
	})
}

// groupExists tells a misspelt group from one without snapshots to remove.
func groupExists(ctx context.Context, r repo.Repository, ns names.Namespace, g names.Group) error {
	list, err := r.Snapshots(ctx, ns, &g)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("group %s: %w", names.GroupPath(ns, g), repo.ErrNotFound)
	}
	return err
}

func pruneResults(results []repo.PruneResult) []pruneJSON {
	out := []pruneJSON{}
	for _, r := range results {
		j := pruneJSON{
			Namespace: r.Snapshot.NS.String(), Type: string(r.Snapshot.Type), ID: r.Snapshot.ID, Time: r.Snapshot.Time,
			Keep: r.Mark != retention.Remove, Protected: r.Mark == retention.Protected, Mark: string(r.Mark),
		}
		if r.Err != nil {
			j.Error = r.Err.Error()
		}
		out = append(out, j)
	}
	return out
}

func (a *app) pruneTable(results []repo.PruneResult, dryRun bool) error {
	t := ui.Table{Columns: []ui.Column{{Title: "SNAPSHOT"}, {Title: "VERDICT"}}}
	kept, removed := 0, 0
	for _, r := range results {
		word := string(r.Mark)
		switch {
		case r.Err != nil:
			word = "still there: " + r.Err.Error()
			kept++
		case r.Mark == retention.Remove:
			removed++
			word = "removed"
			if dryRun {
				word = "remove"
			}
		default:
			kept++
		}
		t.Add(show(r.Snapshot), word)
	}
	if err := a.table(&t); err != nil {
		return err
	}
	if dryRun {
		return a.printf("would keep %d and remove %d; nothing was changed\n", kept, removed)
	}
	return a.printf("kept %d, removed %d\n", kept, removed)
}

// pruneVerdict is an error when something that should go is still there.
func pruneVerdict(results []repo.PruneResult) error {
	var first error
	left, locked := 0, 0
	for _, r := range results {
		if r.Err == nil {
			continue
		}
		left++
		if errors.Is(r.Err, repo.ErrLocked) || errors.Is(r.Err, repo.ErrProtected) {
			locked++
		} else if first == nil {
			first = r.Err
		}
	}
	switch {
	case first != nil:
		return fmt.Errorf("%s could not be removed: %w", plural(left, "snapshot"), first)
	case locked > 0:
		return hint(fmt.Errorf("%w: %s in use kept", errSkipped, plural(locked, "snapshot")), "prune again later")
	}
	return nil
}
