package cli

import (
	"context"
	"errors"
	"os"

	"github.com/google/uuid"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/spf13/cobra"
)

func newTapeExtractCommand(a *app, o *tapeOptions) *cobra.Command {
	var r restoreOptions
	var spool string
	cmd := &cobra.Command{
		Use:   "extract MEDIA-SET SNAPSHOT ARCHIVE TARGET",
		Short: "Restore one archive, or one file of it, straight from tape",
		Long: `Restores one archive of a snapshot without a datastore: a disk image, an archive
of a directory, or with --path and --pattern some of its files. TARGET and the
options are those of 'holdfast restore'.

What is read from tape lies in a temporary directory meanwhile, which needs room
for the chunks of the archive as they are stored; for single files of a
directory only for the chunks that lead to them, and what lies beside these on
tape. --spool says where.`,
		Example: `  holdfast tape extract 9da37a55-aac7-4deb-91c6-482b3b675f30 tank:vm/100/2026-11-22T10:00:00Z disk.img disk.raw
  holdfast tape extract 9da37a55-aac7-4deb-91c6-482b3b675f30 tank:host/web1/2026-11-22T10:00:00Z root.pxar ./etc --path /etc`,
		Args: exactly(4),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := uuid.Parse(args[0])
			if err != nil {
				return usagef("%q is no media set: want its uuid, as 'holdfast tape media list' shows it", args[0])
			}
			c, err := job.ParseChoice(args[1])
			if err != nil {
				return usage(err)
			}
			r.snapshot, r.archive, r.target = c.Snapshot.String(), args[2], args[3]
			return runTapeExtract(cmd.Context(), a, o, r, set, c, spool)
		},
	}
	f := cmd.Flags()
	f.StringVar(&spool, "spool", "", "directory for what is read from tape; without it the one for temporary files")
	f.BoolVar(&r.inPlace, "in-place", false, "write only what differs onto an existing file, block device or directory")
	f.BoolVar(&r.overwrite, "overwrite", false, "replace a file that exists; of an archive of a directory all files, links and devices")
	f.BoolVar(&r.allowHoles, "allow-holes", false, "go on where a chunk is missing or damaged: an image has zeros there, files are left out")
	f.StringVar(&r.format, "format", "", "what an archive of a directory becomes: plain, tar, zip or pxar (default: plain, for - pxar)")
	f.StringVar(&r.path, "path", "", "restore one file or directory of the archive")
	f.StringArrayVar(&r.patterns, "pattern", nil, "restore what matches this pattern, and all below it (repeatable; the last match decides, \"!\" in front leaves out)")
	r.files.add(f)
	r.key.readFlags(cmd)
	complete(cmd, "format", cobra.FixedCompletions([]string{"plain", "pxar", "tar", "zip"}, noFiles))
	return cmd
}

func runTapeExtract(ctx context.Context, a *app, o *tapeOptions, r restoreOptions, set uuid.UUID, c job.Choice, spool string) error {
	return o.withWorld(ctx, a, func(_ *tapeSite, w *job.World) (err error) {
		dir, err := os.MkdirTemp(spool, "holdfast-tape-")
		if err != nil {
			return err
		}
		snap, err := w.OpenSnapshot(ctx, set, c, dir)
		if err != nil {
			return errors.Join(err, os.RemoveAll(dir))
		}
		defer func() { err = errors.Join(err, snap.Close()) }()
		if r.path == "" && len(r.patterns) == 0 {
			snap.Want(wholeArchive(snap.Manifest(), r.archive)...)
		}
		one := *a
		one.given = snap
		return runRestore(ctx, &one, r)
	})
}

// wholeArchive are the parts of an archive as the snapshot has them; what is not there
// is told by who restores it.
func wholeArchive(m *manifest.Manifest, name string) (list []names.Archive) {
	if filearchive.Is(name) {
		parts, err := filearchive.Find(m, name)
		if err != nil {
			return nil
		}
		for _, part := range []names.Archive{parts.Meta, parts.Payload} {
			if _, ok := m.File(part.String()); ok {
				list = append(list, part)
			}
		}
		return list
	}
	if archive, err := archiveNamed(m, name); err == nil {
		if _, ok := m.File(archive.String()); ok {
			list = append(list, archive)
		}
	}
	return list
}
