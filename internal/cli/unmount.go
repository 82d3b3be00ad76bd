package cli

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/kernel/fusemount"
	"github.com/holdfast-backup/holdfast/internal/mount"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/spf13/cobra"
)

func newUnmountCommand(a *app) *cobra.Command {
	lazy := false
	cmd := &cobra.Command{
		Use:   "unmount DIR...",
		Short: "Take a mounted archive away again",
		Long: `Ends what 'holdfast mount' began; umount, or fusermount3 -u for users other than
root, does the same. A directory in use stays, unless --lazy is given: it is then
out of sight at once and ends with its last user. What was left mounted by a
process that was killed is cleared away.`,
		Example: `  holdfast unmount /mnt
  holdfast unmount --lazy /mnt`,
		Args:              between(1, -1),
		ValidArgsFunction: completeMounts,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runUnmount(cmd.Context(), a, args, lazy)
		},
	}
	cmd.Flags().BoolVar(&lazy, "lazy", false, "take it out of sight although it is in use")
	return cmd
}

func runUnmount(ctx context.Context, a *app, dirs []string, lazy bool) error {
	done := []mountJSON{}
	var errs []error
	for _, dir := range dirs {
		dead, err := mount.Clear(ctx, dir)
		if !dead {
			err = mount.Unmount(ctx, dir, lazy)
		}
		if err != nil {
			errs = append(errs, explainUnmount(err, dir))
			continue
		}
		done = append(done, mountJSON{Path: dir, Dead: dead})
	}
	err := a.print(done, func() error {
		for _, m := range done {
			how := ""
			if m.Dead {
				how = ", which was left by a process that had died"
			}
			if err := a.printf("unmounted %s%s\n", m.Path, how); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

func explainUnmount(err error, dir string) error {
	switch {
	case errors.Is(err, fusemount.ErrBusy):
		return hint(mark(repo.ErrLocked, "%v", err), "end who uses it, or take it out of sight with --lazy")
	case errors.Is(err, mount.ErrNotMounted):
		return hint(mark(repo.ErrNotFound, "%v", err), "'holdfast mount' lists what is mounted")
	}
	return err
}

// completeMounts offers what can be unmounted.
func completeMounts(*cobra.Command, []string, string) (out []string, _ cobra.ShellCompDirective) {
	list, err := mount.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, m := range list {
		out = append(out, cobra.CompletionWithDesc(m.Path, m.Source))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
