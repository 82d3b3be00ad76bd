package cli

import (
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/share"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

type tapeLibraryAddOptions struct {
	capacity, format               string
	worm, writeProtect, unlabelled bool
	uses                           int
}

func newTapeLibraryAddCommand(a *app) *cobra.Command {
	var o tapeLibraryAddOptions
	cmd := &cobra.Command{
		Use:   "add DIRECTORY BARCODE...",
		Short: "Make new cartridges",
		Long: `Makes new cartridges, which take no room until they are written. They go into free
slots; those for which there is none, and those of a library without changer,
lie on the shelf.

The end of a barcode says what the cartridge is, as on real ones: L4 to L9 and
LA are LTO-4 to LTO-10, M8 is LTO-7 written by LTO-8, LU to LZ are WORM of LTO-4
to LTO-9. One that begins with CLN cleans drives.`,
		Example: `  holdfast tape library add /srv/vtl HFT001L8 HFT002L8
  holdfast tape library add /srv/vtl CLN001L8
  holdfast tape library add /srv/vtl SMALL1 --format LTO-8 --capacity 10G`,
		Args: between(2, -1),
		RunE: func(_ *cobra.Command, args []string) error { return runTapeLibraryAdd(a, args[0], args[1:], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.capacity, "capacity", "", "how much fits on each, as 100G (default: as much as on a real one)")
	f.StringVar(&o.format, "format", "", "what they are made for, as LTO-8 (default: as the barcode says)")
	f.BoolVar(&o.worm, "worm", false, "what is written stays")
	f.BoolVar(&o.writeProtect, "write-protect", false, "nothing can be written")
	f.BoolVar(&o.unlabelled, "unlabelled", false, "without a label that the changer could read")
	f.IntVar(&o.uses, "uses", 0, "they clean drives, so many times")
	complete(cmd, "format", func(*cobra.Command, []string, string) (all []string, _ cobra.ShellCompDirective) {
		for _, f := range cartridge.Formats() {
			all = append(all, f.Name)
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

func runTapeLibraryAdd(a *app, dir string, barcodes []string, o tapeLibraryAddOptions) error {
	c := vtl.Cartridge{NoLabel: o.unlabelled, WORM: o.worm, WriteProtect: o.writeProtect, Uses: o.uses}
	var err error
	if o.capacity != "" {
		if c.Capacity, err = ui.ParseSize(o.capacity); err != nil || c.Capacity <= 0 {
			return usagef("--capacity %q is no size", o.capacity)
		}
	}
	if o.format != "" {
		if c.Density, err = cartridge.ParseDensity(o.format); err != nil {
			return usage(err)
		}
	}
	if o.uses < 0 {
		return usagef("--uses %d is negative", o.uses)
	}
	return a.withLibrary(dir, func(op share.Operator) error {
		for _, c.Barcode = range barcodes {
			if err := op.AddCartridge(c); err != nil {
				return err
			}
		}
		return a.print(map[string][]string{"added": barcodes}, func() error {
			return a.printf("%s added\n", plural(len(barcodes), "cartridge"))
		})
	})
}
