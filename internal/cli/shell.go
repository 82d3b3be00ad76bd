package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/browse"
	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/ui/words"
)

// shell is one archive, and where its user is in it.
type shell struct {
	a       *app
	snap    repo.Snapshot
	parts   filearchive.Parts
	key     *chunkcrypt.Key
	archive *filearchive.Archive
	full    *browse.Tree // all that is known of the files
	names   *browse.Tree // their names, from where they are had soonest
	catalog *browse.Tree // to be closed; nil: none
	out     *bufio.Writer

	cwd      string
	selected []exclude.Pattern
	ended    bool
	failed   error // of the first command that did
}

// shellCommand is a command of the shell.
type shellCommand struct {
	name, use, short string
	flags            string // the letters of its flags
	long             string // its one flag that has no letter, "" for none
	args             argKind
	run              func(*shell, context.Context, shellArgs) error
}

// argKind is what Tab completes behind a command.
type argKind uint8

const (
	argNone    argKind = iota
	argDir             // a directory of the archive
	argPattern         // anything in the archive
	argTarget          // a directory of this machine, then patterns
	argCommand
)

func shellCommands() []shellCommand {
	return []shellCommand{
		{name: "help", use: "[COMMAND]", short: "list the commands", args: argCommand, run: (*shell).help},
		{name: "pwd", short: "print the current directory", run: (*shell).pwd},
		{name: "cd", use: "[DIRECTORY]", short: "go there, or to the root", args: argDir, run: (*shell).cd},
		{name: "ls", use: "[-l] [-a] [PATTERN...]", short: "list; -l: with metadata, -a: names with a dot too", flags: "la", args: argPattern, run: (*shell).ls},
		{name: "stat", use: "PATTERN...", short: "print all that is known of entries", args: argPattern, run: (*shell).stat},
		{name: "find", use: "PATTERN... [--select]", short: "print the paths below here that end so", long: "select", args: argPattern, run: (*shell).find},
		{name: "select", use: "PATTERN...", short: "choose entries, and what is below them", args: argPattern, run: (*shell).choose},
		{name: "deselect", use: "PATTERN...", short: "take a choice back, or a part of one", args: argPattern, run: (*shell).deselect},
		{name: "list-selected", use: "[--patterns]", short: "print what is chosen, or how it was", long: "patterns", run: (*shell).listSelected},
		{name: "clear-selected", short: "take all choices back", run: (*shell).clearSelected},
		{name: "restore", use: "TARGET [PATTERN...]", short: "restore what is here, or a part, to a directory", long: "overwrite", args: argTarget, run: (*shell).restore},
		{name: "restore-selected", use: "TARGET", short: "restore what is chosen, from the root on", long: "overwrite", args: argTarget, run: (*shell).restoreSelected},
		{name: "exit", short: "leave the shell", run: (*shell).exit},
		{name: "quit", short: "leave the shell", run: (*shell).exit},
	}
}

// shellHelp lists the commands.
func shellHelp() string {
	var b strings.Builder
	for _, c := range shellCommands() {
		line := strings.TrimSpace(c.name + " " + c.use)
		fmt.Fprintf(&b, "  %-28s%s\n", line, c.short)
	}
	return b.String()
}

func newShell(ctx context.Context, a *app, snap repo.Snapshot, p filearchive.Parts, key *chunkcrypt.Key) (*shell, error) {
	archive, err := filearchive.Open(ctx, snap, p, key, nil)
	if err != nil {
		return nil, err
	}
	sh := &shell{a: a, snap: snap, parts: p, key: key, archive: archive, out: bufio.NewWriterSize(a.Stdout, 64<<10), cwd: "/"}
	sh.full = browse.Over(archive)
	sh.names = sh.full
	if !p.Split() && hasCatalog(snap) {
		sh.useCatalog(ctx)
	}
	return sh, nil
}

// useCatalog takes names from the catalog; in an archive of version 1 they lie
// between the contents. Without it everything works too.
func (sh *shell) useCatalog(ctx context.Context) {
	t, err := browse.OpenCatalog(ctx, sh.snap, sh.key, nil)
	if err != nil {
		sh.a.warn("%v; names are read from the archive", err)
		return
	}
	sh.catalog = t
	below, err := t.Below(ctx, "/"+string(sh.parts.Meta))
	if err == nil {
		sh.names = below
	} else if !errors.Is(err, fs.ErrNotExist) {
		sh.a.warn("%v; names are read from the archive", err)
	}
}

func (sh *shell) close() error {
	err := sh.archive.Close()
	if sh.catalog != nil {
		err = errors.Join(err, sh.catalog.Close())
	}
	return err
}

