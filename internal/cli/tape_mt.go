package cli

import (
	"context"
	"errors"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape/device"
	"github.com/holdfast-backup/holdfast/internal/tape/lto"
	"github.com/spf13/cobra"
)

// The names under which this program is the tools for single commands to drives and
// changers.
const (
	mtProgram  = "pmt"
	mtxProgram = "pmtx"
)

// mtVerb is a command to a drive.
type mtVerb struct {
	use, short string
	wait       bool // the medium has to be ready
	do         func(ctx context.Context, d *device.LTO, n int64) error
}

// mtVerbs are those that say nothing but whether they worked. A number is that of
// files or blocks, 1 without it.
func mtVerbs() []mtVerb {
	files := func(ctx context.Context, d *device.LTO, steps ...int64) error {
		for _, n := range steps {
			if err := d.SpaceFiles(ctx, n); err != nil {
				return err
			}
		}
		return nil
	}
	return []mtVerb{
		{"asf FILE", "Go to the beginning of a file, counted from 0", true, func(ctx context.Context, d *device.LTO, n int64) error {
			return d.Locate(ctx, uint64(n))
		}},
		{"fsf [COUNT]", "Go over filemarks, to the beginning of a file", true, func(ctx context.Context, d *device.LTO, n int64) error { return files(ctx, d, n) }},
		{"bsf [COUNT]", "Go back over filemarks, to the end of a file", true, func(ctx context.Context, d *device.LTO, n int64) error { return files(ctx, d, -n) }},
		{"fsfm [COUNT]", "Go over filemarks, and back before the last", true, func(ctx context.Context, d *device.LTO, n int64) error { return files(ctx, d, n, -1) }},
		{"bsfm [COUNT]", "Go back over filemarks, and over the last again", true, func(ctx context.Context, d *device.LTO, n int64) error { return files(ctx, d, -n, 1) }},
		{"fsr [COUNT]", "Go over blocks", true, func(ctx context.Context, d *device.LTO, n int64) error { return d.SpaceBlocks(ctx, n) }},
		{"bsr [COUNT]", "Go back over blocks", true, func(ctx context.Context, d *device.LTO, n int64) error { return d.SpaceBlocks(ctx, -n) }},
		{"weof [COUNT]", "Write filemarks", true, func(ctx context.Context, d *device.LTO, n int64) error {
			for range n {
				if _, err := d.WriteFilemark(); err != nil {
					return err
				}
			}
			return d.Sync(ctx)
		}},
		{"eod", "Go to the end of the data", true, func(ctx context.Context, d *device.LTO, _ int64) error {
			_, err := d.EndOfData(ctx)
			return err
		}},
		{"rewind", "Wind to the beginning", true, func(ctx context.Context, d *device.LTO, _ int64) error { return d.Rewind(ctx) }},
		{"load", "Take in the medium that lies in the drive", false, func(ctx context.Context, d *device.LTO, _ int64) error { return d.Load(ctx) }},
		{"eject", "Give the medium out", false, func(ctx context.Context, d *device.LTO, _ int64) error { return d.Eject(ctx) }},
		{"lock", "Keep the medium in the drive", false, func(_ context.Context, d *device.LTO, _ int64) error { return d.Drive.Lock(true) }},
		{"unlock", "Let the medium go", false, func(_ context.Context, d *device.LTO, _ int64) error { return d.Drive.Lock(false) }},
	}
}

// newMtCommand is the tool for single commands to a drive.
func newMtCommand(a *app, o *tapeOptions) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "mt", Short: "Single commands to a drive, as mt has them",
		Long: `Sends single commands to a drive: --drive names one that is configured, --device
the path of any. Whoever moves a medium that a backup writes to does no harm:
each begins behind the end of the data.

Called by the name pmt, as through a symbolic link, the program is this command.`,
		Example: `  holdfast tape mt status
  holdfast tape mt fsf 2 --device /dev/sg3`,
	}
	cmd.PersistentFlags().StringVar(&path, "device", "", "path of the drive's device, instead of one that is configured")
	on := func(cmd *cobra.Command, wait bool, work func(*device.LTO) error) error {
		return o.onDevice(cmd.Context(), a, path, wait, work)
	}
	for _, v := range mtVerbs() {
		name := firstWord(v.use)
		low, high := 0, 1
		switch v.use {
		case name:
			high = 0
		case "asf FILE":
			low = 1
		}
		cmd.AddCommand(&cobra.Command{
			Use: v.use, Short: v.short, Long: v.short + ".", Example: "  holdfast tape mt " + name + map[bool]string{true: " 1"}[high > 0], Args: between(low, high),
			RunE: func(cmd *cobra.Command, args []string) error {
				n := int64(1)
				if len(args) > 0 {
					var err error
					if n, err = strconv.ParseInt(args[0], 10, 32); err != nil || n < 0 || n == 0 && low == 0 {
						return usagef("%q is no number for %s", args[0], name)
					}
				}
				return on(cmd, v.wait, func(d *device.LTO) error { return v.do(cmd.Context(), d, n) })
			},
		})
	}
	cmd.AddCommand(newMtErase(on, "erase", "Erase from the present position on", func(ctx context.Context, d *device.LTO, fast bool) error { return d.Erase(ctx, fast) }))
	cmd.AddCommand(newMtErase(on, "format", "Make the medium empty", func(ctx context.Context, d *device.LTO, fast bool) error { return d.Format(ctx, fast) }))
	cmd.AddCommand(newMtQuestions(a, on)...)
	cmd.AddCommand(newMtOptions(on))
	return cmd
}

