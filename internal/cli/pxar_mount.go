package cli

import (
	"context"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/daemon"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/mount"
	"github.com/spf13/cobra"
)

type pxarMountOptions struct {
	in    pxarInput
	serve mountFlags
}

func newPxarMountCommand(a *app) *cobra.Command {
	var o pxarMountOptions
	cmd := &cobra.Command{
		Use:   "mount ARCHIVE MOUNTPOINT",
		Short: "Show the files of an archive as a directory",
		Long: `Mounts an archive file on the directory MOUNTPOINT, through FUSE, and goes to the
background; 'holdfast unmount', umount or fusermount3 -u ends it. What is shown,
and to whom, is as with 'holdfast mount'. Nothing can be written. The archive must
be a file: it is read where somebody looks.`,
		Example: `  holdfast pxar mount home.pxar /mnt
  holdfast pxar mount root.mpxar /mnt --payload-input root.ppxar --foreground`,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.in.archive = args[0]
			o.serve.look(cmd)
			return runPxarMount(cmd.Context(), a, args[1], o)
		},
	}
	o.in.add(cmd)
	o.serve.add(cmd)
	return cmd
}

func runPxarMount(ctx context.Context, a *app, dir string, o pxarMountOptions) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	child := daemon.Inherited()
	if child == nil && !o.serve.foreground {
		code, err := daemon.Background(ctx)
		if err != nil {
			return err
		}
		return ended(code)
	}
	f, err := openPxarFile(o.in)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // was only read
	if f.Version() == 2 && !f.hasPayload {
		return explainPxar(o.in.archive, pxar.ErrNoPayload)
	}
	source, err := filepath.Abs(o.in.archive)
	if err != nil {
		return err
	}
	x := mountable{archive: f.Archive, source: source}
	if o.serve.countLinks.or(true) { // a file is looked through in a moment
		x.links = func(ctx context.Context) (*mount.Links, error) { return mount.CountLinks(ctx, f.Archive) }
	}
	return a.serveMount(ctx, child, dir, x, o.serve)
}
