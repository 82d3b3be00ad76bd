package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newListCommand(a *app) *cobra.Command {
	var recursive bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the backup groups",
		Long: `Lists the groups of a namespace: for each machine its newest finished backup,
how many there are, and the archives of the newest one. 'holdfast snapshot
list' shows the single backups.`,
		Example: `  holdfast list
  holdfast list --ns prod --output-format json
  holdfast list --recursive`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runList(cmd.Context(), a, recursive)
		},
	}
	cmd.Flags().BoolVar(&recursive, "recursive", false, "namespaces below too")
	return cmd
}

// groupJSON is a group in the words of the existing client.
type groupJSON struct {
	Namespace  string   `json:"ns,omitempty"`
	Type       string   `json:"backup-type"`
	ID         string   `json:"backup-id"`
	LastBackup int64    `json:"last-backup"`
	Count      int      `json:"backup-count"`
	Files      []string `json:"files"`
	Owner      string   `json:"owner,omitempty"`
	Comment    string   `json:"comment,omitempty"`
}

func runList(ctx context.Context, a *app, recursive bool) error {
	return a.with(ctx, func(r repo.Repository) error {
		spaces, err := a.namespaces(ctx, r, recursive)
		if err != nil {
			return err
		}
		out := []groupJSON{}
		t := ui.Table{Columns: []ui.Column{
			{Title: "GROUP"}, {Title: "LAST SNAPSHOT"}, {Title: "BACKUPS", Align: ui.Right}, {Title: "FILES"}, {Title: "OWNER"}, {Title: "COMMENT"},
		}}
		for _, ns := range spaces {
			groups, err := r.Groups(ctx, ns)
			if err != nil {
				return err
			}
			for _, g := range groups {
				out = append(out, groupOf(g))
				last := ""
				if !g.LastBackup.IsZero() {
					last = g.LastBackup.UTC().Format(time.RFC3339)
				}
				t.Add(groupPath(g), last, strconv.Itoa(g.Count), join(clientNames(g.Files)), g.Owner, g.Comment)
			}
		}
		return a.print(out, func() error { return a.table(&t) })
	})
}

func groupOf(g repo.GroupInfo) groupJSON {
	j := groupJSON{
		Namespace: g.Namespace.String(), Type: string(g.Group.Type), ID: g.Group.ID,
		Count: g.Count, Files: g.Files, Owner: g.Owner, Comment: g.Comment,
	}
	if !g.LastBackup.IsZero() {
		j.LastBackup = g.LastBackup.Unix()
	}
	if j.Files == nil {
		j.Files = []string{}
	}
	return j
}
