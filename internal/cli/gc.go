package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore/sweep"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type gcOptions struct {
	dryRun    bool
	skipAtime bool
	full      bool
	cutoff    string
}

func newGCCommand(a *app) *cobra.Command {
	var o gcOptions
	cmd := &cobra.Command{
		Use:     "gc",
		Aliases: []string{"garbage-collect"},
		Short:   "Free the space of chunks that no snapshot needs",
		Long: `Garbage collection marks every chunk that a snapshot names and removes the others.
A chunk is removed only when nobody has needed it for 24 hours and 5 minutes
(--cutoff), and never if it is newer than a backup that is running. So the space
of a snapshot becomes free by a collection a day after its removal; until then
it is shown as pending. --cutoff 0 frees it at once: backups that run meanwhile
are known and safe. Keep the default where the file system is slow to store
access times, as some network file systems are.

Before it begins, gc makes sure that the file system keeps access times when
asked to, as the decision rests on them. Chunks that snapshots name but that are
missing are reported.

In a bucket it is known how many snapshots need each chunk, and only what changed
since the last collection is read. --full counts everything anew, says if
anything was wrong, and finds objects that nothing names.`,
		Example: `  holdfast gc
  holdfast gc --dry-run
  holdfast gc --cutoff 0
  holdfast gc status --output-format json-pretty`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runGC(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "only count what would be removed")
	f.StringVar(&o.cutoff, "cutoff", "", "how long unneeded chunks stay, as 36h; 0: not at all (default 24h5m)")
	f.BoolVar(&o.full, "full", false, "in a bucket: count everything anew instead of what changed")
	f.BoolVar(&o.skipAtime, "skip-atime-check", false, "do not test whether the file system keeps access times")
	cmd.AddCommand(&cobra.Command{
		Use:   "status",
		Short: "Show the result of the last garbage collection",
		Long: `Shows what the last finished garbage collection counted: the space that is in
use, what it removed, what waits for its time, and the factor that
deduplication saves.`,
		Example:           `  holdfast gc status`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runGCStatus(cmd.Context(), a)
		},
	})
	return cmd
}

func runGC(ctx context.Context, a *app, o gcOptions) error {
	g := repo.GCOptions{DryRun: o.dryRun, SkipAtimeCheck: o.skipAtime, Full: o.full, Cutoff: sweep.DefaultCutoff}
	if o.cutoff != "" {
		d, err := time.ParseDuration(o.cutoff)
		if err != nil || d < 0 {
			return usagef("--cutoff %q is not a time such as 90m, 36h or 0", o.cutoff)
		}
		g.Cutoff = d
	}
	if o.dryRun || o.full || o.cutoff != "" {
		if err := a.notOnServer("a garbage collection with settings"); err != nil {
			return err
		}
	}
	if o.skipAtime {
		if _, err := a.directory("--skip-atime-check"); err != nil {
			return err
		}
	}
	a.fresh = true
	return a.with(ctx, func(r repo.Repository) error {
		m := a.meter("gc", ui.Items)
		phases := map[string]string{"mark": "marked", "rewrite": "written anew", "sweep": "swept"}
		g.Progress = func(p repo.GCProgress) { m.Update(int64(p.Done), int64(p.Total), p.Of+" "+phases[p.Phase]) }
		st, err := r.GC(ctx, g)
		m.Done(err == nil)
		if err != nil {
			return err
		}
		for _, w := range st.Warnings {
			a.warn("%s", w)
		}
		return a.print(gcOf(st), func() error { return a.gcText(st, o.dryRun) })
	})
}

// gcJSON is the status with what follows from it.
type gcJSON struct {
	repo.GCStatus
	Factor   float64  `json:"deduplication-factor,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

func gcOf(st repo.GCStatus) gcJSON { return gcJSON{st, dedupFactor(st), st.Warnings} }

func dedupFactor(st repo.GCStatus) float64 {
	if st.DiskBytes == 0 {
		return 0
	}
	return float64(st.IndexDataBytes) / float64(st.DiskBytes)
}

func (a *app) gcText(st repo.GCStatus, dryRun bool) error {
	removed := "Removed"
	if dryRun {
		removed = "Would remove"
	}
	t := ui.Table{Columns: []ui.Column{{Title: ""}, {Title: "SIZE", Align: ui.Right}, {Title: "CHUNKS", Align: ui.Right}}}
	t.Add(removed, ui.Size(st.RemovedBytes), fmt.Sprint(st.RemovedChunks))
	t.Add("Pending removal", ui.Size(st.PendingBytes), fmt.Sprint(st.PendingChunks))
	t.Add("In use", ui.Size(st.DiskBytes), fmt.Sprint(st.DiskChunks))
	if st.RemovedBad+st.StillBad > 0 {
		t.Add("Damaged, removed", "", fmt.Sprint(st.RemovedBad))
		t.Add("Damaged, kept", "", fmt.Sprint(st.StillBad))
	}
	if err := a.table(&t); err != nil {
		return err
	}
	if err := a.printf("%s of data in %d index files\n", ui.Size(st.IndexDataBytes), st.IndexFiles); err != nil {
		return err
	}
	if f := dedupFactor(st); f > 0 {
		return a.printf("holes, deduplication and compression save a factor of %.2f\n", f)
	}
	return nil
}

func runGCStatus(ctx context.Context, a *app) error {
	return a.with(ctx, func(r repo.Repository) error {
		st, err := r.LastGC(ctx)
		if err != nil {
			return err
		}
		return a.print(gcOf(st), func() error {
			if st.UPID == "" {
				return a.printf("no garbage collection has finished yet\n")
			}
			if err := a.printf("%s\n", st.UPID); err != nil {
				return err
			}
			return a.gcText(st, false)
		})
	})
}
