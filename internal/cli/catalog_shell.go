package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/ui/prompt"
	"github.com/holdfast-backup/holdfast/internal/ui/words"
	"github.com/spf13/cobra"
)

type catalogShellOptions struct {
	snapshot string
	archive  string
	command  string
	key      keyOptions
}

func newCatalogShellCommand(a *app) *cobra.Command {
	var o catalogShellOptions
	cmd := &cobra.Command{
		Use:   "shell SNAPSHOT ARCHIVE",
		Short: "Go through the files of an archive, and restore some",
		Long: `Reads commands and shows or restores files of an archive. On a terminal lines are
edited, Tab completes commands and paths, and Ctrl-C ends a command, not the
shell. Otherwise commands come from standard input, or from -c; errors go to
standard error, the commands behind a failed one are run all the same, and the
exit code is that of the first that failed.

` + shellHelp() + `
Blanks separate words, ";" and line ends commands; "#" begins a comment. In a word
\c is the byte c, '...' what is between, and "..." the same with \n, \t, \r and
\OOO (octal) for bytes that do not print: so names are also shown.

In a PATTERN "*" and "?" match no "/", "**" also that, "[...]" one byte of a set,
and \ takes away a special meaning. It counts from the current directory, or from
the root of the archive if it begins with "/". Symbolic links are not followed.

restore puts what is in the current directory into TARGET, restore-selected what
is chosen with all directories above it. TARGET is made if it is missing; else it
keeps its metadata. Directories in it may exist; --overwrite replaces what else is
there.

With --output-format json each entry that is shown is an object on a line of its
own.`,
		Example: `  holdfast catalog shell host/web1 root.pxar
  holdfast catalog shell host/web1/2026-11-22T10:00:00Z root.pxar -c "ls -l /etc/ssh; stat /etc/passwd"
  echo "find *.conf" | holdfast catalog shell host/web1 root.pxar`,
		Args:              exactly(2),
		ValidArgsFunction: a.completeFileArchives,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.snapshot, o.archive = args[0], args[1]
			return runCatalogShell(cmd.Context(), a, o, cmd.Flags().Changed("command"))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.command, "command", "c", "", "run these commands, and end")
	o.key.readFlags(cmd)
	return cmd
}

func runCatalogShell(ctx context.Context, a *app, o catalogShellOptions, given bool) error {
	if given {
		if _, err := words.Split(o.command); err != nil {
			return usage(fmt.Errorf("-c: %w", err))
		}
	}
	return a.withSnapshot(ctx, o.snapshot, func(_ repo.Repository, snap repo.Snapshot) (err error) {
		p, err := fileArchive(snap, o.archive)
		if err != nil {
			return err
		}
		key, err := a.keyForFiles(ctx, o.key, snap, p.Meta, p.Payload, names.Catalog)
		if err != nil {
			return err
		}
		sh, err := newShell(ctx, a, snap, p, key)
		if err != nil {
			return err
		}
		defer func() {
			if cerr := sh.close(); err == nil {
				err = cerr
			}
		}()
		if given {
			return sh.script(ctx, o.command)
		}
		tty, ok := a.Stdin.(*os.File)
		if ok && ui.IsTerminal(tty) && ui.IsTerminal(a.Stderr) {
			return sh.interactive(ctx, tty)
		}
		return sh.pipe(ctx, a.Stdin)
	})
}

// script runs all commands of a text, and fails if one of them does.
func (sh *shell) script(ctx context.Context, text string) error {
	sh.text(ctx, text)
	return sh.verdict(ctx)
}

// maxLine is the length of the longest line of a script, in bytes.
const maxLine = 1 << 20

func (sh *shell) pipe(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for !sh.ended && ctx.Err() == nil && lines.Scan() {
		sh.text(ctx, lines.Text())
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read commands from standard input: %w", err)
	}
	return sh.verdict(ctx)
}

// verdict is the exit code of a script, whose errors have been reported.
func (sh *shell) verdict(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if sh.failed != nil {
		return endedError(exitCode(sh.failed))
	}
	return nil
}

// interactive talks with a person. From here on an interrupt is for the command
// that runs, and no longer for the program.
func (sh *shell) interactive(ctx context.Context, tty *os.File) (err error) {
	signal.Reset(os.Interrupt)
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	t, err := prompt.Open(tty, sh.a.Stderr, func(before string) (string, []string) { return sh.complete(ctx, before) })
	if err != nil {
		return err
	}
	defer func() {
		if cerr := t.Close(); err == nil {
			err = cerr
		}
	}()
	sh.a.say("%s of %s; 'help' lists the commands", sh.parts.Name(), show(sh.snap.Name()))
	for !sh.ended {
		line, err := t.ReadLine(ctx, fmt.Sprintf("%s:%s> ", sh.parts.Name(), ui.Path(sh.cwd)))
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, prompt.ErrInterrupted):
			continue
		case err != nil:
			return err
		}
		sh.until(ctx, interrupts, line)
	}
	return context.Cause(ctx)
}

// until runs a line until an interrupt comes.
func (sh *shell) until(ctx context.Context, interrupts <-chan os.Signal, line string) {
	select { // one that came too late for the last line
	case <-interrupts:
	default:
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	watcher := make(chan struct{})
	go func() {
		defer close(watcher)
		select {
		case <-interrupts:
			cancel(ErrInterrupted)
		case <-done:
		}
	}()
	sh.text(ctx, line)
	close(done)
	<-watcher
	cancel(nil)
}
