package cli

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-backup/holdfast/internal/mapping"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/spf13/cobra"
)

type unmapOptions struct {
	all   bool
	force bool
	wait  time.Duration
}

func newUnmapCommand(a *app) *cobra.Command {
	var o unmapOptions
	cmd := &cobra.Command{
		Use:   "unmap [DEVICE-OR-NAME...]",
		Short: "Take mapped devices away again",
		Long: `Ends mappings and returns when they are gone. A mapping is named by its device or
a partition of it, the number of its loop device, its socket or file, its id, or
its name; of a name the end is enough, if only one mapping has it.

A device that is mounted, or that another process has open, stays, and it is
said who uses it; --force takes it away all the same, and its users get errors.
Devices that 'holdfast map' did not make are refused.

Without arguments, what is left of mappings whose process died is cleared away,
and the rest is listed.`,
		Example: `  holdfast unmap /dev/loop0
  holdfast unmap drive-scsi0.img
  holdfast unmap --all
  holdfast unmap`,
		ValidArgsFunction: a.completeMappings,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runUnmap(cmd.Context(), a, args, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "end all mappings of this user")
	f.BoolVar(&o.force, "force", false, "take devices away from who uses them")
	f.DurationVar(&o.wait, "wait", 10*time.Second, "how long to wait for each to be gone")
	return cmd
}

func runUnmap(ctx context.Context, a *app, args []string, o unmapOptions) error {
	switch {
	case o.all && len(args) > 0:
		return usagef("--all and names exclude each other")
	case !o.all && len(args) == 0:
		return a.cleanMappings(ctx)
	case o.all:
		args = []string{""}
	}
	done := []mapping.Record{}
	var errs []error
	for _, which := range args {
		gone, err := mapping.Unmap(ctx, "", which, mapping.UnmapOptions{Force: o.force, All: o.all, Wait: o.wait})
		done = append(done, gone...)
		errs = append(errs, explainUnmap(err))
	}
	err := a.print(done, func() error {
		for _, r := range done {
			if err := a.printf("unmapped %s (%s)\n", r.Target(), r.Name); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

// explainUnmap gives errors their exit code and adds what to do.
func explainUnmap(err error) error {
	if err == nil {
		return nil
	}
	if _, busy := errors.AsType[*mapping.BusyError](err); busy {
		return hint(mark(repo.ErrLocked, "%v", err), "unmount it or end who uses it; --force takes it away, and they get errors")
	}
	if _, many := errors.AsType[*mapping.AmbiguousError](err); many {
		return usage(err)
	}
	if errors.Is(err, mapping.ErrNotMapped) {
		return hint(mark(repo.ErrNotFound, "%v", err), "'holdfast map' lists what is mapped")
	}
	return err
}

// cleanMappings is unmap without arguments, as the existing client has it.
func (a *app) cleanMappings(ctx context.Context) error {
	cleared, err := mapping.Cleanup(ctx, "")
	for _, r := range cleared {
		a.say("cleared away what was left of %s", r.Name)
	}
	if err != nil {
		return err
	}
	list, err := mapping.List(ctx, "")
	if err != nil {
		return err
	}
	if list == nil {
		list = []mapping.Status{}
	}
	return a.print(list, func() error {
		for _, m := range list {
			if err := a.printf("%s:\t%s\n", m.Target(), m.Name); err != nil {
				return err
			}
		}
		if len(list) == 0 {
			return a.printf("Nothing mapped.\n")
		}
		return nil
	})
}

// completeMappings offers what can be unmapped.
func (a *app) completeMappings(cmd *cobra.Command, _ []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	list, err := mapping.List(cmd.Context(), "")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, m := range list {
		out = append(out, cobra.CompletionWithDesc(m.Target(), m.Name))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
