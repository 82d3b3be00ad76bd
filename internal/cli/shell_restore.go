package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/holdfast-backup/holdfast/internal/browse"
	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"github.com/holdfast-backup/holdfast/internal/ui"
)

// restore restores what is below the current directory, or a part of it.
func (sh *shell) restore(ctx context.Context, args shellArgs) error {
	part := extract.Selection{Path: sh.cwd}
	var patterns []exclude.Pattern
	for i, w := range args.words[1:] {
		p, err := browse.Pattern(sh.cwd, w.Pattern)
		if err != nil {
			return err
		}
		if i == 0 && p.Action() == exclude.Exclude { // all but that
			all, err := browse.Pattern(sh.cwd, "**")
			if err != nil {
				return err
			}
			patterns = append(patterns, all)
		}
		patterns = append(patterns, p)
	}
	if patterns != nil {
		part.Patterns = exclude.NewList(patterns)
	}
	return sh.extract(ctx, args, part)
}

// restoreSelected restores what is chosen, with its directories from the root on.
func (sh *shell) restoreSelected(ctx context.Context, args shellArgs) error {
	if len(sh.selected) == 0 {
		return hint(usagef("nothing is selected"), "choose with 'select' or 'find --select'; 'restore' takes patterns too")
	}
	return sh.extract(ctx, args, extract.Selection{Patterns: exclude.NewList(sh.selected)})
}

func (sh *shell) extract(ctx context.Context, args shellArgs, part extract.Selection) error {
	target := args.words[0].Text
	src, err := extract.Walk(sh.archive.Archive, part)
	if err != nil {
		return err
	}
	name := sh.parts.Name()
	opts := extract.Options{
		Existing: extract.Dirs, Damaged: fetch.IsDamage, Problem: sh.a.extractProblems(name), Counters: new(extract.Counters),
	}
	if args.flags["overwrite"] {
		opts.Existing |= extract.Anything
	}
	if _, err := os.Stat(target); err == nil {
		opts.KeepRoot = true // it may be /tmp
	}
	stop := sh.a.follow(sh.a.meter("restore "+name, ui.Bytes), func() (int64, int64, string) {
		return opts.Counters.Bytes.Load(), 0, entries(opts.Counters.Entries.Load())
	})
	res, err := extract.Directory(ctx, src, target, opts)
	stop(err == nil)
	switch {
	case errors.Is(err, extract.ErrExists):
		return hint(err, "'restore --overwrite' replaces what is in the way, but no directories")
	case err != nil:
		return explainExtract(err)
	case part.Patterns != nil && res.Nothing():
		return errors.New("nothing matches")
	}
	sh.a.tellNotSet(&res, name)
	if err := sh.restored(target, &res); err != nil {
		return err
	}
	return extractVerdict(&res, nil, false)
}

func (sh *shell) restored(target string, res *extract.Result) error {
	if sh.a.format.IsJSON() {
		return sh.a.format.WriteJSON(sh.out, struct {
			Target string `json:"target"`
			extractJSON
		}{target, extractOf(res, nil)})
	}
	return sh.line(fmt.Sprintf("restored to %s: %s", ui.Path(target), extractLine(res)))
}
