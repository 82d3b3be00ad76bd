package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func newManCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "man",
		Short: "Print the manual page",
		Long: `Prints the manual page, which holds the help of all commands, in the form that
man and its kin format.`,
		Example: `  holdfast man | man -l -
  holdfast man > /usr/local/share/man/man1/holdfast.1`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return writeMan(a.Stdout, cmd.Root()) },
	}
}

// writeMan writes one page with a section for each command. The texts are set
// in lines by whoever wrote them and stay so.
func writeMan(w io.Writer, root *cobra.Command) error {
	var b strings.Builder
	b.WriteString(".TH HOLDFAST 1 \"\" \"\" \"Holdfast\"\n.SH NAME\n")
	b.WriteString("holdfast \\- " + roff(strings.ToLower(root.Short[:1])+root.Short[1:]))
	b.WriteString(".SH SYNOPSIS\n.B holdfast\n.I COMMAND\n[arguments and flags]\n.SH DESCRIPTION\n")
	for _, c := range allCommands(root) {
		if c != root {
			b.WriteString(".SH " + roff(strings.ToUpper(c.CommandPath())))
			b.WriteString(".B " + roff(c.UseLine()) + ".PP\n")
		}
		b.WriteString(set(c.Long))
		if own := c.NonInheritedFlags(); c != root && own.HasAvailableFlags() {
			b.WriteString(".PP\nFlags:\n.PP\n" + set(own.FlagUsages()))
		}
		b.WriteString(".PP\nExamples:\n.PP\n" + set(c.Example))
	}
	b.WriteString(".SH FLAGS OF ALL COMMANDS\n" + set(root.PersistentFlags().FlagUsages()))
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the manual page: %w", err)
	}
	return nil
}

// set is text whose lines are kept.
func set(text string) string { return ".nf\n" + roff(text) + ".fi\n" }

// roff is text in which nothing is an instruction, with a line end.
func roff(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		if line[0] == '.' || line[0] == '\'' {
			b.WriteString(`\&`)
		}
		b.WriteString(strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`).Replace(line))
	}
	return b.String()
}
