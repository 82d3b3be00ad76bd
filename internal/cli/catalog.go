package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/browse"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/spf13/cobra"
)

func newCatalogCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "catalog",
		Short: "Look at the files in a snapshot",
		Long: `Shows the names in the file archives of a snapshot without restoring them, and
restores some of them. Names come from the snapshot's catalog where it has one, or
from the archives themselves.`,
		Example: `  holdfast catalog dump host/web1
  holdfast catalog shell host/web1/latest root.pxar`,
	}
	cmd.AddCommand(newCatalogDumpCommand(a), newCatalogShellCommand(a))
	return cmd
}

// fileArchive finds a file archive by the name that a user gave it.
func fileArchive(s repo.Snapshot, name string) (filearchive.Parts, error) {
	all, err := fileArchives(s, "")
	if err != nil {
		return filearchive.Parts{}, err
	}
	p, err := filearchive.Find(s.Manifest(), name)
	switch {
	case errors.Is(err, repo.ErrNotFound):
		var have []string
		for _, p := range all {
			have = append(have, p.Name())
		}
		return p, hint(fmt.Errorf("snapshot %s: %w", show(s.Name()), err), "it has %s", join(have))
	case err != nil:
		return p, usage(err)
	}
	return p, nil
}

// fileArchives are the one that a user named, or all of a snapshot.
func fileArchives(s repo.Snapshot, name string) ([]filearchive.Parts, error) {
	if name != "" {
		p, err := fileArchive(s, name)
		return []filearchive.Parts{p}, err
	}
	all := filearchive.All(s.Manifest())
	if len(all) == 0 {
		return nil, hint(mark(repo.ErrNotFound, "snapshot %s has no file archives", show(s.Name())), "'holdfast snapshot files' lists what it has")
	}
	return all, nil
}

// keyForFiles is the key that these files of a snapshot need.
func (a *app) keyForFiles(ctx context.Context, o keyOptions, s repo.Snapshot, files ...names.Archive) (*chunkcrypt.Key, error) {
	encrypted := false
	for _, name := range files {
		f, ok := s.Manifest().File(string(name))
		encrypted = encrypted || ok && f.CryptMode == manifest.ModeEncrypt
	}
	return a.keyFor(ctx, o, show(s.Name()), s.Manifest(), encrypted)
}

// hasCatalog reports whether the manifest of a snapshot lists one.
func hasCatalog(s repo.Snapshot) bool {
	_, ok := s.Manifest().File(string(names.Catalog))
	return ok
}

// entryJSON is an entry as JSON shows it: without what a catalog does not know.
func entryJSON(path string, e *browse.Entry) pxarEntry {
	if e.File != nil {
		return pxarEntryOf(path, e.File)
	}
	out := pxarEntry{Path: path, Type: e.Kind.String()}
	if e.HasMtime() {
		size := int64(min(e.Size, 1<<63-1))
		out.Size, out.Mtime = &size, &e.Mtime.Sec
	}
	return out
}

func (a *app) completeFileArchives(cmd *cobra.Command, args []string, prefix string) (out []string, _ cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return a.completeSnapshots(cmd, args, prefix)
	case 1:
		a.lookUp(cmd, func(ctx context.Context, r repo.Repository) error {
			name, err := a.snapshot(ctx, r, args[0])
			if err != nil {
				return err
			}
			s, err := r.Open(ctx, name)
			if err != nil {
				return err
			}
			for _, p := range filearchive.All(s.Manifest()) {
				out = append(out, p.Name())
			}
			return s.Close()
		})
	}
	return out, noFiles
}
