package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/browse"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/ui/words"
)

const (
	maxChoices = 200             // that Tab shows
	tabTime    = 2 * time.Second // that it looks for them
)

// complete is what Tab does behind the beginning of a line.
func (sh *shell) complete(ctx context.Context, before string) (now string, choices []string) {
	line, text, start := words.Last(before)
	head := before[:start]
	if len(line) == 0 {
		var all []string
		for _, c := range shellCommands() {
			all = append(all, c.name)
		}
		return oneOf(head, text, all)
	}
	all := shellCommands()
	i := slices.IndexFunc(all, func(c shellCommand) bool { return c.name == line[0].Text })
	if i < 0 {
		return before, nil
	}
	c := all[i]
	if strings.HasPrefix(text, "-") {
		return oneOf(head, text, c.allFlags())
	}
	ctx, cancel := context.WithTimeout(ctx, tabTime)
	defer cancel()
	switch {
	case c.args == argCommand:
		var names []string
		for _, c := range all {
			names = append(names, c.name)
		}
		return oneOf(head, text, names)
	case c.args == argTarget && len(line) == 1:
		return completeLocal(head, text)
	case c.args == argDir:
		return sh.completePath(ctx, head, text, (*browse.Entry).IsDir)
	case c.args == argPattern, c.args == argTarget:
		return sh.completePath(ctx, head, text, nil)
	}
	return before, nil
}

func (c shellCommand) allFlags() (flags []string) {
	for _, letter := range c.flags {
		flags = append(flags, "-"+string(letter))
	}
	if c.long != "" {
		flags = append(flags, "--"+c.long)
	}
	return flags
}

// oneOf completes one of a few plain words.
func oneOf(head, text string, all []string) (now string, choices []string) {
	for _, w := range all {
		if strings.HasPrefix(w, text) {
			choices = append(choices, w)
		}
	}
	switch len(choices) {
	case 0:
		return head + text, nil
	case 1:
		return head + choices[0] + " ", nil
	}
	return head + commonStart(choices), choices
}

// commonStart is what all of some words begin with, at least one.
func commonStart(all []string) string {
	common := all[0]
	for _, w := range all {
		for !strings.HasPrefix(w, common) {
			common = common[:len(common)-1]
		}
	}
	return common
}

// completePath completes a path in the archive.
func (sh *shell) completePath(ctx context.Context, head, text string, accept func(*browse.Entry) bool) (now string, choices []string) {
	dir, name := text[:strings.LastIndexByte(text, '/')+1], text[strings.LastIndexByte(text, '/')+1:]
	c, err := sh.names.Complete(ctx, browse.Clean(sh.cwd, dir), name, maxChoices, accept)
	if err != nil || c.Count == 0 {
		return head + words.QuoteOpen(text), nil
	}
	if c.Count == 1 {
		if c.Some[0].IsDir() {
			return head + words.QuoteOpen(dir+c.Common+"/"), nil
		}
		return head + words.Quote(dir+c.Common) + " ", nil
	}
	for _, e := range c.Some {
		shown := ui.Path(e.Name)
		if e.IsDir() {
			shown += "/"
		}
		choices = append(choices, shown)
	}
	if more := c.Count - len(c.Some); more > 0 {
		choices = append(choices, fmt.Sprintf("... and %d more", more))
	}
	return head + words.QuoteOpen(dir+c.Common), choices
}

// completeLocal completes a directory of this machine.
func completeLocal(head, text string) (now string, choices []string) {
	dir, name := filepath.Split(text)
	entries, _ := os.ReadDir(cmp.Or(dir, ".")) // what cannot be read has nothing to offer
	var fit []string
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), name) {
			fit = append(fit, e.Name()+"/")
		}
	}
	if len(fit) == 0 {
		return head + words.QuoteOpen(text), nil
	}
	now = head + words.QuoteOpen(dir+commonStart(fit))
	for _, f := range fit {
		choices = append(choices, ui.Path(f))
	}
	return now, choices
}
