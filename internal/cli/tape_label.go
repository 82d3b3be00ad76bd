package cli

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/tape/job"
	"github.com/holdfast-backup/holdfast/internal/tape/listing"
	"github.com/spf13/cobra"
)

func newTapeLabelCommand(a *app, o *tapeOptions) *cobra.Command {
	var text, pool string
	cmd := &cobra.Command{
		Use:   "label",
		Short: "Give the medium in the drive a label",
		Long: `Gives the medium in the drive, which must be empty, a label: the text of its
barcode, if it has one. With --pool it is kept for a pool.`,
		Example: `  holdfast tape label --label-text TAPE01L8 --pool daily`,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if text == "" {
				return usagef("--label-text is missing")
			}
			return o.withWorld(cmd.Context(), a, func(s *tapeSite, w *job.World) error {
				if err := s.knowsPool(pool); err != nil {
					return err
				}
				l, err := w.Label(cmd.Context(), text, pool)
				if err != nil {
					return err
				}
				return a.print(listing.LabelsOf(l, nil), func() error { return a.printf("%s labelled\n", text) })
			})
		},
	}
	cmd.Flags().StringVar(&text, "label-text", "", "the label")
	cmd.Flags().StringVar(&pool, "pool", "", "the pool that the medium is kept for")
	return cmd
}

// knowsPool fails if a pool is named that is not configured.
func (s *tapeSite) knowsPool(name string) error {
	if name == "" {
		return nil
	}
	_, err := s.config.Pool(name)
	return err
}

func newTapeBarcodeLabelCommand(a *app, o *tapeOptions) *cobra.Command {
	var pool string
	cmd := &cobra.Command{
		Use:   "barcode-label",
		Short: "Label all new media in the changer by their barcodes",
		Long: `Loads every medium in the changer whose barcode is not known, one after the
other, and gives it a label with that text. Media that are not empty are left as
they are, and cleaning cartridges.`,
		Example: `  holdfast tape barcode-label --pool daily`,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withWorld(cmd.Context(), a, func(s *tapeSite, w *job.World) error {
				if err := s.knowsPool(pool); err != nil {
					return err
				}
				made, err := w.BarcodeLabel(cmd.Context(), pool)
				if err != nil {
					return err
				}
				out := []listing.Labels{}
				for _, l := range made {
					out = append(out, listing.LabelsOf(l, nil))
				}
				return a.print(out, func() error { return a.printf("%s labelled\n", mediums(len(made))) })
			})
		},
	}
	cmd.Flags().StringVar(&pool, "pool", "", "the pool that the media are kept for")
	return cmd
}

func newTapeReadLabelCommand(a *app, o *tapeOptions) *cobra.Command {
	var inventorize bool
	cmd := &cobra.Command{
		Use:     "read-label",
		Short:   "Show the label of the medium in the drive",
		Long:    `Reads the labels of the medium in the drive.`,
		Example: `  holdfast tape read-label --inventorize`,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withWorld(cmd.Context(), a, func(_ *tapeSite, w *job.World) error {
				l, err := w.ReadLabel(cmd.Context(), inventorize)
				if err != nil {
					return err
				}
				return a.printMedium(listing.LabelsOf(l.Medium, l.Set))
			})
		},
	}
	cmd.Flags().BoolVar(&inventorize, "inventorize", false, "take the medium into the inventory")
	return cmd
}

// printMedium prints what a medium says of itself.
func (a *app) printMedium(m listing.Labels) error {
	return a.print(m, func() error {
		lines := [][2]string{
			{"label", m.Text},
			{"uuid", m.UUID},
			{"labelled", a.when(&m.Ctime)},
			{"pool", m.Pool},
			{"media set", m.SetUUID},
			{"in it since", a.when(m.SetCtime)},
			{"number", number(m.Seq)},
			{"key", m.Key},
		}
		for _, l := range lines {
			if l[1] == "" {
				continue
			}
			if err := a.printf("%-12s %s\n", l[0]+":", l[1]); err != nil {
				return err
			}
		}
		return nil
	})
}

func newTapeInventoryCommand(a *app, o *tapeOptions) *cobra.Command {
	var io job.InventoryOptions
	cmd := &cobra.Command{
		Use:   "inventory",
		Short: "Read the labels of media in the changer",
		Long: `Loads the media in the changer that are not known, and takes their labels into the
inventory. With --read-all-labels the others too. With --catalog the catalogs that
are missing are read from the media: after everything but the media was lost, this
brings back what is known of them.`,
		Example: `  holdfast tape inventory
  holdfast tape inventory --read-all-labels --catalog`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withWorld(cmd.Context(), a, func(_ *tapeSite, w *job.World) error {
				return w.Inventory(cmd.Context(), io)
			})
		},
	}
	cmd.Flags().BoolVar(&io.ReadAll, "read-all-labels", false, "load media that are known, too")
	cmd.Flags().BoolVar(&io.Catalog, "catalog", false, "make the catalogs that are missing")
	return cmd
}

func newTapeCatalogCommand(a *app, o *tapeOptions) *cobra.Command {
	var co job.CatalogOptions
	var verbose bool
	cmd := &cobra.Command{
		Use:   "catalog",
		Short: "Read the catalog of the medium in the drive",
		Long: `Makes the catalog of the medium in the drive anew: from the catalog that is its
last file, or where there is none, by reading all of it, as --scan does in any
case. All chunks are compared with their checksums then.

Exit code 4: something on the medium cannot be read.`,
		Example: `  holdfast tape catalog
  holdfast tape catalog --force --scan`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withWorld(cmd.Context(), a, func(_ *tapeSite, w *job.World) error {
				stats, err := w.Catalog(cmd.Context(), co)
				if err == nil && stats.Damaged > 0 {
					err = mark(errDamaged, "%s on the medium could not be read", plural(stats.Damaged, "place"))
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&co.Scan, "scan", false, "read the whole medium")
	cmd.Flags().BoolVar(&co.Force, "force", false, "replace the catalog that is there")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "accepted; files are always shown")
	return cmd
}

func newTapeFormatCommand(a *app, o *tapeOptions) *cobra.Command {
	var fast bool
	var text, barcode string
	cmd := &cobra.Command{
		Use:   "format",
		Short: "Make the medium in the drive empty",
		Long: `Erases the medium in the drive and forgets what is known of it. Without --fast
all of it is erased, which takes hours on real media. --label-text says which
medium it has to be; --load-barcode loads that one first.`,
		Example: `  holdfast tape format --label-text TAPE01L8 --fast`,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return o.withWorld(ctx, a, func(_ *tapeSite, w *job.World) error {
				if barcode != "" {
					if err := w.Station.Bring(ctx, barcode); err != nil {
						return err
					}
				}
				return w.Format(ctx, text, fast)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&fast, "fast", false, "leave old data behind the new end of the data")
	f.StringVar(&text, "label-text", "", "the label that the medium must have")
	f.StringVar(&barcode, "load-barcode", "", "load the medium with this barcode first")
	return cmd
}

// mediums is "1 medium", "2 media".
func mediums(n int) string {
	if n == 1 {
		return "1 medium"
	}
	return fmt.Sprintf("%d media", n)
}