// onDevice opens a drive by its path, or the one that the options name.
func (o *tapeOptions) onDevice(ctx context.Context, a *app, path string, wait bool, work func(*device.LTO) error) error {
	return o.withState(a, func(s *tapeSite) error {
		if path == "" {
			c, err := o.ltoDrive(a, s)
			if err != nil {
				return err
			}
			path = c.Path
		}
		d, err := s.opener.LTO(ctx, path, false)
		if err != nil {
			return err
		}
		if wait {
			err = d.Ready(ctx)
		}
		if err == nil {
			err = work(d)
		}
		return errors.Join(err, d.Close())
	})
}

// withDrive is how commands of mt reach their drive.
type withDrive func(cmd *cobra.Command, wait bool, work func(*device.LTO) error) error

func newMtErase(on withDrive, use, short string, do func(context.Context, *device.LTO, bool) error) *cobra.Command {
	var fast bool
	cmd := &cobra.Command{
		Use: use, Short: short, Long: short + ". Without --fast all of it is overwritten, which\ntakes hours on real media.",
		Example: "  holdfast tape mt " + use + " --fast", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return on(cmd, true, func(d *device.LTO) error { return do(cmd.Context(), d, fast) })
		},
	}
	cmd.Flags().BoolVar(&fast, "fast", false, "leave old data behind the new end of the data")
	return cmd
}

// newMtQuestions are the commands that ask.
func newMtQuestions(a *app, on withDrive) []*cobra.Command {
	ask := func(use, short string, work func(context.Context, *device.LTO) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Long: short + ".", Example: "  holdfast tape mt " + use, Args: exactly(0),
			RunE: func(cmd *cobra.Command, _ []string) error {
				return on(cmd, false, func(d *device.LTO) error { return work(cmd.Context(), d) })
			},
		}
	}
	return []*cobra.Command{
		ask("status", "Show the state of the drive and its medium", func(ctx context.Context, d *device.LTO) error {
			st, err := d.Status(ctx)
			if err != nil {
				return err
			}
			return a.printFields(st)
		}),
		ask("cartridge-memory", "Show what the memory of the cartridge says", func(_ context.Context, d *device.LTO) error { return runTapeMemory(a, d) }),
		ask("volume-statistics", "Show what the drive has counted of the medium", func(_ context.Context, d *device.LTO) error {
			v, err := d.Volume()
			if err != nil {
				return err
			}
			return a.printFields(v)
		}),
		ask("tape-alert-flags", "Show what the drive warns of", func(ctx context.Context, d *device.LTO) error {
			alerts, err := d.Alerts(ctx)
			if err != nil {
				return err
			}
			return a.print(map[string]string{"flags": alerts.String()}, func() error { return a.printf("%s\n", alerts) })
		}),
		{
			Use: "scan", Short: "List drives that are connected", Long: "Lists drives that are connected.", Example: "  holdfast tape mt scan", Args: exactly(0),
			RunE: func(*cobra.Command, []string) error { return runTapeScan(a, scsi.TypeTape) },
		},
	}
}

func newMtOptions(on withDrive) *cobra.Command {
	var set lto.Options
	cmd := &cobra.Command{
		Use: "options", Short: "Set options of the drive",
		Long:    "Sets how the drive works until it is told otherwise. A backup sets what it needs.",
		Example: "  holdfast tape mt options --compression=false", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return on(cmd, true, func(d *device.LTO) error { return d.SetOptions(set) })
		},
	}
	f := cmd.Flags()
	f.Uint32Var(&set.BlockLength, "blocksize", 0, "length of blocks in bytes; 0: as long as each is")
	f.BoolVar(&set.Compression, "compression", true, "compress what is written")
	f.Uint8Var(&set.BufferMode, "buffer-mode", 1, "1: a write ends when its data is in the buffer")
	return cmd
}

// newMtRootCommand is the program pmt.
func newMtRootCommand(a *app) *cobra.Command { return newTapeTool(a, mtProgram, newMtCommand) }

// newTapeTool makes a command a program of its own.
func newTapeTool(a *app, name string, command func(*app, *tapeOptions) *cobra.Command) *cobra.Command {
	o := new(tapeOptions)
	root := command(a, o)
	root.Use = name
	o.flags(a, root)
	a.setUp(root)
	root.AddCommand(newVersionCommand(a), newCompletionCommand(a))
	root.InitDefaultHelpCmd()
	parents(root)
	return root
}
