package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/provider/carry"
	"github.com/holdfast-backup/holdfast/internal/provider/dirstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type providerImportOptions struct {
	providerOptions
	scratch string
}

func newProviderImportCommand(a *app) *cobra.Command {
	var o providerImportOptions
	cmd := &cobra.Command{
		Use:   "import DIRECTORY [GUEST | BACKUP]...",
		Short: "Bring backups that are plain files into the repository",
		Long: `Reads backups from a directory that a backup provider keeps as qcow2 and tar
files, those of 'holdfast provider --directory' or of the example that Proxmox VE
published, and makes snapshots of them: with their time, configuration, notes
and protection. The directory stays as it is.

Without further arguments all are imported; GUEST is a number, BACKUP a name such
as 100/qemu-1700000000. What the repository has already is passed over, so an
import that was interrupted goes on when it is repeated.

Of a chain of incremental disks only what changed is read. Containers that are
tar files are unpacked first, below --scratch; that needs root.`,
		Example: `  holdfast provider import /mnt/pve/backups
  holdfast provider import /mnt/pve/backups 100 200/lxc-1700000000 --ns old`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name the directory that backups are imported from")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runProviderImport(cmd.Context(), a, o, args[0], args[1:])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.owner, "owner", "", "who backs up, as in 'holdfast backup'")
	f.StringVar(&o.scratch, "scratch", os.TempDir(), "where containers are unpacked")
	o.key.writeFlags(cmd)
	return cmd
}

// importedJSON is a line of the result.
type importedJSON struct {
	Backup   string `json:"backup"`
	Snapshot string `json:"snapshot"`
	Existed  bool   `json:"existed"`
	Read     int64  `json:"read"`
	Stored   int64  `json:"stored"`
	Error    string `json:"error,omitempty"`
}

func runProviderImport(ctx context.Context, a *app, o providerImportOptions, dir string, only []string) (err error) {
	if o.owner != "" {
		if err := checkOwner(o.owner); err != nil {
			return err
		}
	}
	from, err := dirstore.Open(dir, dirstore.Options{Log: a.log()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	list, err := from.List(ctx, nil)
	if err != nil {
		return err
	}
	if list, err = chosen(list, only); err != nil {
		return err
	}
	o.storage = "import"
	to, err := a.providerStorage(ctx, o.providerOptions)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()

	c := carry.New(from, to, carry.Options{Scratch: o.scratch, Log: a.log()})
	lines := []importedJSON{}
	var failed error
	for _, e := range list {
		out, err := c.Archive(ctx, e)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		l := importedJSON{Backup: e.Name, Snapshot: out.To.Name, Existed: out.Existed, Read: out.Result.Read, Stored: out.Result.Stored}
		if err != nil {
			l.Error = err.Error()
			failed = errors.Join(failed, fmt.Errorf("import %s: %w", e.Name, err))
		}
		a.sayImported(l)
		lines = append(lines, l)
	}
	if a.format != ui.Text {
		if err := a.format.WriteJSON(a.Stdout, lines); err != nil {
			return err
		}
	}
	return failed
}

// sayImported says for people what became of a backup.
func (a *app) sayImported(l importedJSON) {
	switch {
	case a.format != ui.Text:
	case l.Error != "":
		a.warn("%s: %s", l.Backup, l.Error)
	case l.Existed:
		fmt.Fprintf(a.Stdout, "%s: is there already as %s\n", l.Backup, l.Snapshot)
	default:
		fmt.Fprintf(a.Stdout, "%s: %s, %s read, %s new\n", l.Backup, l.Snapshot, ui.Size(l.Read), ui.Size(l.Stored))
	}
}

// chosen leaves the backups that words name, all if there are none.
func chosen(list []provider.Entry, only []string) ([]provider.Entry, error) {
	if len(only) == 0 {
		return list, nil
	}
	found := map[string]bool{}
	list = slices.DeleteFunc(list, func(e provider.Entry) bool {
		guest, _, _ := strings.Cut(e.Name, "/")
		named := false
		for _, w := range only {
			if w == e.Name || w == guest {
				found[w], named = true, true
			}
		}
		return !named
	})
	for _, w := range only {
		if !found[w] {
			return nil, fmt.Errorf("there is no backup %s: %w", w, repo.ErrNotFound)
		}
	}
	return list, nil
}
