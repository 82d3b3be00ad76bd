package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/browse"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type catalogDumpOptions struct {
	snapshot  string
	archive   string
	noCatalog bool
	key       keyOptions
}

func newCatalogDumpCommand(a *app) *cobra.Command {
	var o catalogDumpOptions
	cmd := &cobra.Command{
		Use:   "dump SNAPSHOT",
		Short: "List all files of a snapshot",
		Long: `Prints a line for each name in the file archives of a snapshot, in their order:
a letter for its kind (directory, file, symbolic link, hard link, block or
character device, pipe, socket), and its path between double quotes; of a file
also its size in bytes and the time of its last change:

  d "./root.pxar.didx"
  f "./root.pxar.didx/etc/passwd" 1234 2026-11-22T10:00:00Z

Within the quotes \" and \\ stand for those bytes, \n, \t and \r for control
characters, and a backslash and three octal digits for any other byte that is no
part of a printable character. 'catalog shell' reads such words.

With --output-format json each line is an object, with what is known of an entry:
much in an archive, little in a catalog.`,
		Example: `  holdfast catalog dump host/web1
  holdfast catalog dump host/web1/2026-11-22T10:00:00Z --archive root.pxar
  holdfast catalog dump host/web1 --no-catalog --output-format json | jq -r .mode`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.snapshot = args[0]
			return runCatalogDump(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.archive, "archive", "", "only this archive, as root.pxar")
	f.BoolVar(&o.noCatalog, "no-catalog", false, "read the archives themselves, also where the catalog has their names")
	o.key.readFlags(cmd)
	complete(cmd, "archive", func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return nil, noFiles
		}
		return a.completeFileArchives(cmd, args, prefix)
	})
	return cmd
}

func runCatalogDump(ctx context.Context, a *app, o catalogDumpOptions) error {
	return a.withSnapshot(ctx, o.snapshot, func(_ repo.Repository, s repo.Snapshot) (err error) {
		d := &dumper{a: a, out: bufio.NewWriterSize(a.Stdout, 64<<10)}
		defer func() { // of a damaged archive what could be read is shown
			if ferr := d.out.Flush(); err == nil && ferr != nil {
				err = fmt.Errorf("write the list: %w", ferr)
			}
		}()
		parts, err := fileArchives(s, o.archive)
		if err != nil {
			return err
		}
		files := []names.Archive{names.Catalog}
		for _, p := range parts {
			files = append(files, p.Meta)
		}
		key, err := a.keyForFiles(ctx, o.key, s, files...)
		if err != nil {
			return err
		}
		if hasCatalog(s) && !o.noCatalog {
			if parts, err = d.catalog(ctx, s, key, parts); err != nil {
				return hint(err, "--no-catalog reads the archives themselves")
			}
		}
		for _, p := range parts {
			if err := d.archive(ctx, s, p, key); err != nil {
				return err
			}
		}
		return nil
	})
}

// dumper prints trees.
type dumper struct {
	a   *app
	out *bufio.Writer
}

// catalog prints what the catalog has of these archives, and returns the others.
func (d *dumper) catalog(ctx context.Context, s repo.Snapshot, key *chunkcrypt.Key, parts []filearchive.Parts) (others []filearchive.Parts, err error) {
	t, err := browse.OpenCatalog(ctx, s, key, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	for _, p := range parts {
		name := string(p.Meta)
		below, err := t.Below(ctx, "/"+name)
		if errors.Is(err, fs.ErrNotExist) {
			others = append(others, p)
			continue
		}
		if err == nil {
			err = d.tree(ctx, name, below)
		}
		if err != nil {
			return nil, err
		}
	}
	return others, nil
}

func (d *dumper) archive(ctx context.Context, s repo.Snapshot, p filearchive.Parts, key *chunkcrypt.Key) (err error) {
	t, err := browse.OpenArchive(ctx, s, p, key, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return d.tree(ctx, string(p.Meta), t)
}

func (d *dumper) tree(ctx context.Context, name string, t *browse.Tree) error {
	top, err := t.Lookup(ctx, "/")
	if err != nil {
		return err
	}
	if err := d.line(name, "", &top); err != nil {
		return err
	}
	return t.Walk(ctx, "/", func(path []byte, e *browse.Entry) error {
		return d.line(name, string(path), e)
	})
}

// dumpEntry is an entry of an archive in JSON.
type dumpEntry struct {
	Archive string `json:"archive"`
	pxarEntry
}

func (d *dumper) line(archive, path string, e *browse.Entry) error {
	var err error
	if d.a.format.IsJSON() {
		err = d.a.format.WriteJSON(d.out, dumpEntry{archive, entryJSON(ui.Path(cmp.Or(path, "/")), e)})
	} else {
		err = dumpLine(d.out, "./"+archive+path, e)
	}
	if err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	return nil
}

// dumpLine writes what a catalog knows of an entry, whatever it comes from.
func dumpLine(w io.Writer, path string, e *browse.Entry) error {
	quoted := strings.ReplaceAll(ui.Path(path), `"`, `\"`)
	if e.Kind != pxar.File {
		_, err := fmt.Fprintf(w, "%c \"%s\"\n", browse.Letter(e.Kind), quoted)
		return err
	}
	_, err := fmt.Fprintf(w, "%c \"%s\" %d %s\n", browse.Letter(e.Kind), quoted, e.Size, time.Unix(e.Mtime.Sec, 0).UTC().Format(time.RFC3339))
	return err
}
