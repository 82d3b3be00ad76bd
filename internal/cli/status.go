package cli

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the space that the repository takes or has",
		Long: `Shows how much space the file system that holds the repository has, and how much
is used and free, other things on it included. A bucket has no end: of one it is
shown how many objects of each kind are there, and what they take, which asks for
a list of them; and what this command itself has cost.`,
		Example: `  holdfast status
  holdfast status --repository /mnt/backup --output-format json
  holdfast status --repository s3://backups/vms`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runStatus(cmd.Context(), a)
		},
	}
}

func runStatus(ctx context.Context, a *app) error {
	return a.with(ctx, func(r repo.Repository) error {
		if _, ok := r.(*bucket.Repository); ok {
			return a.bucketStatus(ctx)
		}
		u, err := r.Usage(ctx)
		if err != nil {
			return err
		}
		total, avail := int64(u.Total), int64(u.Available)
		used := int64(u.Used)
		t := ui.Table{Columns: []ui.Column{{Title: ""}, {Title: "SIZE", Align: ui.Right}, {Title: "SHARE", Align: ui.Right}}}
		t.Add("Total", ui.Size(total))
		t.Add("Used", ui.Size(used), ui.Ratio(used, total))
		t.Add("Available", ui.Size(avail), ui.Ratio(avail, total))
		return a.print(map[string]int64{"total": total, "used": used, "avail": avail}, func() error { return a.table(&t) })
	})
}
