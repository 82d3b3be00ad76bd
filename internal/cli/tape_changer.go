package cli

import (
	"context"
	"errors"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/config"
	"github.com/holdfast-backup/holdfast/internal/tape/listing"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newTapeChangerCommand(a *app, o *tapeOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use: "changer", Short: "Changers: what is connected, configured, and in them",
		Long: `A changer has a name and the path of its device, /dev/tape/by-id/scsi-SERIAL,
any other generic node, or serial:SERIAL. That of a virtual library is
DIR/changer.`,
		Example: `  holdfast tape changer scan
  holdfast tape changer create lib0 --path serial:CC2C52
  holdfast tape changer status lib0`,
	}
	cmd.AddCommand(newTapeScanCommand(a, scsi.TypeChanger, "changer"))
	cmd.AddCommand(newTapeConfigCommands(a, o, tapeThing{
		kind: config.Changer, word: "changer", article: "a changer",
		about: `Gives a changer a name. --export-slots are slots that people take media out of
besides those that the changer says so of.`,
		create:  "lib0 --path serial:CC2C52",
		update:  "lib0 --export-slots 7,8",
		columns: []string{"path", "export-slots", "eject-before-unload"},
	})...)
	cmd.AddCommand(&cobra.Command{
		Use: "status [CHANGER]", Short: "Show what is in drives and slots",
		Long:    `Shows what is in the drives and slots of a changer, and which media are known.`,
		Example: `  holdfast tape changer status lib0`,
		Args:    between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.withChanger(cmd, a, args, func(s *tapeSite, c tape.Changer, conf config.ChangerConfig) error {
				return showChanger(cmd.Context(), s, c, conf)
			})
		},
	}, newTapeTransferCommand(a, o))
	return cmd
}

// withChanger opens the changer that an argument names, or that of the drive.
func (o *tapeOptions) withChanger(cmd *cobra.Command, a *app, args []string, work func(*tapeSite, tape.Changer, config.ChangerConfig) error) error {
	return o.withState(a, func(s *tapeSite) (err error) {
		name := ""
		if len(args) > 0 {
			name = args[0]
		}
		if name == "" {
			if name, err = onlyChanger(s.config); err != nil {
				return err
			}
		}
		c, conf, err := s.opener.Changer(cmd.Context(), name)
		if err != nil {
			return err
		}
		return errors.Join(work(s, c, conf), c.Close())
	})
}

func onlyChanger(c config.Config) (string, error) {
	list, err := c.Changers()
	if err != nil {
		return "", err
	}
	if len(list) != 1 {
		return "", usagef("there are %s: name one", plural(len(list), "changer"))
	}
	return list[0].Name, nil
}

func showChanger(ctx context.Context, s *tapeSite, c tape.Changer, conf config.ChangerConfig) error {
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	inv, err := s.state.Inventory()
	if err != nil {
		return err
	}
	list := listing.Elements(st, conf.ExportSlots)
	t := ui.Table{Columns: []ui.Column{{Title: "KIND"}, {Title: "ID", Align: ui.Right}, {Title: "CONTENT"}, {Title: "INVENTORY"}, {Title: "LOADED FROM"}}}
	for _, e := range list {
		text, known, from := "-", "", ""
		if e.Label != nil {
			text = *e.Label
			if text == "" {
				text = "(no label)"
			}
			if m, err := inv.FindLabel(*e.Label); err == nil {
				known = m.Label.UUID.String()
			}
		}
		if e.From != nil {
			from = strconv.Itoa(*e.From)
		}
		t.Add(e.Kind, strconv.Itoa(e.ID), text, known, from)
	}
	return s.print(list, func() error { return s.table(&t) })
}

func newTapeTransferCommand(a *app, o *tapeOptions) *cobra.Command {
	var from, to int
	cmd := &cobra.Command{
		Use: "transfer [CHANGER]", Short: "Move a medium from one slot to another",
		Long:    `Moves a medium between slots, as into one for export.`,
		Example: `  holdfast tape changer transfer lib0 --from 3 --to 9`,
		Args:    between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if from < 1 || to < 1 {
				return usagef("--from and --to are numbers of slots, from 1")
			}
			return o.withChanger(cmd, a, args, func(_ *tapeSite, c tape.Changer, _ config.ChangerConfig) error {
				return c.Transfer(cmd.Context(), from, to)
			})
		},
	}
	cmd.Flags().IntVar(&from, "from", 0, "the slot with the medium")
	cmd.Flags().IntVar(&to, "to", 0, "the empty slot")
	return cmd
}
