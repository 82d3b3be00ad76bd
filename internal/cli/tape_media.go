package cli

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/tape/listing"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

func newTapeMediaCommand(a *app, o *tapeOptions) *cobra.Command {
	var pool string
	list := &cobra.Command{
		Use: "list", Short: "List the media that are known",
		Long: `Lists the media of the inventory, with what they are good for: writable, full,
damaged, retired, or unknown if their pool is not configured; expired ones may be
overwritten.`,
		Example: `  holdfast tape media list --pool daily`, Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			return o.withState(a, func(s *tapeSite) error { return runTapeMediaList(s, pool) })
		},
	}
	list.Flags().StringVar(&pool, "pool", "", "only media of this pool")
	cmd := &cobra.Command{
		Use: "media", Short: "Media that are known, and what is on them",
		Long:    `The inventory of media, and their catalogs.`,
		Example: `  holdfast tape media list` + "\n" + `  holdfast tape media content --pool daily`,
	}
	cmd.AddCommand(list, newTapeMediaContentCommand(a, o), newTapeMediaDestroyCommand(a, o), newTapeMediaStatusCommand(a, o), newTapeMediaVaultCommand(a, o))
	return cmd
}

// listing is what is told of media.
func (s *tapeSite) listing() listing.Source {
	return listing.Source{State: s.state, Config: s.config, Now: s.Now()}
}

func runTapeMediaList(s *tapeSite, pool string) error {
	list, err := s.listing().Media(func(m media.Medium) bool { return pool == "" || m.Pool() == pool })
	if err != nil {
		return err
	}
	t := ui.Table{Columns: []ui.Column{
		{Title: "LABEL"},
		{Title: "POOL"},
		{Title: "MEDIA SET"},
		{Title: "NR", Align: ui.Right},
		{Title: "STATUS"},
		{Title: "LOCATION"},
		{Title: "USED", Align: ui.Right},
		{Title: "CATALOG"},
	}}
	for _, m := range list {
		status, used, catalog := m.Status, "", "no"
		if m.Expired {
			status += ", expired"
		}
		if m.Used != nil {
			used = ui.Rough(*m.Used)
		}
		if m.Catalog {
			catalog = "yes"
		}
		nr := ""
		if m.Seq != nil {
			nr = fmt.Sprint(*m.Seq + 1)
		}
		t.Add(m.Text, m.Pool, m.SetUUID, nr, status, m.Location, used, catalog)
	}
	return s.print(list, func() error { return s.table(&t) })
}

func newTapeMediaContentCommand(a *app, o *tapeOptions) *cobra.Command {
	var pool, label, set string
	cmd := &cobra.Command{
		Use: "content", Short: "List the snapshots on media",
		Long: `Lists the snapshots that the catalogs of media name. A snapshot may be on several
media sets.`,
		Example: `  holdfast tape media content --pool daily
  holdfast tape media content --media-set 9da37a55-aac7-4deb-91c6-482b3b675f30 --output-format json`,
		Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			return o.withState(a, func(s *tapeSite) error { return runTapeMediaContent(s, pool, label, set) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&pool, "pool", "", "only of media of this pool")
	f.StringVar(&label, "label-text", "", "only of this medium")
	f.StringVar(&set, "media-set", "", "only of this media set")
	return cmd
}

func runTapeMediaContent(s *tapeSite, pool, label, set string) error {
	list, missing, err := s.listing().Contents(func(m media.Medium) bool {
		return (pool == "" || m.Pool() == pool) && (label == "" || m.Label.Text == label) && (set == "" || m.MediaSet().String() == set)
	})
	if err != nil {
		return err
	}
	for _, m := range missing {
		s.warn("medium %s has no catalog here: 'holdfast tape catalog' reads it", m.Label.Text)
	}
	t := ui.Table{Columns: []ui.Column{{Title: "LABEL"}, {Title: "MEDIA SET"}, {Title: "STORE"}, {Title: "SNAPSHOT"}}}
	for _, c := range list {
		t.Add(c.Text, c.SetUUID, c.Store, c.Snapshot)
	}
	return s.print(list, func() error { return s.table(&t) })
}

// medium finds a medium by its label text or uuid.
func (s *tapeSite) medium(text string) (media.Medium, error) {
	inv, err := s.state.Inventory()
	if err != nil {
		return media.Medium{}, err
	}
	if id, err := uuid.Parse(text); err == nil {
		return inv.Find(id)
	}
	return inv.FindLabel(text)
}

func newTapeMediaDestroyCommand(a *app, o *tapeOptions) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "destroy LABEL", Short: "Forget a medium",
		Long: `Removes a medium and its catalog from what is known. The medium stays as it is,
and 'holdfast tape inventory' takes it in again. One that is in a media set goes
only with --force.`,
		Example: `  holdfast tape media destroy TAPE01L8`, Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.withState(a, func(s *tapeSite) error {
				m, err := s.medium(args[0])
				if err != nil {
					return err
				}
				if m.InSet() && !force {
					return hint(fmt.Errorf("medium %s is in media set %s", m.Label.Text, m.Set.UUID), "--force forgets it all the same")
				}
				return s.state.Forget(cmd.Context(), m.UUID())
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "forget it although it is in a media set")
	return cmd
}

func newTapeMediaStatusCommand(a *app, o *tapeOptions) *cobra.Command {
	return &cobra.Command{
		Use: "status LABEL [full|damaged|retired|none]", Short: "Say that a medium is full, damaged or retired",
		Long: `Gives a medium a status that keeps backups from writing to it, or none, which
lets it be computed.`,
		Example: `  holdfast tape media status TAPE01L8 retired`, Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := args[1]
			if text == "none" {
				text = ""
			}
			st, err := media.ParseStatus(text)
			if err != nil {
				return usage(err)
			}
			return o.withState(a, func(s *tapeSite) error {
				m, err := s.medium(args[0])
				if err != nil {
					return err
				}
				return s.state.SetStatus(cmd.Context(), m.UUID(), st)
			})
		},
	}
}

func newTapeMediaVaultCommand(a *app, o *tapeOptions) *cobra.Command {
	return &cobra.Command{
		Use: "move LABEL [VAULT]", Short: "Say that a medium is in a vault, or back",
		Long: `Notes that a medium was taken to a vault, from where no backup wants it; without a
vault it is offline again.`,
		Example: `  holdfast tape media move TAPE01L8 bank`, Args: between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l := media.Location{Place: media.Offline}
			if len(args) == 2 {
				if !names.IsSafeID(args[1]) || len(args[1]) > 32 {
					return usagef("%q cannot be the name of a vault", args[1])
				}
				l = media.Location{Place: media.Vault, Name: args[1]}
			}
			return o.withState(a, func(s *tapeSite) error {
				m, err := s.medium(args[0])
				if err != nil {
					return err
				}
				return s.state.SetLocation(cmd.Context(), m.UUID(), l)
			})
		},
	}
}

// when is a time of a listing, "" for none.
func (a *app) when(unix *int64) string {
	if unix == nil {
		return ""
	}
	return time.Unix(*unix, 0).In(a.Location).Format("2006-01-02 15:04:05")
}

// number counts from 1, as people do.
func number(n *int64) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n + 1)
}
