package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance"
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

func newFileRestoreApplianceCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "appliance",
		Short: "Show and build what a restore machine is made of",
		Long: `A restore machine is made of a kernel package of Debian that is installed here
or lies in the cache, its modules, this program, and lvm where it is installed.
It is put together in memory at each start, in a fraction of a second.`,
		Example: `  holdfast file-restore appliance info`,
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "info", Short: "Show what a restore machine would be made of", Args: exactly(0),
			Long: `Shows which kernel a restore machine would have, and which programs of this host
go into it.`,
			Example: `  holdfast file-restore appliance info
  holdfast file-restore appliance info --output-format json`,
			RunE: func(*cobra.Command, []string) error { return runAppliance(a, "") },
		},
		&cobra.Command{
			Use: "build FILE", Short: "Write the machine's file system to a file", Args: exactly(1),
			Long: `Writes the initial RAM file system of a restore machine, a cpio archive, to look
at it or to start it by other means.`,
			Example: `  holdfast file-restore appliance build initrd.img`,
			RunE:    func(_ *cobra.Command, args []string) error { return runAppliance(a, args[0]) },
		},
	)
	return cmd
}

func runAppliance(a *app, file string) error {
	self, err := vm.Self()
	if err != nil {
		return err
	}
	c, err := self.Config()
	if err != nil {
		return explainMachine(err)
	}
	type out struct {
		Kernel  string   `json:"kernel"`
		Image   string   `json:"image"`
		Modules []string `json:"modules"`
		Tools   []string `json:"tools"`
		Size    int64    `json:"size"`
		File    string   `json:"file,omitempty"`
		Lacks   string   `json:"lacks,omitempty"`
	}
	o := out{Kernel: c.Kernel.Version, Image: c.Kernel.Image, Modules: c.Later, Tools: c.Tools, File: file}
	if err := vm.Possible(); err != nil {
		o.Lacks = err.Error()
	}
	if file == "" {
		o.Size, err = c.WriteInitrd(io.Discard)
	} else {
		o.Size, err = writeAppliance(c, file)
	}
	if err != nil {
		return err
	}
	return a.print(o, func() error {
		t := fmt.Sprintf("kernel       %s (%s)\nmodules      %s\ntools        %s\nfile system  %s\n", o.Kernel, o.Image, strings.Join(o.Modules, " "), strings.Join(o.Tools, " "), ui.Size(o.Size))
		if file != "" {
			t += "written to   " + file + "\n"
		}
		if o.Lacks != "" {
			t += "lacks        " + o.Lacks + "\n"
		}
		return a.printf("%s", t)
	})
}

func writeAppliance(c appliance.Config, file string) (n int64, err error) {
	f, err := createFile(file, false)
	if err != nil {
		return 0, err
	}
	defer f.Drop()
	if n, err = c.WriteInitrd(f); err != nil {
		return n, err
	}
	return n, f.Finish()
}

// explainMachine adds what to install.
func explainMachine(err error) error {
	if errors.Is(err, appliance.ErrNoQEMU) || errors.Is(err, appliance.ErrNoKernel) {
		return hint(err, "'holdfast file-restore appliance info' shows what there is; --driver direct does without")
	}
	return err
}
