package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast/internal/filerestore/vm"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newFileRestoreStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "List the restore machines that run",
		Long: `Lists the restore machines of this user: for each its name, how it runs, how long,
and when it ends unless somebody uses it. Asking for it is no use.`,
		Example: `  holdfast file-restore status
  holdfast file-restore status --output-format json`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runFileStatus(cmd.Context(), a) },
	}
}

func runFileStatus(ctx context.Context, a *app) error {
	list, err := vm.List(ctx, "")
	if err != nil {
		return err
	}
	return a.print(list, func() error {
		if len(list) == 0 {
			return a.printf("No restore machine runs.\n")
		}
		t := ui.Table{Columns: []ui.Column{
			{Title: "NAME"},
			{Title: "PID", Align: ui.Right},
			{Title: "DISKS", Align: ui.Right},
			{Title: "MEMORY", Align: ui.Right},
			{Title: "RUNS"},
			{Title: "SINCE", Align: ui.Right},
			{Title: "ENDS IN", Align: ui.Right},
			{Title: "STATE"},
		}}
		for _, m := range list {
			state := "answers"
			memory, ends := ui.Size(int64(m.Memory)<<20), seconds(m.Timeout)
			switch {
			case m.Error != "":
				state = m.Error
			case m.Starting:
				state, memory, ends = "starts", "", ""
			}
			t.Add(m.Name, strconv.Itoa(m.PID), strconv.Itoa(m.Disks), memory, m.Accel, seconds(m.Uptime), ends, state)
		}
		return a.table(&t)
	})
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}

func newFileRestoreStopCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "stop NAME",
		Short: "End a restore machine",
		Long: `Ends the restore machine with this name, as 'file-restore status' shows it, or
all of them with "all". What is being fetched from it breaks off.`,
		Example: `  holdfast file-restore status
  holdfast file-restore stop all`,
		Args: exactly(1),
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			names, _ := vm.Names(cmd.Context(), "")
			return append(names, "all"), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runFileStop(cmd.Context(), a, args[0]) },
	}
}

func runFileStop(ctx context.Context, a *app, name string) error {
	names := []string{name}
	if name == "all" {
		var err error
		if names, err = vm.Names(ctx, ""); err != nil {
			return err
		}
	}
	for _, n := range names {
		ok, err := vm.Stop(ctx, "", n)
		if err == nil && !ok {
			err = hint(mark(repo.ErrNotFound, "no restore machine is named %q", n), "'holdfast file-restore status' shows those that run")
		}
		if err != nil {
			return err
		}
		a.say("restore machine %s ended", n)
	}
	return nil
}