// text runs the commands of a text. What goes wrong is reported and remembered.
func (sh *shell) text(ctx context.Context, text string) {
	commands, err := words.Split(text)
	if err != nil {
		sh.report(usage(err))
		return
	}
	for _, c := range commands {
		if sh.ended || ctx.Err() != nil {
			return
		}
		err := sh.run(ctx, c)
		if ferr := sh.out.Flush(); err == nil && ferr != nil {
			err = fmt.Errorf("write the result: %w", ferr)
		}
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = context.Cause(ctx)
		}
		if err != nil {
			sh.report(err)
		}
	}
}

func (sh *shell) report(err error) {
	if sh.failed == nil {
		sh.failed = err
	}
	if _, ok := errors.AsType[hinted](err); !ok && exitCode(err) == exitUsage {
		err = hint(err, "'help' lists the commands")
	}
	sh.a.report(err, "help")
}

// run runs one command.
func (sh *shell) run(ctx context.Context, line []words.Word) error {
	all := shellCommands()
	name := line[0].Text
	i := slices.IndexFunc(all, func(c shellCommand) bool { return c.name == name })
	if i < 0 {
		return hint(usagef("there is no command %q", ui.Path(name)), "'help' lists the commands")
	}
	args, err := all[i].parse(line[1:])
	if err == nil {
		err = all[i].run(sh, ctx, args)
	}
	switch {
	case err == nil, errors.Is(err, ErrInterrupted):
		return err
	case errors.Is(err, fs.ErrNotExist):
		if p, ok := errors.AsType[*fs.PathError](err); ok {
			return mark(err, "%s: there is no %s", name, ui.Path(p.Path))
		}
	case errors.Is(err, browse.ErrNotDir):
		if p, ok := errors.AsType[*fs.PathError](err); ok {
			return mark(err, "%s: %s is no directory", name, ui.Path(p.Path))
		}
	}
	err = fmt.Errorf("%s: %w", name, err)
	if _, ok := errors.AsType[*exclude.SyntaxError](err); ok {
		return usage(err)
	}
	return err
}

// shellArgs are what stands behind a command.
type shellArgs struct {
	flags map[string]bool
	words []words.Word
}

func (c shellCommand) parse(line []words.Word) (args shellArgs, err error) {
	args.flags = map[string]bool{}
	only := false // words from here on
	for _, w := range line {
		switch {
		case only || len(w.Text) < 2 || w.Text[0] != '-':
			args.words = append(args.words, w)
		case w.Text == "--":
			only = true
		case c.long != "" && w.Text == "--"+c.long:
			args.flags[c.long] = true
		default:
			for _, letter := range w.Text[1:] {
				if !strings.ContainsRune(c.flags, letter) {
					return args, hint(usagef("unknown flag %s", ui.Path(w.Text)), "%s %s; '--' ends the flags", c.name, c.use)
				}
				args.flags[string(letter)] = true
			}
		}
	}
	low, high := c.arity()
	if n := len(args.words); n < low || n > high {
		return args, usagef("write %s", strings.TrimSpace(c.name+" "+c.use))
	}
	return args, nil
}

// arity is how many words a command takes, as its use says.
func (c shellCommand) arity() (low, high int) {
	for word := range strings.FieldsSeq(c.use) {
		switch {
		case strings.HasPrefix(word, "[-"):
		case strings.HasPrefix(word, "["):
			high++
		default:
			low, high = low+1, high+1
		}
		if strings.Contains(word, "...") {
			high = 1 << 20
		}
	}
	return low, high
}

func (sh *shell) help(_ context.Context, args shellArgs) error {
	if len(args.words) == 0 {
		_, err := sh.out.WriteString(shellHelp())
		return err
	}
	for _, c := range shellCommands() {
		if c.name == args.words[0].Text {
			_, err := fmt.Fprintf(sh.out, "%s\n  %s\n", strings.TrimSpace(c.name+" "+c.use), c.short)
			return err
		}
	}
	return usagef("there is no command %q", ui.Path(args.words[0].Text))
}

func (sh *shell) pwd(context.Context, shellArgs) error { return sh.line(ui.Path(sh.cwd)) }

// line prints a text, in JSON as a string.
func (sh *shell) line(text string) error {
	if sh.a.format.IsJSON() {
		return sh.a.format.WriteJSON(sh.out, text)
	}
	_, err := fmt.Fprintln(sh.out, text)
	return err
}

func (sh *shell) cd(ctx context.Context, args shellArgs) error {
	if len(args.words) == 0 {
		sh.cwd = "/"
		return nil
	}
	var to []string
	err := sh.each(ctx, sh.names, args.words, func(path string, e *browse.Entry) error {
		if e.IsDir() {
			to = append(to, path)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(to) == 0:
		return &fs.PathError{Op: "cd", Path: browse.Clean(sh.cwd, args.words[0].Text), Err: browse.ErrNotDir}
	case len(to) > 1:
		return fmt.Errorf("%s is %d directories", ui.Path(args.words[0].Text), len(to))
	}
	sh.cwd = to[0]
	return nil
}

func (sh *shell) exit(context.Context, shellArgs) error {
	sh.ended = true
	return nil
}
