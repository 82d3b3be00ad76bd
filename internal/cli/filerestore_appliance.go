package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/filerestore/vm"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

// applianceOptions say for what a restore machine's file system is.
type applianceOptions struct {
	file   string // to write; "": none
	arch   string
	kernel string
}

func newFileRestoreApplianceCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "appliance",
		Short: "Show and build what a restore machine is made of",
		Long: `A restore machine is made of a kernel package of Debian that is installed here
or lies in the cache, its modules, a small program of Holdfast, and lvm where it
is installed. It is put together in memory at each start, in a fraction of a
second.`,
		Example: `  holdfast file-restore appliance info`,
	}
	cmd.AddCommand(newApplianceInfoCommand(a), newApplianceBuildCommand(a))
	return cmd
}

func (o *applianceOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.arch, "arch", "", "kind of processor, amd64 or arm64 (default: that of this program)")
	f.StringVar(&o.kernel, "kernel", "", "package file of a kernel (linux-image-*.deb), or an image file /boot/vmlinuz-VERSION (default: what is found)")
	complete(cmd, "arch", cobra.FixedCompletions([]string{"amd64", "arm64"}, cobra.ShellCompDirectiveNoFileComp))
}

func newApplianceInfoCommand(a *app) *cobra.Command {
	var o applianceOptions
	cmd := &cobra.Command{
		Use: "info", Short: "Show what a restore machine would be made of", Args: exactly(0),
		Long: `Shows which kernel a restore machine would have, and which programs of this host
go into it.`,
		Example: `  holdfast file-restore appliance info
  holdfast file-restore appliance info --output-format json`,
		RunE: func(*cobra.Command, []string) error { return runAppliance(a, o) },
	}
	o.flags(cmd)
	return cmd
}

func newApplianceBuildCommand(a *app) *cobra.Command {
	var o applianceOptions
	cmd := &cobra.Command{
		Use: "build FILE", Short: "Write the machine's file system to a file", Args: exactly(1),
		Long: `Writes the initial RAM file system of a restore machine, a cpio archive, to look
at it or to start it by other means. A kernel package that was given, or found in
the cache, is unpacked there.`,
		Example: `  holdfast file-restore appliance build initrd.img
  holdfast file-restore appliance build initrd.img --arch arm64 --kernel linux-image-6.1.0-57-cloud-arm64_6.1.192-3_arm64.deb`,
		RunE: func(_ *cobra.Command, args []string) error {
			o.file = args[0]
			return runAppliance(a, o)
		},
	}
	o.flags(cmd)
	return cmd
}

func runAppliance(a *app, o applianceOptions) error {
	made, err := vm.For(o.arch)
	if err != nil {
		return err
	}
	made.Kernel.Path = o.kernel
	c, err := made.Config()
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
	r := out{Kernel: c.Kernel.Version, Image: c.Kernel.Image, Modules: c.Later, Tools: c.Tools, File: o.file}
	if err := appliance.HaveQEMU(o.arch, ""); err != nil {
		r.Lacks = err.Error()
	}
	if o.file == "" {
		r.Size, err = c.WriteInitrd(io.Discard)
	} else {
		r.Size, err = writeAppliance(c, o.file)
	}
	if err != nil {
		return err
	}
	return a.print(r, func() error {
		t := fmt.Sprintf("kernel       %s (%s)\nmodules      %s\n", r.Kernel, r.Image, strings.Join(r.Modules, " "))
		if len(r.Tools) > 0 {
			t += "tools        " + strings.Join(r.Tools, " ") + "\n"
		}
		t += "file system  " + ui.Size(r.Size) + "\n"
		if r.File != "" {
			t += "written to   " + r.File + "\n"
		}
		if r.Lacks != "" {
			t += "lacks        " + r.Lacks + "\n"
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
