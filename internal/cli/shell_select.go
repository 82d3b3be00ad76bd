package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/browse"
	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/ui"
)

// The choices of a user are patterns. The last one that matches an entry, or else
// the nearest directory above it for which there is one, decides.

// patternText is a pattern as users write it, without what it does.
func patternText(p exclude.Pattern) string { return strings.TrimPrefix(p.String(), "!") }

func (sh *shell) choose(ctx context.Context, args shellArgs) error {
	for _, w := range args.words {
		p, err := browse.Pattern(sh.cwd, w.Pattern)
		if err != nil {
			return err
		}
		if p.Action() == exclude.Exclude {
			return usagef("%s leaves out what it matches: write deselect", ui.Path(w.Text))
		}
		if !browse.IsGlob(w.Pattern) {
			if _, err := sh.names.Lookup(ctx, browse.Clean(sh.cwd, w.Text)); err != nil {
				return err
			}
		}
		sh.selected = append(sh.selected, p)
	}
	return nil
}

func (sh *shell) deselect(_ context.Context, args shellArgs) error {
	for _, w := range args.words {
		p, err := browse.Pattern(sh.cwd, "!"+w.Pattern)
		if err != nil {
			return err
		}
		before := len(sh.selected)
		sh.selected = slices.DeleteFunc(sh.selected, func(o exclude.Pattern) bool { return patternText(o) == patternText(p) })
		if len(sh.selected) == before {
			sh.selected = append(sh.selected, p)
		}
	}
	return nil
}

func (sh *shell) clearSelected(context.Context, shellArgs) error {
	sh.selected = nil
	return nil
}

func (sh *shell) listSelected(ctx context.Context, args shellArgs) error {
	if args.flags["patterns"] {
		for _, p := range sh.selected {
			text := ui.Path(patternText(p))
			if p.Action() == exclude.Exclude {
				text = "!" + text
			}
			if err := sh.line(text); err != nil {
				return err
			}
		}
		return nil
	}
	if len(sh.selected) == 0 {
		return nil
	}
	list := exclude.NewList(sh.selected)
	var above []bool // whether the directories of the path are chosen
	return sh.names.Walk(ctx, "/", func(path []byte, e *browse.Entry) error {
		depth := strings.Count(string(path), "/") - 1
		above = above[:min(depth, len(above))]
		chosen := depth > 0 && above[depth-1]
		switch list.Match(path, e.IsDir()) {
		case exclude.Include:
			chosen = true
		case exclude.Exclude:
			chosen = false
		}
		if e.IsDir() {
			above = append(above, chosen)
		}
		if !chosen {
			return nil
		}
		return sh.path(string(path), e)
	})
}
