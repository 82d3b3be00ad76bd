package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/daemon"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/spf13/cobra"
)

type mountOptions struct {
	serve mountFlags
	cache string
	key   keyOptions
}

func newMountCommand(a *app) *cobra.Command {
	var o mountOptions
	cmd := &cobra.Command{
		Use:   "mount [SNAPSHOT ARCHIVE TARGET]",
		Short: "Show the files of a backup as a directory",
		Long: `Mounts an archive of a directory on the directory TARGET, through FUSE, and goes
to the background; 'holdfast unmount', umount or fusermount3 -u ends it. Without
arguments the mounted archives are listed.

The files are there at once, whatever the size of the archive: what is read is
fetched when it is read. They have all that was stored of them: owners, modes,
times, links, device numbers, extended attributes and ACLs. Nothing can be
written.

Other users may use it too if root mounts it; permissions are checked as on any
file system. For a user it needs fusermount3, others get in with --allow-other
if /etc/fuse.conf has user_allow_other, and as long as they cannot, the user may
read all files whatever their modes say.

Programs that copy hard links need to see which files have some. For that the
metadata of a split archive, or the catalog, is read first. An archive with
neither would have to be read as a whole: there every file is shown with two
links, unless --count-links is given.

A snapshot cannot be removed while it is mounted.`,
		Example: `  holdfast mount host/web1 root.pxar /mnt
  holdfast mount host/web1/2026-11-22T10:00:00Z root.pxar /mnt --foreground
  holdfast mount ct/101 root.pxar /mnt --id-map-from /etc/pve/lxc/101.conf
  holdfast mount`,
		Args: between(0, 3),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 2 {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return a.completeFileArchives(cmd, args, prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return runMountList(a)
			case 3:
				o.serve.look(cmd)
				return runMount(cmd.Context(), a, args[0], args[1], args[2], o)
			}
			return usagef("an argument is missing: %s", cmd.UseLine())
		},
	}
	o.serve.add(cmd)
	cmd.Flags().StringVar(&o.cache, "cache", "96M", "memory for decoded chunks")
	o.key.readFlags(cmd)
	return cmd
}

func runMount(ctx context.Context, a *app, snapshot, name, dir string, o mountOptions) error {
	cache, err := cacheSize(o.cache)
	if err != nil {
		return err
	}
	where, err := a.identity()
	if err != nil {
		return err
	}
	child := daemon.Inherited()
	if child == nil && !o.serve.foreground {
		code, err := daemon.Background(ctx, a.descriptors(o.key)...)
		if err != nil {
			return err
		}
		return ended(code)
	}
	return a.withSnapshot(ctx, snapshot, func(_ repo.Repository, s repo.Snapshot) (err error) {
		parts, err := fileArchive(s, name)
		if err != nil {
			return err
		}
		files := []names.Archive{parts.Meta, parts.Payload, names.Catalog}
		key, err := a.keyForFiles(ctx, o.key, s, files...)
		if err != nil {
			return err
		}
		// Who uses it may go on when ctx ends: see stopMount.
		f, err := filearchive.Open(context.WithoutCancel(ctx), s, parts, key, archive.NewCache(cache))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		return a.serveMount(ctx, child, dir, mountable{
			archive: f.Archive,
			source:  fmt.Sprintf("%s:%s/%s", where, show(s.Name()), parts.Name()),
			links:   a.linkCounter(s, f, key, o.serve.countLinks),
		}, o.serve)
	})
}
