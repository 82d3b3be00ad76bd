package cli

import (
	"github.com/holdfast-backup/holdfast/internal/tape/config"
	"github.com/spf13/cobra"
)

func newTapeJobCommand(a *app, o *tapeOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use: "backup-job", Short: "Backups to tape that a server makes by itself",
		Long: `A job is a backup to tape with everything that 'holdfast tape backup' is told,
and a schedule. A server runs it; 'run' runs it here and now.`,
		Example: `  holdfast tape backup-job create nightly --store tank --pool daily --drive drive0 --schedule "mon..fri 20:00"
  holdfast tape backup-job run nightly`,
	}
	cmd.AddCommand(newTapeConfigCommands(a, o, tapeThing{
		kind: config.Job, word: "backup-job", article: "a job",
		about:   `Makes a job. Without a schedule it runs when it is told to.`,
		create:  "nightly --store tank --pool daily --drive drive0 --schedule daily",
		update:  "nightly --latest-only true",
		columns: []string{"store", "pool", "drive", "schedule", "comment"},
	})...)
	var datastores []string
	run := &cobra.Command{
		Use: "run ID", Short: "Run a job now", Long: `Makes the backup of a job, whatever its schedule says.`,
		Example: `  holdfast tape backup-job run nightly`, Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.configured(a, false)
			if err != nil {
				return err
			}
			j, err := c.Job(args[0])
			if err != nil {
				return tapeError(err)
			}
			sec, _, err := c.Section(config.Job, args[0])
			if err != nil {
				return tapeError(err)
			}
			one := *o
			one.drive = j.Drive
			return runTapeBackup(cmd.Context(), a, tapeBackupOptions{
				tapeOptions: &one, store: j.Store, pool: j.Pool, ns: j.Namespace.String(), depth: j.Depth, latest: j.LatestOnly,
				filters: sec.All("group-filter"), eject: j.Eject, export: j.Export, workers: j.Workers, datastores: datastores,
			})
		},
	}
	run.Flags().StringArrayVar(&datastores, "datastore", nil, "NAME=DIR or NAME=s3://BUCKET: where a datastore is; can be given again")
	cmd.AddCommand(run)
	return cmd
}
