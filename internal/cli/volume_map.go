package cli

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/volume"
	"github.com/spf13/cobra"
)

type volumeMapOptions struct {
	volume.MapOptions
	scratch string
}

func newVolumeMapCommand(a *app) *cobra.Command {
	var o volumeMapOptions
	cmd := &cobra.Command{
		Use:   "map DEVICE NAME",
		Short: "Map what a volume holds as a device",
		Long: `Makes /dev/mapper/NAME of the part of a volume behind its header. The mapping
lasts until 'holdfast volume unmap' or a reboot; no process stays behind. A volume
that is mapped in that way already is left as it is.

What is written to the mapped device is written to the volume, and its state is
"used" from then on. With --read-only nothing can be written, and with
--throw-away it is kept apart, in a file without a name, and goes with the
mapping: a guest boots from the volume and leaves no trace.

A volume whose restore was interrupted is not mapped.`,
		Example: `  holdfast volume map /dev/vg0/vm-100 virtlet-dm-vm-100
  holdfast volume map /dev/vg0/golden virtlet-dm-try --throw-away`,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVolumeMap(cmd.Context(), a, args[0], args[1], o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.ReadOnly, "read-only", false, "let nothing be written")
	f.BoolVar(&o.ThrowAway, "throw-away", false, "keep what is written apart, and throw it away in the end")
	f.StringVar(&o.ScratchDir, "scratch-dir", "", "with --throw-away: the directory on whose file system it is kept (default: /var/tmp)")
	f.StringVar(&o.scratch, "scratch-size", "", "with --throw-away: how much can be written before the device fails, as 10G (default: all of it)")
	f.DurationVar(&o.Wait, "wait", volume.DefaultWait, "how long to wait for another command that works on the device")
	a.prefixFlag(cmd, &o.Prefix)
	return cmd
}

func runVolumeMap(ctx context.Context, a *app, path, name string, o volumeMapOptions) (err error) {
	switch {
	case o.ReadOnly && o.ThrowAway:
		return usagef("--read-only and --throw-away exclude each other")
	case !o.ThrowAway && o.ScratchDir+o.scratch != "":
		return usagef("--scratch-dir and --scratch-size go with --throw-away")
	}
	if o.scratch != "" {
		if o.ScratchSize, err = ui.ParseSize(o.scratch); err != nil || o.ScratchSize <= 0 {
			return usagef("--scratch-size: %q is no size: write bytes, as 10G", o.scratch)
		}
	}
	o.Prefix, o.Now = a.volumePrefix(o.Prefix), a.Now
	m, err := volume.Map(ctx, path, name, o.MapOptions)
	if err != nil {
		return explainVolume(err)
	}
	return a.print(describeMapping(m), func() error { return a.printf("mapped %s as %s\n", path, m.Node) })
}

// completeVolumes offers what is mapped.
func (a *app) completeVolumes(*cobra.Command, []string, string) (out []string, _ cobra.ShellCompDirective) {
	list, _, err := volume.List(a.volumePrefix(""))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, m := range list {
		out = append(out, cobra.CompletionWithDesc(m.Name, m.Device))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
