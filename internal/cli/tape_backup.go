package cli

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/replicate"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

// tapeBackupOptions are those of a backup to tape.
type tapeBackupOptions struct {
	*tapeOptions
	store, pool string
	ns          string
	depth       int
	latest      bool
	filters     []string
	force       bool
	eject       bool
	export      bool
	workers     int
	datastores  []string
}

func newTapeBackupCommand(a *app, o *tapeOptions) *cobra.Command {
	b := tapeBackupOptions{tapeOptions: o}
	cmd := &cobra.Command{
		Use:   "backup STORE POOL",
		Short: "Write the snapshots of a datastore to tape",
		Long: `Writes all finished snapshots of a datastore that the media set of the pool does
not have, oldest first. The datastore is one of the configuration, or
--datastore says where it is.

A medium that is needed is loaded by the changer; where there is none, or it is
not there, the command says which one is to be inserted, and waits.

Exit code 3: a snapshot could not be read and was left out.`,
		Example: `  holdfast tape backup tank daily
  holdfast tape backup tank daily --latest-only --group-filter type:vm --export-media-set
  holdfast tape backup tank daily --datastore tank=/mnt/tank --ns prod --max-depth 0`,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			b.store, b.pool = args[0], args[1]
			return runTapeBackup(cmd.Context(), a, b)
		},
	}
	f := cmd.Flags()
	f.StringVar(&b.ns, "ns", "", "namespace in the datastore, as a/b")
	f.IntVar(&b.depth, "max-depth", replicate.AllDepths, "levels of namespaces below (-1: all)")
	f.BoolVar(&b.latest, "latest-only", false, "only the newest snapshot of each group")
	f.StringArrayVar(&b.filters, "group-filter", nil, "[include:|exclude:]type:TYPE, group:GROUP or regex:RE; can be given again")
	f.BoolVar(&b.force, "force-media-set", false, "begin a new media set, whatever the pool says")
	f.BoolVar(&b.eject, "eject-media", false, "take the medium out of the drive at the end")
	f.BoolVar(&b.export, "export-media-set", false, "move the media of the set to slots for export at the end")
	f.IntVar(&b.workers, "worker-threads", job.DefaultReaders, "chunks read at a time")
	f.StringArrayVar(&b.datastores, "datastore", nil, "NAME=DIR or NAME=s3://BUCKET: where a datastore is; can be given again")
	return cmd
}

// tapeStatsJSON is what a backup did.
type tapeStatsJSON struct {
	Snapshots int64 `json:"snapshots"`
	Skipped   int64 `json:"skipped"`
	Failed    int64 `json:"failed"`
	Chunks    int64 `json:"chunks"`
	Bytes     int64 `json:"bytes"`
}

func runTapeBackup(ctx context.Context, a *app, b tapeBackupOptions) error {
	filters, err := replicate.ParseFilters(b.filters)
	if err != nil {
		return usage(err)
	}
	ns, err := names.ParseNamespace(b.ns)
	if err != nil {
		return usage(err)
	}
	if b.workers < 1 || b.workers > 32 {
		return usagef("--worker-threads: want 1 to 32")
	}
	return b.withWorld(ctx, a, func(s *tapeSite, w *job.World) error {
		pool, err := s.config.Pool(b.pool)
		if err != nil {
			return err
		}
		from := tapeStores{flags: b.datastores, site: s}
		r, done, err := from.open(ctx, b.store, stores.Read)
		if err != nil {
			return err
		}
		m := a.meter("tape "+b.pool, ui.Bytes)
		stats, err := w.Backup(ctx, pool, job.Backup{
			Store: b.store, Repo: r,
			Selection:     job.Selection{Namespace: ns, MaxDepth: b.depth, LatestOnly: b.latest, Groups: filters.Match},
			ForceMediaSet: b.force, EjectMedia: b.eject, ExportSet: b.export, Readers: b.workers,
			Progress: func(st job.Stats) { m.Update(st.Bytes, 0, "") },
		})
		m.Done(err == nil)
		if err = errors.Join(err, done()); err != nil {
			return err
		}
		out := tapeStatsJSON{stats.Snapshots, stats.Skipped, stats.Failed, stats.Chunks, stats.Bytes}
		err = a.print(out, func() error {
			return a.printf("%s written, %d on tape already; %s in %s\n", plural(stats.Snapshots, "snapshot"), stats.Skipped,
				ui.Rough(stats.Bytes), plural(stats.Chunks, "chunk"))
		})
		if err == nil && stats.Failed > 0 {
			err = mark(errSkipped, "%s could not be read", plural(stats.Failed, "snapshot"))
		}
		return err
	})
}
