package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image/overlay"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newOverlayCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "overlay",
		Short: "Show, commit and discard what was written over backups",
		Long: `With --writable, 'holdfast map' and 'holdfast nbd serve' put an overlay above a
disk image: a sparse file that holds what was written. It survives the end of the
command and a crash, and is taken up again the next time. It can become a new
snapshot, or be thrown away; the snapshot below it is needed until then.

Overlays without a name of their own lie in $XDG_STATE_HOME/holdfast/overlays,
or /var/lib/holdfast/overlays for root.`,
		Example: `  holdfast overlay list
  holdfast overlay commit vm-100.overlay
  holdfast overlay discard vm-100.overlay`,
	}
	cmd.AddCommand(newOverlayListCommand(a), newOverlayShowCommand(a), newOverlayCommitCommand(a), newOverlayDiscardCommand(a))
	return cmd
}

// overlayJSON is an overlay as --output-format json shows it.
type overlayJSON struct {
	Path       string `json:"path"`
	Repository string `json:"repository"`
	Snapshot   string `json:"snapshot"`
	Archive    string `json:"archive"`
	Size       int64  `json:"size"`
	Disk       int64  `json:"disk"` // that the file takes, bytes
	Created    string `json:"created"`
	InUse      bool   `json:"in-use"`
}

func describeOverlay(path string) (overlayJSON, error) {
	m, err := overlay.ReadMeta(path)
	if err != nil {
		return overlayJSON{}, explainOverlay(err, path)
	}
	used, err := overlay.InUse(path)
	if err != nil {
		return overlayJSON{}, err
	}
	space, err := spaceOf(path)
	if err != nil {
		return overlayJSON{}, err
	}
	return overlayJSON{
		Path: path, Repository: m.Repository, Snapshot: show(m.Snapshot), Archive: m.Archive.ClientName(), Size: m.Size, Disk: space,
		Created: time.Unix(m.Created, 0).UTC().Format(time.RFC3339), InUse: used,
	}, nil
}

func (a *app) overlayTable(list []overlayJSON) error {
	t := ui.Table{Columns: []ui.Column{
		{Title: "OVERLAY"}, {Title: "SNAPSHOT"}, {Title: "ARCHIVE"}, {Title: "WRITTEN", Align: ui.Right}, {Title: "CREATED"}, {Title: "STATE"},
	}}
	for _, o := range list {
		state := "idle"
		if o.InUse {
			state = "in use"
		}
		t.Add(o.Path, o.Snapshot, o.Archive, ui.Rough(o.Disk), o.Created, state)
	}
	return a.table(&t)
}

func newOverlayListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list [DIR]",
		Short: "List the overlays in the state directory, or in another one",
		Long: `Lists overlays: over which image they lie, how much space they take, and whether
something has them open.`,
		Example: `  holdfast overlay list
  holdfast overlay list /var/lib/vms --output-format json`,
		Args: between(0, 1),
		RunE: func(_ *cobra.Command, args []string) error { return runOverlayList(a, args) },
	}
}

func runOverlayList(a *app, args []string) error {
	dir, err := a.overlayDir()
	if len(args) > 0 {
		dir, err = args[0], nil
	}
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && len(args) == 0 {
		err = nil // none was ever made
	}
	if err != nil {
		return err
	}
	list := []overlayJSON{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), overlaySuffix) || !e.Type().IsRegular() {
			continue
		}
		o, err := describeOverlay(filepath.Join(dir, e.Name()))
		if err != nil {
			a.warn("%v", err)
			continue
		}
		list = append(list, o)
	}
	return a.print(list, func() error {
		if len(list) == 0 {
			return a.printf("no overlays in %s\n", dir)
		}
		return a.overlayTable(list)
	})
}

func newOverlayShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "show FILE",
		Short:   "Show over which image an overlay lies",
		Long:    `Shows the snapshot and archive below an overlay, and how much was written.`,
		Example: `  holdfast overlay show vm-100.overlay`,
		Args:    exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			o, err := describeOverlay(args[0])
			if err != nil {
				return err
			}
			return a.print(o, func() error { return a.overlayTable([]overlayJSON{o}) })
		},
	}
}

func newOverlayDiscardCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "discard FILE...",
		Short: "Throw away what was written",
		Long: `Deletes overlay files, and with them everything that was written over the backup.
One that is in use is refused, and so is a file that is no overlay.`,
		Example: `  holdfast overlay discard vm-100.overlay`,
		Args:    between(1, -1),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, path := range args {
				if err := overlay.Remove(path); err != nil {
					return fmt.Errorf("discard: %w", explainOverlay(err, path))
				}
			}
			return a.print(map[string]any{"discarded": args}, func() error {
				return a.printf("discarded %s\n", strings.Join(args, ", "))
			})
		},
	}
}
