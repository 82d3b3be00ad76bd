package cli

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/share"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/spf13/cobra"
)

func newTapeLibraryCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "library",
		Short: "Virtual tape libraries in directories",
		Long: `A virtual tape library is a directory with drives, slots and cartridges that take
the commands of real ones. It serves disks that are to be used as tapes, and
try-outs of everything that can be done with tapes.

Drives and changer are named DIRECTORY/drive0, DIRECTORY/changer and so on. One
process at a time has a library open; where several are to use it, or programs
that know devices only, 'holdfast tape library serve' serves it. A cartridge that
is in no slot lies on the shelf.`,
		Example: `  holdfast tape library create /srv/vtl --generation 8 --drives 2 --slots 24
  holdfast tape library add /srv/vtl HFT001L8 HFT002L8 CLN001L8 --capacity 100G
  holdfast tape library list /srv/vtl
  holdfast tape library export /srv/vtl HFT001L8`,
	}
	one := func(use, short, long string, do func(o share.Operator, name string) error) *cobra.Command {
		return &cobra.Command{
			Use:     use + " DIRECTORY BARCODE...",
			Short:   short,
			Long:    long,
			Example: "  holdfast tape library " + use + " /srv/vtl HFT001L8",
			Args:    between(2, -1),
			RunE: func(_ *cobra.Command, args []string) error {
				return a.withLibrary(args[0], func(o share.Operator) error {
					for _, name := range args[1:] {
						if err := do(o, name); err != nil {
							return err
						}
					}
					return nil
				})
			},
		}
	}
	cmd.AddCommand(
		newTapeLibraryCreateCommand(a), newTapeLibraryAddCommand(a), newTapeLibraryListCommand(a),
		one("import", "Put cartridges from the shelf into the station",
			`Puts cartridges from the shelf into the import and export station of the library,
as a person does. From there the changer takes them.`, share.Operator.Import),
		one("export", "Take cartridges out and put them on the shelf",
			`Takes cartridges out of the station, or out of their slots, and puts them on the
shelf. One that is in a drive has to be unloaded before.`, share.Operator.Export),
		one("delete", "Delete cartridges that lie on the shelf",
			`Deletes cartridges that lie on the shelf, with all that is written on them.`, share.Operator.Delete),
		newTapeLibraryInsertCommand(a), newTapeLibraryEjectCommand(a), newTapeLibraryServeCommand(a),
	)
	return cmd
}

// withLibrary opens a virtual library for a person's work.
func (a *app) withLibrary(dir string, job func(o share.Operator) error) (err error) {
	o, err := share.Open(dir)
	if err != nil {
		return explainLibrary(err)
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	return job(o)
}

// explainLibrary gives the errors of opening a library their exit codes.
func explainLibrary(err error) error {
	switch {
	case errors.Is(err, vfs.ErrLocked):
		return hint(mark(repo.ErrLocked, "%v", err), "wait until it is done, or let 'holdfast tape library serve' have it open")
	case errors.Is(err, os.ErrNotExist):
		return hint(mark(repo.ErrNotFound, "%v", err), "'holdfast tape library create' makes one")
	}
	return err
}

type tapeLibraryCreateOptions struct {
	generation, drives, slots, station int
	hp                                 bool
}

func newTapeLibraryCreateCommand(a *app) *cobra.Command {
	var o tapeLibraryCreateOptions
	cmd := &cobra.Command{
		Use:   "create DIRECTORY",
		Short: "Make a virtual tape library",
		Long: `Makes a virtual tape library in a directory, which is made too if it is missing.
With --slots 0 it has no changer, and people put cartridges into the drives.

library.json in the directory says what it is made of. There one can change what
is not an option here: serial numbers, how long things take, and habits of other
drives and changers.`,
		Example: `  holdfast tape library create /srv/vtl
  holdfast tape library create /srv/vtl --generation 9 --drives 4 --slots 100 --station 4`,
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error { return runTapeLibraryCreate(a, args[0], o) },
	}
	f := cmd.Flags()
	f.IntVar(&o.generation, "generation", 8, "of the drives: LTO-4 to LTO-10")
	f.IntVar(&o.drives, "drives", 1, "number of drives")
	f.IntVar(&o.slots, "slots", 20, "number of slots")
	f.IntVar(&o.station, "station", 2, "number of places for import and export")
	f.BoolVar(&o.hp, "hp", false, "the drives play those of HP, not of IBM")
	return cmd
}

func runTapeLibraryCreate(a *app, dir string, o tapeLibraryCreateOptions) error {
	switch {
	case o.generation < 4 || o.generation > 10:
		return usagef("--generation %d does not lie between 4 and 10", o.generation)
	case o.drives < 1 || o.slots < 0 || o.station < 0:
		return usagef("a library needs a drive, and no number of slots is negative")
	}
	cfg := vtl.Default(o.generation, o.drives, o.slots)
	if o.slots > 0 {
		cfg.Changer.ImportExport = o.station
	}
	for i := range cfg.Drives {
		cfg.Drives[i].HP = o.hp
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	if err := vtl.Create(dir, cfg); err != nil {
		return err
	}
	return a.print(cfg, func() error {
		return a.printf("tape library %s created: %s of LTO-%d, %s\n", dir, plural(o.drives, "drive"), o.generation, plural(o.slots, "slot"))
	})
}

// cartridgeJSON is a cartridge as --output-format json shows it.
type cartridgeJSON struct {
	Name         string `json:"name"`
	Barcode      string `json:"barcode,omitempty"`
	Place        string `json:"place"`
	Format       string `json:"format"`
	Capacity     int64  `json:"capacity"`
	Loads        uint64 `json:"loads"`
	Written      int64  `json:"written"`
	Read         int64  `json:"read"`
	WORM         bool   `json:"worm"`
	WriteProtect bool   `json:"write-protect"`
	Cleaning     bool   `json:"cleaning"`
	UsesLeft     int    `json:"uses-left,omitempty"`
	Damage       string `json:"damage,omitempty"` // why it cannot be used
}

func newTapeLibraryListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list DIRECTORY",
		Short: "List the cartridges of a virtual tape library",
		Long: `Lists the cartridges with the places where they are. What was written and read is
counted when a cartridge leaves a drive.`,
		Example: `  holdfast tape library list /srv/vtl`,
		Args:    exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.withLibrary(args[0], a.listCartridges)
		},
	}
}

