package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"time"

	"github.com/holdfast-backup/holdfast/internal/daemon"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type fileListOptions struct {
	fileRestoreOptions
	timeout int
}

func newFileRestoreListCommand(a *app) *cobra.Command {
	var o fileListOptions
	cmd := &cobra.Command{
		Use:   "list SNAPSHOT PATH",
		Short: "List a directory inside of an archive",
		Long: `Lists what is below a path: the archives of the snapshot ("/"), what is on a disk
image, or a directory. Of anything else the one entry is shown. Symbolic links
are not followed.

With --output-format json each entry has the keys filepath (the whole path in
base64, since its bytes are any), text, type, leaf, and where they are known size
and mtime. Types are d for directories, f for files, l and h for links, b, c, p
and s for devices, pipes and sockets, and v for what is made up of volumes.`,
		Example: `  holdfast file-restore list vm/100 /
  holdfast file-restore list vm/100 /drive-scsi0.img/part/1/etc
  holdfast file-restore list vm/100/2026-11-22T10:00:00Z L2RyaXZlLXNjc2kwLmltZy5maWR4 --base64 --output-format json`,
		Args:              exactly(2),
		ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.snapshot, o.path = args[0], args[1]
			return runFileList(cmd.Context(), a, o)
		},
	}
	cmd.Flags().IntVar(&o.timeout, "timeout", 0, "give up after so many seconds (0: never)")
	o.flags(a, cmd)
	return cmd
}

var errListTimeout = errors.New("list not finished in time")

func runFileList(ctx context.Context, a *app, o fileListOptions) error {
	if child := daemon.Inherited(); child != nil {
		return a.serveMachine(ctx, o.fileRestoreOptions, child)
	}
	if o.timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, time.Duration(o.timeout)*time.Second, errListTimeout)
		defer stop()
	}
	err := a.withFileRestore(ctx, o.fileRestoreOptions, func(r *fileRestore, p filerestore.Path) error {
		if p.Archive == "" {
			return r.listed(r.archives())
		}
		d, err := r.driver(ctx, p)
		if err != nil {
			return err
		}
		all, err := d.List(ctx, p)
		r.tell(d)
		if err != nil {
			return explainFiles(ctx, err)
		}
		return r.listed(all)
	})
	if err != nil && a.Program == fileRestoreProgram && a.outFormat != "text" {
		return a.printFileError(err)
	}
	return err
}

// printFileError prints an error as a result, as file browsers expect it.
func (a *app) printFileError(err error) error {
	type out struct {
		Message string `json:"message"`
		Code    int    `json:"code,omitempty"`
	}
	o := out{Message: oneLine(err)}
	if errors.Is(err, errListTimeout) {
		o.Code = 503
	}
	return a.print(o, nil)
}

func decodePath(text string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", usagef("--base64: %q is not base64: %v", text, err)
	}
	return string(b), nil
}

func (r *fileRestore) listed(all []filerestore.Entry) error {
	filerestore.Sort(all)
	if all == nil {
		all = []filerestore.Entry{}
	}
	return r.print(all, func() error {
		t := ui.Table{Columns: []ui.Column{{Title: "TYPE"}, {Title: "NAME"}, {Title: "MODIFIED"}, {Title: "SIZE", Align: ui.Right}, {Title: "ABOUT"}}}
		for _, e := range all {
			var when, size string
			if e.Mtime != nil {
				when = time.Unix(*e.Mtime, 0).UTC().Format(time.RFC3339)
			}
			if e.Size != nil {
				size = ui.Size(*e.Size)
			}
			t.Add(string(rune(e.Type)), ui.Path(e.Path.Base()), when, size, ui.Clean(e.Note))
		}
		return r.table(&t)
	})
}
