package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/config"
	"github.com/holdfast-backup/holdfast/internal/tape/device"
	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

// newTapeQuestions are the commands that ask a drive.
func newTapeQuestions(a *app, o *tapeOptions) []*cobra.Command {
	ask := func(use, short, long string, work func(*cobra.Command, *device.LTO) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Long: long, Example: "  holdfast tape " + use, Args: exactly(0),
			RunE: func(cmd *cobra.Command, _ []string) error {
				return o.withLTO(cmd, a, func(d *device.LTO) error { return work(cmd, d) })
			},
		}
	}
	return []*cobra.Command{
		ask("status", "Show the state of the drive and its medium",
			`Asks the drive for its state, its options and what it knows of the medium. It
does not wait for one.`,
			func(cmd *cobra.Command, d *device.LTO) error {
				st, err := d.Status(cmd.Context())
				if err != nil {
					return err
				}
				return a.printFields(st)
			}),
		ask("cartridge-memory", "Show what the memory of the cartridge says",
			`Reads the attributes in the memory of the cartridge in the drive (MAM).`,
			func(_ *cobra.Command, d *device.LTO) error { return runTapeMemory(a, d) }),
		ask("volume-statistics", "Show what the drive has counted of the medium",
			`Asks the drive for its counters of the medium (log page 17h).`,
			func(_ *cobra.Command, d *device.LTO) error {
				v, err := d.Volume()
				if err != nil {
					return err
				}
				return a.printFields(v)
			}),
		{
			Use: "eod", Short: "Wind to the end of the data",
			Long: `Winds the medium in the drive to the end of the data, and shows how many files
it has.`,
			Example: `  holdfast tape eod`, Args: exactly(0),
			RunE: func(cmd *cobra.Command, _ []string) error {
				return o.withWorld(cmd.Context(), a, func(_ *tapeSite, w *job.World) error {
					d, err := w.Station.Open(cmd.Context())
					if err != nil {
						return err
					}
					n, err := d.EndOfData(cmd.Context())
					if err = errors.Join(err, d.Close()); err != nil {
						return err
					}
					return a.print(map[string]uint64{"files": n}, func() error { return a.printf("%s\n", plural(int64(n), "file")) })
				})
			},
		},
		{
			Use: "scan", Short: "List drives and changers that are connected",
			Long:    `Lists the tape drives and changers that are connected to this machine.`,
			Example: `  holdfast tape scan`, Args: exactly(0),
			RunE: func(*cobra.Command, []string) error { return runTapeScan(a, scsi.TypeTape, scsi.TypeChanger) },
		},
	}
}

// ltoDrive is the drive that the options name, which is no directory.
func (o *tapeOptions) ltoDrive(a *app, s *tapeSite) (config.DriveConfig, error) {
	name, err := o.driveName(a, s.config)
	if err != nil {
		return config.DriveConfig{}, err
	}
	c, err := s.config.Drive(name)
	if err == nil && c.Virtual {
		err = fmt.Errorf("drive %s is a directory and has no such thing: %w", name, tape.ErrUnsupported)
	}
	return c, err
}

// withLTO opens the drive whatever its state.
func (o *tapeOptions) withLTO(cmd *cobra.Command, a *app, work func(*device.LTO) error) error {
	return o.withState(a, func(s *tapeSite) error {
		c, err := o.ltoDrive(a, s)
		if err != nil {
			return err
		}
		d, err := s.opener.LTO(cmd.Context(), c.Path, c.Changer != "")
		if err != nil {
			return err
		}
		return errors.Join(work(d), d.Close())
	})
}

// printFields prints the members of a value in their order.
func (a *app) printFields(v any) error {
	return a.print(v, func() error {
		js, err := json.Marshal(v)
		if err != nil {
			return err
		}
		fields, err := ordered(js)
		if err != nil {
			return err
		}
		width := 0
		for _, f := range fields {
			width = max(width, len(f[0]))
		}
		for _, f := range fields {
			if err := a.printf("%-*s  %s\n", width, f[0], f[1]); err != nil {
				return err
			}
		}
		return nil
	})
}

// ordered lists the members of an object with their values as text.
func ordered(js []byte) (list [][2]string, err error) {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(js, &values); err != nil {
		return nil, err
	}
	for key, raw := range values {
		text := string(raw)
		var s string
		if json.Unmarshal(raw, &s) == nil {
			text = s
		}
		list = append(list, [2]string{key, text})
	}
	slices.SortFunc(list, func(a, b [2]string) int { return slices.Compare(a[:1], b[:1]) })
	return list, nil
}

// attributeJSON is an attribute of a cartridge, with the fields of the calls of PBS.
type attributeJSON struct {
	ID    int    `json:"id"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

func runTapeMemory(a *app, d *device.LTO) error {
	list, odd, err := d.Memory()
	if err != nil {
		return err
	}
	for _, o := range odd {
		a.warn("%s", o)
	}
	out := []attributeJSON{}
	t := ui.Table{Columns: []ui.Column{{Title: "ID"}, {Title: "NAME"}, {Title: "VALUE"}}}
	for _, m := range list {
		one := attributeJSON{int(m.ID), m.Name, m.Value}
		out = append(out, one)
		t.Add(fmt.Sprintf("%04x", one.ID), one.Name, one.Value)
	}
	return a.print(out, func() error { return a.table(&t) })
}
