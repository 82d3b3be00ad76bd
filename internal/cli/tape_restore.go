package cli

import (
	"context"

	"github.com/google/uuid"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

// tapeRestoreOptions are those of a restore from tape.
type tapeRestoreOptions struct {
	*tapeOptions
	set        uuid.UUID
	stores     job.StoreMap
	snapshots  []string
	namespaces []string
	owner      string
	datastores []string
}

func newTapeRestoreCommand(a *app, o *tapeOptions) *cobra.Command {
	r := tapeRestoreOptions{tapeOptions: o}
	cmd := &cobra.Command{
		Use:   "restore MEDIA-SET STORE [SNAPSHOT...]",
		Short: "Bring snapshots back from tape",
		Long: `Brings the snapshots of a media set back into datastores of this machine: all of
them, or those that are named, as tank:vm/100/2026-11-22T10:00:00Z or
tank:ns/a/ct/7/2026-11-22T10:00:00Z. 'holdfast tape media content' shows what
there is. Snapshots that are there already are left as they are.

STORE is where they go: one datastore for all, or a list with commas of
SOURCE=TARGET, in which one TARGET may stand alone, for all others. Backups of
datastores that are not in it are left out. --namespaces brings a namespace into
another one: store=tank,source=a,target=b,max-depth=0.

A snapshot appears when all of it is there. Chunks are compared with their
checksums. Exit code 3: something was left out. Exit code 4: something on the
media cannot be read.`,
		Example: `  holdfast tape media list
  holdfast tape restore 9da37a55-aac7-4deb-91c6-482b3b675f30 tank
  holdfast tape restore 9da37a55-aac7-4deb-91c6-482b3b675f30 tank=new,archive --datastore new=/mnt/new
  holdfast tape restore 9da37a55-aac7-4deb-91c6-482b3b675f30 tank tank:vm/100/2026-11-22T10:00:00Z`,
		Args: between(2, -1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if r.set, err = uuid.Parse(args[0]); err != nil {
				return usagef("%q is no media set: want its uuid, as 'holdfast tape media list' shows it", args[0])
			}
			if r.stores, err = job.ParseStoreMap(args[1]); err != nil {
				return usage(err)
			}
			r.snapshots = args[2:]
			return runTapeRestore(cmd.Context(), a, r)
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.owner, "owner", "", "owner of new groups, and whose groups are touched")
	f.StringArrayVar(&r.namespaces, "namespaces", nil, "store=STORE[,source=NS][,target=NS][,max-depth=N]; can be given again")
	f.StringArrayVar(&r.datastores, "datastore", nil, "NAME=DIR or NAME=s3://BUCKET: where a datastore is; can be given again")
	return cmd
}

// tapeRestoredJSON is what came back.
type tapeRestoredJSON struct {
	Snapshots int64 `json:"snapshots"`
	Skipped   int64 `json:"skipped"`
	Failed    int64 `json:"failed"`
	Damaged   int64 `json:"damaged"`
	Chunks    int64 `json:"chunks"`
	Bytes     int64 `json:"bytes"`
}

func runTapeRestore(ctx context.Context, a *app, r tapeRestoreOptions) error {
	if r.owner != "" {
		if _, err := names.ParseAuthID(r.owner); err != nil {
			return usage(err)
		}
	}
	var some job.Some
	for _, text := range r.snapshots {
		c, err := job.ParseChoice(text)
		if err != nil {
			return usage(err)
		}
		some.Snapshots = append(some.Snapshots, c)
	}
	for _, text := range r.namespaces {
		m, err := job.ParseNamespaceMap(text)
		if err != nil {
			return usage(err)
		}
		some.Namespaces = append(some.Namespaces, m)
	}
	return r.withWorld(ctx, a, func(s *tapeSite, w *job.World) (err error) {
		from := tapeStores{flags: r.datastores, site: s}
		targets := map[string]*job.Target{}
		for _, name := range r.stores.Targets() {
			to, done, err := from.open(ctx, name, stores.Write)
			if err != nil {
				return err
			}
			s.close = append(s.close, done)
			targets[name] = &job.Target{Repo: to, Owner: r.owner}
		}
		m := a.meter("tape restore", ui.Bytes)
		opt := job.Restore{
			MediaSet: r.set,
			Target: func(store string) *job.Target {
				name, ok := r.stores.Target(store)
				if !ok {
					return nil
				}
				return targets[name]
			},
			Progress: func(st job.RestoreStats) { m.Update(st.Bytes, 0, "") },
		}
		var stats job.RestoreStats
		if len(some.Snapshots)+len(some.Namespaces) > 0 {
			stats, err = w.RestoreSome(ctx, opt, some)
		} else {
			stats, err = w.RestoreAll(ctx, opt)
		}
		m.Done(err == nil)
		if err != nil {
			return err
		}
		return a.toldRestored(stats)
	})
}

// toldRestored prints what came back, and makes an error of what did not.
func (a *app) toldRestored(st job.RestoreStats) error {
	out := tapeRestoredJSON{st.Snapshots, st.Skipped, st.Failed, st.Damaged, st.Chunks, st.Bytes}
	err := a.print(out, func() error {
		return a.printf("%s restored, %d were there already; %s in %s read\n", plural(st.Snapshots, "snapshot"), st.Skipped,
			ui.Rough(st.Bytes), plural(st.Chunks, "chunk"))
	})
	switch {
	case err != nil:
		return err
	case st.Damaged > 0:
		return mark(errDamaged, "%s on the media could not be read, %s not restored", plural(st.Damaged, "place"), plural(st.Failed, "snapshot"))
	case st.Failed > 0:
		return mark(errSkipped, "%s not restored", plural(st.Failed, "snapshot"))
	}
	return nil
}