func (a *app) listCartridges(o share.Operator) error {
	list, err := o.Cartridges()
	if err != nil {
		return err
	}
	all := []cartridgeJSON{}
	t := ui.Table{Columns: []ui.Column{
		{Title: "CARTRIDGE"},
		{Title: "PLACE"},
		{Title: "FORMAT"},
		{Title: "KIND"},
		{Title: "CAPACITY", Align: ui.Right},
		{Title: "WRITTEN", Align: ui.Right},
		{Title: "LOADS", Align: ui.Right},
	}}
	for _, c := range list {
		m := c.Memory
		all = append(all, cartridgeJSON{
			Name: c.Name, Barcode: m.Barcode, Place: c.Place, Format: m.Density.String(), Capacity: m.Capacity, Loads: m.Loads,
			Written: m.Written, Read: m.Read, WORM: m.WORM, WriteProtect: m.WriteProtect, Cleaning: m.Cleaning, UsesLeft: m.Uses,
			Damage: c.Damage,
		})
		if c.Damage != "" {
			a.warn("cartridge %s cannot be used: %s", c.Name, c.Damage)
			t.Add(c.Name, c.Place, "-", "damaged", "-", "-", "-")
			continue
		}
		kind, capacity := "data", ui.Rough(m.Capacity)
		switch {
		case m.Cleaning:
			kind, capacity = "cleaning, "+plural(m.Uses, "use")+" left", "-"
		case m.WORM:
			kind = "WORM"
		case m.WriteProtect:
			kind = "data, protected"
		}
		t.Add(c.Name, c.Place, m.Density.String(), kind, capacity, ui.Rough(m.Written), strconv.FormatUint(m.Loads, 10))
	}
	return a.print(all, func() error { return a.table(&t) })
}

func newTapeLibraryInsertCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "insert DIRECTORY DRIVE BARCODE",
		Short: "Put a cartridge into a drive of a library without changer",
		Long: `Puts a cartridge from the shelf into a drive, from 0, as a person does. A library
with a changer does that by itself.`,
		Example: `  holdfast tape library insert /srv/vtl 0 HFT001L8`,
		Args:    exactly(3),
		RunE: func(_ *cobra.Command, args []string) error {
			n, err := driveNumber(args[1])
			if err != nil {
				return err
			}
			return a.withLibrary(args[0], func(o share.Operator) error { return o.Insert(n, args[2]) })
		},
	}
}

func newTapeLibraryEjectCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "eject DIRECTORY DRIVE",
		Short:   "Take a cartridge out of a drive of a library without changer",
		Long:    `Takes a cartridge out of a drive, from 0, and puts it on the shelf.`,
		Example: `  holdfast tape library eject /srv/vtl 0`,
		Args:    exactly(2),
		RunE: func(_ *cobra.Command, args []string) error {
			n, err := driveNumber(args[1])
			if err != nil {
				return err
			}
			return a.withLibrary(args[0], func(o share.Operator) error { return o.Eject(n) })
		},
	}
}

func driveNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, usage(fmt.Errorf("%q is no number of a drive: they count from 0", s))
	}
	return n, nil
}
