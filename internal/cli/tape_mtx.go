package cli

import (
	"context"
	"errors"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape/changer"
	"github.com/holdfast-backup/holdfast/internal/tape/config"
	"github.com/spf13/cobra"
)

// newMtxCommand is the tool for single commands to a changer.
func newMtxCommand(a *app, o *tapeOptions) *cobra.Command {
	var path, name string
	cmd := &cobra.Command{
		Use: "mtx", Short: "Single commands to a changer, as mtx has them",
		Long: `Sends single commands to a changer: --changer names one that is configured,
--device the path of any. Slots are counted from 1, drives from 0.

Called by the name pmtx, as through a symbolic link, the program is this command.`,
		Example: `  holdfast tape mtx status
  holdfast tape mtx load 3 --drivenum 1 --device /dev/sg4`,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&path, "device", "", "path of the changer's device, instead of one that is configured")
	f.StringVar(&name, "changer", "", "the changer")
	on := func(cmd *cobra.Command, work func(context.Context, *tapeSite, *changer.Changer) error) error {
		return o.withState(a, func(s *tapeSite) (err error) {
			if path == "" {
				if name == "" {
					if name, err = onlyChanger(s.config); err != nil {
						return err
					}
				}
				conf, err := s.config.Changer(name)
				if err != nil {
					return err
				}
				path = conf.Path
			}
			c, err := s.opener.SMC(cmd.Context(), path)
			if err != nil {
				return err
			}
			return errors.Join(work(cmd.Context(), s, c), c.Close())
		})
	}
	move := func(use, short, example string, least int, do func(ctx context.Context, c *changer.Changer, n []int, drive int) error) *cobra.Command {
		sub := &cobra.Command{Use: use, Short: short, Long: short + ".", Example: "  holdfast tape mtx " + example, Args: exactly(least)}
		drive := sub.Flags().Int("drivenum", 0, "the drive, from 0")
		sub.RunE = func(cmd *cobra.Command, args []string) error {
			var n []int
			for _, text := range args {
				one, err := strconv.Atoi(text)
				if err != nil || one < 1 {
					return usagef("%q is no slot: they are numbered from 1", text)
				}
				n = append(n, one)
			}
			return on(cmd, func(ctx context.Context, _ *tapeSite, c *changer.Changer) error { return do(ctx, c, n, *drive) })
		}
		return sub
	}
	simple := func(use, short string, work func(context.Context, *tapeSite, *changer.Changer) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Long: short + ".", Example: "  holdfast tape mtx " + use, Args: exactly(0),
			RunE: func(cmd *cobra.Command, _ []string) error { return on(cmd, work) },
		}
	}
	cmd.AddCommand(
		simple("inquiry", "Show who the changer says that it is", func(_ context.Context, _ *tapeSite, c *changer.Changer) error {
			id := c.Identity()
			return a.print(map[string]string{"vendor": id.Vendor, "product": id.Product, "revision": id.Revision}, func() error {
				return a.printf("%s %s %s\n", id.Vendor, id.Product, id.Revision)
			})
		}),
		simple("inventory", "Have the changer look at all its elements again", func(ctx context.Context, _ *tapeSite, c *changer.Changer) error {
			return c.Inventory(ctx)
		}),
		simple("status", "Show what is in drives and slots", func(ctx context.Context, s *tapeSite, c *changer.Changer) error {
			return showChanger(ctx, s, c, config.ChangerConfig{})
		}),
		move("load SLOT", "Bring the medium of a slot into a drive", "load 3", 1, func(ctx context.Context, c *changer.Changer, n []int, drive int) error {
			return c.Load(ctx, n[0], drive)
		}),
		move("unload SLOT", "Bring the medium of a drive into a slot", "unload 3", 1, func(ctx context.Context, c *changer.Changer, n []int, drive int) error {
			return c.Unload(ctx, drive, n[0])
		}),
		move("transfer FROM TO", "Move a medium between slots", "transfer 3 9", 2, func(ctx context.Context, c *changer.Changer, n []int, _ int) error {
			return c.Transfer(ctx, n[0], n[1])
		}),
		&cobra.Command{
			Use: "scan", Short: "List changers that are connected", Long: "Lists changers that are connected.", Example: "  holdfast tape mtx scan", Args: exactly(0),
			RunE: func(*cobra.Command, []string) error { return runTapeScan(a, scsi.TypeChanger) },
		},
	)
	return cmd
}

// newMtxRootCommand is the program pmtx.
func newMtxRootCommand(a *app) *cobra.Command { return newTapeTool(a, mtxProgram, newMtxCommand) }
