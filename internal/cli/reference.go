package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Reference writes the help pages of all commands as one page of Markdown.
func Reference(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`# Commands

All help pages, as the program prints them with --help. This page is written by
the tests; change the texts in internal/cli. What the commands print and how
they end is in [output](output.md).
`)
	for _, c := range allCommands(newRootCommand(&app{})) {
		var help strings.Builder
		c.SetOut(&help)
		if err := c.Help(); err != nil {
			return fmt.Errorf("help of %s: %w", c.CommandPath(), err)
		}
		fmt.Fprintf(&b, "\n## %s\n\n```text\n%s\n```\n", c.CommandPath(), strings.TrimSpace(help.String()))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// allCommands lists a command and those below it, in the order of the help
// pages. Groups of commands that have no text of their own stay in.
func allCommands(c *cobra.Command) []*cobra.Command {
	c.InitDefaultHelpFlag()
	all := []*cobra.Command{c}
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() && below.Name() != "help" {
			all = append(all, allCommands(below)...)
		}
	}
	return all
}
