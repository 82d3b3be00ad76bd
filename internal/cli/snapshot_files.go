package cli

import (
	"context"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newSnapshotFilesCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "files SNAPSHOT",
		Short: "List the archives of a snapshot",
		Long: `Lists the archives that the manifest of a snapshot names, with their size, how
they are encrypted, and the checksum that everything read from them is held
against. The log that 'snapshot upload-log' stored has none: no manifest lists it.`,
		Example: `  holdfast snapshot files vm/100
  holdfast snapshot files vm/100/2026-11-22T10:00:00Z --output-format json`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSnapshotFiles(cmd.Context(), a, args[0])
		},
	}
}

func runSnapshotFiles(ctx context.Context, a *app, arg string) error {
	return a.withSnapshot(ctx, arg, func(_ repo.Repository, s repo.Snapshot) error {
		files := filesOf(s.Manifest().Files)
		log, ok, err := logFile(s)
		if err != nil {
			return err
		}
		if ok {
			files = append(files, log)
		}
		t := ui.Table{Columns: []ui.Column{
			{Title: "FILE"}, {Title: "SIZE", Align: ui.Right}, {Title: "CRYPT MODE"}, {Title: "CHECKSUM"},
		}}
		for _, f := range files {
			t.Add(f.Filename, ui.Size(int64(f.Size)), f.CryptMode, f.Csum)
		}
		return a.print(files, func() error { return a.table(&t) })
	})
}

// withSnapshot opens the repository and one finished snapshot in it.
func (a *app) withSnapshot(ctx context.Context, arg string, job func(repo.Repository, repo.Snapshot) error) error {
	if a.given != nil {
		return job(nil, a.given)
	}
	if _, err := a.parsePlace(arg); err != nil {
		return err // before anything is opened
	}
	return a.with(ctx, func(r repo.Repository) (err error) {
		name, err := a.snapshot(ctx, r, arg)
		if err != nil {
			return err
		}
		s, err := r.Open(ctx, name)
		if err != nil {
			return err
		}
		defer func() {
			if cerr := s.Close(); err == nil && cerr != nil {
				err = fmt.Errorf("close snapshot %s: %w", show(name), cerr)
			}
		}()
		return job(r, s)
	})
}
