package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/browse"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/ui/words"
)

// each calls f for all that patterns match, and fails for one that matches nothing
// after the others have been looked at.
func (sh *shell) each(ctx context.Context, tree *browse.Tree, patterns []words.Word, f func(path string, e *browse.Entry) error) error {
	var failed error
	for _, w := range patterns {
		n := 0
		err := tree.Glob(ctx, sh.cwd, w.Pattern, func(path []byte, e *browse.Entry) error {
			n++
			return f(string(path), e)
		})
		if err == nil && n == 0 {
			err = &fs.PathError{Op: "match", Path: w.Text, Err: fs.ErrNotExist}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if failed == nil {
			failed = err
		}
	}
	return failed
}

func (sh *shell) ls(ctx context.Context, args shellArgs) error {
	l := lister{sh: sh, tree: sh.names, long: args.flags["l"], all: args.flags["a"]}
	if l.long || sh.a.format.IsJSON() {
		l.tree = sh.full
	}
	if len(args.words) == 0 {
		return l.directory(ctx, sh.cwd)
	}
	several := len(args.words) > 1 || browse.IsGlob(args.words[0].Pattern)
	n := 0
	return sh.each(ctx, l.tree, args.words, func(path string, e *browse.Entry) error {
		if !e.IsDir() {
			n++
			return l.line(ui.Path(l.shown(path)), path, e)
		}
		if several && !sh.a.format.IsJSON() {
			gap := ""
			if n > 0 {
				gap = "\n"
			}
			if _, err := fmt.Fprintf(sh.out, "%s%s:\n", gap, ui.Path(path)); err != nil {
				return err
			}
		}
		n++
		return l.directory(ctx, path)
	})
}

// lister prints entries.
type lister struct {
	sh        *shell
	tree      *browse.Tree
	long, all bool
}

// shown is a path as the user may have written it.
func (l lister) shown(path string) string {
	if below, ok := strings.CutPrefix(path, strings.TrimSuffix(l.sh.cwd, "/")+"/"); ok {
		return below
	}
	return path
}

func (l lister) directory(ctx context.Context, path string) error {
	for e, err := range l.tree.Sorted(ctx, path) {
		if err != nil {
			return err
		}
		if !l.all && strings.HasPrefix(e.Name, ".") {
			continue
		}
		if err := l.line(ui.Path(e.Name), browse.Join(path, e.Name), &e); err != nil {
			return err
		}
	}
	return nil
}

func (l lister) line(name, path string, e *browse.Entry) (err error) {
	switch {
	case l.sh.a.format.IsJSON():
		return l.sh.object(path, e)
	case l.long:
		if name, err = l.metadata(name, e); err != nil {
			return err
		}
	case e.IsDir():
		name += "/"
	}
	_, err = fmt.Fprintln(l.sh.out, name)
	return err
}

// metadata is a line like those of 'pxar list --verbose', where a hard link has the
// metadata of its file.
func (l lister) metadata(name string, e *browse.Entry) (string, error) {
	if e.Kind != pxar.Hardlink {
		return pxarLine(name, e.File), nil
	}
	to, err := l.tree.Target(*e)
	if err != nil {
		return "", err
	}
	return "h" + pxarLine(name, to.File)[1:] + " link to /" + ui.Path(e.File.Target), nil
}

// object prints an entry in JSON.
func (sh *shell) object(path string, e *browse.Entry) error {
	return sh.a.format.WriteJSON(sh.out, entryJSON(ui.Path(path), e))
}

// path prints the path of an entry, in JSON all of it.
func (sh *shell) path(path string, e *browse.Entry) error {
	if sh.a.format.IsJSON() {
		return sh.object(path, e)
	}
	return sh.line(ui.Path(path))
}

func (sh *shell) find(ctx context.Context, args shellArgs) error {
	for _, w := range args.words {
		text := w.Pattern
		if !strings.HasPrefix(text, "/") {
			text = "**/" + text // at any depth
		}
		p, err := browse.Pattern(sh.cwd, text)
		if err != nil {
			return err
		}
		err = sh.names.Find(ctx, sh.cwd, p, func(path []byte, e *browse.Entry) error {
			return sh.path(string(path), e)
		})
		if err != nil {
			return err
		}
		if args.flags["select"] {
			sh.selected = append(sh.selected, p)
		}
	}
	return nil
}
