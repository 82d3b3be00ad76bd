package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/spf13/cobra"
)

// maxNotes bounds notes read from standard input, in bytes.
const maxNotes = 1 << 20

func newSnapshotNotesCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notes",
		Short: "Show and change the notes of a snapshot",
		Long: `Notes are text of any number of lines; listings show the first one. They are not
part of what an encryption key signs.`,
		Example: `  holdfast snapshot notes show vm/100/latest
  holdfast snapshot notes update vm/100/latest "before the upgrade"`,
	}
	cmd.AddCommand(&cobra.Command{
		Use:               "show SNAPSHOT",
		Short:             "Print the notes of a snapshot",
		Long:              `Prints the notes of a snapshot; nothing when there are none.`,
		Example:           `  holdfast snapshot notes show vm/100/2026-11-22T10:00:00Z`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runNotesShow(cmd.Context(), a, args[0])
		},
	}, &cobra.Command{
		Use:   "update SNAPSHOT TEXT",
		Short: "Replace the notes of a snapshot",
		Long: `Replaces the notes of a snapshot by TEXT, or by what comes from standard input if
TEXT is '-'. An empty text removes them.`,
		Example: `  holdfast snapshot notes update vm/100/latest "before the upgrade"
  holdfast snapshot notes update vm/100/latest - < notes.txt`,
		Args:              exactly(2),
		ValidArgsFunction: a.completeSnapshots,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runNotesUpdate(cmd.Context(), a, args[0], args[1])
		},
	})
	return cmd
}

func runNotesShow(ctx context.Context, a *app, arg string) error {
	return a.withSnapshot(ctx, arg, func(_ repo.Repository, s repo.Snapshot) error {
		notes := s.Manifest().Notes()
		return a.print(map[string]string{"notes": notes}, func() error {
			if notes == "" {
				return nil
			}
			return a.printf("%s\n", strings.TrimSuffix(notes, "\n"))
		})
	})
}

func runNotesUpdate(ctx context.Context, a *app, arg, text string) error {
	if _, err := a.parsePlace(arg); err != nil {
		return err
	}
	text, err := a.notesText(text)
	if err != nil {
		return err
	}
	return a.with(ctx, func(r repo.Repository) error {
		s, err := a.snapshot(ctx, r, arg)
		if err != nil {
			return err
		}
		if err := r.SetNotes(ctx, s, text); err != nil {
			return err
		}
		return a.print(map[string]string{"notes": text}, func() error {
			return a.printf("notes of %s: %s\n", show(s), ui.FirstLine(text))
		})
	})
}

// notesText is an argument, or standard input for "-".
func (a *app) notesText(arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	b, err := io.ReadAll(io.LimitReader(a.Stdin, maxNotes+1))
	if err != nil {
		return "", fmt.Errorf("read the notes from standard input: %w", err)
	}
	if len(b) > maxNotes {
		return "", usagef("the notes are longer than %s", ui.Size(maxNotes))
	}
	return string(b), nil
}
