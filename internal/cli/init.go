package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type initOptions struct {
	lazy   bool
	bucket bucketInitOptions
}

func newInitCommand(a *app) *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init [DIR|s3://BUCKET/PREFIX]",
		Short: "Create a repository",
		Long: `Creates a repository in a directory or in a bucket, in the one that is named here
or by --repository.

A directory is made if need be; one that exists must be empty, apart from names
that begin with a dot, and lost+found. The layout is that of a Proxmox Backup
Server datastore, with its 65,536 chunk directories, so that such a server can
adopt it later (give it to user and group "backup" then). These directories take
256 MiB on ext4; --lazy makes them only as they are needed, which that server does
not accept.

A bucket exists already; its object store is tested before ('holdfast repository
probe' says more), and refused if several machines could not write there at once.
--skip-probe is for credentials without the right to remove. With
--retention-days, in a bucket with object lock, nothing can be removed for so many
days after it was written or was last needed: in mode governance by nobody but who
has a special right, in mode compliance by nobody at all.

An init that was interrupted is completed by calling it again.`,
		Example: `  holdfast init /mnt/backup
  holdfast init --lazy ~/backups
  holdfast init 's3://backups/vms?endpoint=https://storage.example:9000'
  holdfast init s3://backups/vms --retention-days 30 --retention-mode compliance`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			where, err := initPlace(a, args)
			if err != nil {
				return err
			}
			if where.bucket != nil {
				return runInitBucket(cmd.Context(), a, *where.bucket, o)
			}
			if o.bucket != (bucketInitOptions{}) {
				return usagef("a directory has no --pack-size, --retention-days, --retention-mode and --skip-probe")
			}
			return runInit(cmd.Context(), a, where.dir, o)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	cmd.Flags().BoolVar(&o.lazy, "lazy", false, "make chunk directories only as they are needed")
	o.bucket.register(cmd)
	return cmd
}

// initPlace is where the repository is to be: a name that could be a server's is a
// directory here.
func initPlace(a *app, args []string) (l location, err error) {
	switch {
	case len(args) == 0:
		if l, err = a.location(); err == nil && l.onServer() {
			err = usagef("init is for directories and buckets, and %s is on a server", l)
		}
	case s3.IsAddress(args[0]):
		l, err = parseLocation(args[0])
	default:
		if l.dir = strings.TrimPrefix(args[0], "dir:"); l.dir == "" {
			err = usage(errors.New("the directory's name is empty"))
		}
	}
	return l, err
}

func runInit(ctx context.Context, a *app, path string, o initOptions) error {
	create := datastore.CreateOptions{Lazy: o.lazy}
	if ui.IsTerminal(a.Stderr) || a.progress { // it takes a second: nothing for a log
		m := a.meter("init", ui.Items)
		create.Progress = func(done, total int) { m.Update(int64(done), int64(total), "chunk directories made") }
		defer m.Done(true)
	}
	if err := a.Create(ctx, path, create); err != nil {
		return err
	}
	return a.initDone(path)
}

func (a *app) initDone(where string) error {
	return a.print(map[string]string{"repository": where}, func() error {
		return a.printf("repository created in %s\n", where)
	})
}
